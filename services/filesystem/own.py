"""The service's own folder at the top of a root: what is deleted, being written or counted. Blocks.

Invariants: it is opened name by name without following links; nothing in it is reached by a caller's path; an entry
that a living process works with is locked, so that what is not locked was left behind by a dead one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from services.common.paths import PathError, Place, Root

__all__ = ["FOLDER", "if_there", "is_own", "lock_if_free", "names_in", "opened_own", "refuse_own", "within_whole"]

FOLDER = ".tekup-files"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def within_whole(place: Place) -> str:
    """The path of `place` in the root of the settings it lies in, by its text."""
    inner = os.path.relpath(place.root.real, place.root.whole.real)
    return os.path.normpath(f"{inner}/{place.relative}")


def is_own(place: Place) -> bool:
    """Whether a path names the service's own folder, or something in it."""
    return within_whole(place).split("/", 1)[0] == FOLDER


@contextmanager
def opened_own(root: Root, name: str) -> Iterator[int]:
    """The folder `name` of the service's own in `root`, made when it is missing.

    Raises:
        OSError: It cannot be made or opened.
    """
    with ExitStack() as held:
        fd = held.enter_context(root.whole.opened())
        for part in (FOLDER, name):
            fd = _made(fd, part)
            held.callback(os.close, fd)
        yield fd


@contextmanager
def if_there(root: Root, name: str) -> Iterator[int | None]:
    """As `opened_own`, but None where it is missing; makes nothing."""
    with ExitStack() as held:
        fd = held.enter_context(root.whole.opened())
        for part in (FOLDER, name):
            try:
                fd = os.open(part, _OPEN, dir_fd=fd)
            except FileNotFoundError:
                yield None
                return
            held.callback(os.close, fd)
        yield fd


def names_in(folder: int) -> list[str]:
    """Sorted names in an own folder."""
    return sorted(os.listdir(folder))


def _made(folder: int, name: str) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=folder)
    except FileNotFoundError:
        pass
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    fd = os.open(name, _OPEN, dir_fd=folder)
    if name == FOLDER:
        _unseen_by_git(fd)
    return fd


def _unseen_by_git(folder: int) -> None:
    with suppress(FileExistsError):
        fd = os.open(".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        with os.fdopen(fd, "wb") as file:
            file.write(b"*\n")


def lock_if_free(fd: int) -> bool:
    """Lock an entry; False when a living process works with it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_own(place: Place) -> None:
    """Refuse a caller's path into the service's own folder.

    Raises:
        PathError: It is one.
    """
    if is_own(place):
        raise PathError(f"{place.shown} is this service's own; see filesystem_list_trash for what was deleted")
