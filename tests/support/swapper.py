"""A process that swaps folders, files and links in a root as fast as it can: `python swapper.py ROOT OUTSIDE`.

In ROOT it lets `swap` be a folder and a link to OUTSIDE in turn, by one exchange and by two renames, and `file.txt` a
file and a link to OUTSIDE's `secret.txt`. What it puts aside lies in `.aside`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen

from services.common.paths import rename_exchange

SECRET = "the-secret-of-outside"
HARMLESS = "harmless\n"
TURNS = 200


@dataclass(frozen=True)
class Arena:
    """A root under attack.

    Args:
        root: The root.
        outside: What must neither be read nor changed.
    """

    root: Path
    outside: Path

    def refill(self) -> None:
        """Put back what tools took away, wherever the swapped folder is now; no link is followed on the way."""
        for path in ("swap", ".aside/link", ".aside/folder"):
            with suppress(OSError), _opened(self.root / path) as swap:
                _fill(swap)
                for name in ("inner", "spare"):
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=swap)
                with _opened("inner", dir_fd=swap) as inner:
                    _fill(inner)

    def leaked(self, folder: str = ".") -> list[str]:
        """Files of a folder of the root that hold the secret; of all of it only when the attack is over, as this reads
        by path."""
        found: list[str] = []
        for above, _, names in os.walk(self.root / folder):
            for name in names:
                path = Path(above, name)
                if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes():
                    found.append(str(path))
        return found

    def outside_state(self) -> dict[str, tuple[int, bytes]]:
        """Everything outside, with times of folders: what is made and removed there shows in them."""
        state: dict[str, tuple[int, bytes]] = {}
        for path in sorted([self.outside, *self.outside.rglob("*")]):
            state[str(path)] = (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        return state


def _fill(folder: int) -> None:
    for name in ("secret.txt", "other.txt"):
        with suppress(FileExistsError):
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder)
            os.write(fd, HARMLESS.encode())
            os.close(fd)


@contextmanager
def _opened(path: str | Path, dir_fd: int | None = None) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def under_attack(folder: Path) -> Iterator[Arena]:
    """A root in which a second process swaps things while the block runs."""
    root, outside = folder / "root", folder / "outside"
    for base, text in ((root / "swap", HARMLESS), (outside, f"{SECRET}\n")):
        (base / "inner").mkdir(parents=True)
        for name in ("secret.txt", "inner/secret.txt", "other.txt"):
            (base / name).write_text(text)
    (outside / f"{SECRET}.txt").write_text(SECRET)
    (root / "file.txt").write_text(HARMLESS)
    (root / "calm").mkdir()
    arena = Arena(root, outside)
    attacker = Popen([sys.executable, "-m", "tests.support.swapper", str(root), str(outside)], stdout=PIPE)
    try:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == b"attacking\n", "the attacker did not begin"
        yield arena
    finally:
        attacker.kill()
        attacker.wait()
        if attacker.stdout is not None:
            attacker.stdout.close()


def swap_for_ever(root: Path, outside: Path) -> None:
    """The attack."""
    (root / ".aside").mkdir()
    os.chdir(root)
    here = os.open(".", os.O_RDONLY)
    Path(".aside/link").symlink_to(outside)
    Path(".aside/file.txt").symlink_to(outside / "secret.txt")
    print("attacking", flush=True)
    while True:
        for _ in range(TURNS):
            for there, aside in (("swap", ".aside/link"), ("file.txt", ".aside/file.txt")):
                try:
                    rename_exchange(here, there, here, aside)
                except FileNotFoundError:
                    continue  # a tool has just moved it
        for _ in range(TURNS):
            try:
                Path("swap").rename(".aside/folder")
                Path(".aside/link").rename("swap")
                Path("swap").rename(".aside/link")
                Path(".aside/folder").rename("swap")
            except OSError:
                continue


if __name__ == "__main__":
    swap_for_ever(Path(sys.argv[1]), Path(sys.argv[2]))
