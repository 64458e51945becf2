"""Small file habits that everything here shares: atomic writes, private files, locks, repository folders."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

PRIVATE = 0o600


def repository() -> Path:
    """The folder that holds `compose/`, `observability/` and the other packages: a checkout, or where a wheel went."""
    return Path(__file__).resolve().parents[2]


def carried(*names: str) -> Path:
    """Where a file lies that may be in no package: in a checkout at its root, from a wheel among what it carries.

    Args:
        names: its path from the root of a checkout, `"consul", "agent.json"`.
    """
    inside = Path(__file__).resolve().parents[1].joinpath("carried", *names)  # hatch_build.py puts it there
    return inside if inside.exists() else repository().joinpath(*names)


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content so that a reader sees the old or the new text, never a part.

    Args:
        path: the file; its folder must exist.
        text: the new content.
        mode: permission bits, set before the content is visible.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on a file while the block runs; yields whether it was obtained.

    The kernel gives the lock back when the process ends, however it ends. The file stays: removing it
    would let a third process lock a new file of the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield True
    finally:
        os.close(descriptor)


def lock_holder(path: Path) -> str:
    """The pid written into a lock file by its last holder, as text, or "unknown"."""
    try:
        return path.read_text(encoding="ascii").strip() or "unknown"
    except OSError:
        return "unknown"
