"""How much a root may hold. Blocks.

Counted in a file all instances share, under its lock: a change takes what it needs before it writes and gives it back
when it fails. What other programs change is noticed when the root is counted anew, once a minute at most.
"""

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.common.paths import PathError, Place, Root
from services.filesystem.own import opened_own
from services.filesystem.walking import OPEN_FOLDER, Walk, WalkLimits

__all__ = ["NO_QUOTA", "Quota", "Usage", "weight"]

_FOLDER = "usage"
_FILE = "counted.json"
_COUNTED_AGAIN_S = 60.0
_LIMITS = WalkLimits(entries=10_000_000, depth=500, within_s=120.0)


@dataclass(frozen=True)
class Usage:
    """What a root holds, the service's own folder included.

    Args:
        bytes_: Sizes of its files together.
        files: Its files and links.
        counted: When, in seconds since the epoch.
    """

    bytes_: int = 0
    files: int = 0
    counted: float = 0.0


@dataclass(frozen=True)
class Quota:
    """The most a root may hold.

    Args:
        bytes_: In bytes, 0 for no bound.
        files: In files and links, 0 for no bound.
    """

    bytes_: int = 0
    files: int = 0

    @contextmanager
    def charged(self, place: Place, *, bytes_: int = 0, files: int = 0) -> Iterator[None]:
        """Take what a change needs, for as long as it stands.

        Args:
            place: What is changed.
            bytes_: By how much it grows, or shrinks when negative.
            files: How many files and links it adds or takes.

        Raises:
            PathError: There is not so much left; nothing was changed.
        """
        if not self:
            yield
            return
        self._take(place, bytes_, files)
        try:
            yield
        except BaseException:
            with _counted(place.root) as held:
                held.set(Usage(held.usage.bytes_ - bytes_, held.usage.files - files, held.usage.counted))
            raise

    def forget(self, root: Root) -> None:
        """Have a root counted anew before its next change: something of unknown size has gone."""
        if self:
            with _counted(root) as held:
                held.set(Usage(held.usage.bytes_, held.usage.files, 0.0))

    def __bool__(self) -> bool:
        return bool(self.bytes_ or self.files)

    def _take(self, place: Place, bytes_: int, files: int) -> None:
        with _counted(place.root) as held:
            used = held.usage
            if time.time() - used.counted > _COUNTED_AGAIN_S or used.counted > time.time():
                used = _count(place.root)
            after = Usage(used.bytes_ + bytes_, used.files + files, used.counted)
            if bytes_ > 0 and self.bytes_ and after.bytes_ > self.bytes_:
                held.set(used)
                raise PathError(_refusal(place, "bytes", bytes_, used.bytes_, self.bytes_))
            if files > 0 and self.files and after.files > self.files:
                held.set(used)
                raise PathError(_refusal(place, "files", files, used.files, self.files))
            held.set(after)


NO_QUOTA = Quota()


def _refusal(place: Place, what: str, wanted: int, used: int, most: int) -> str:
    return (
        f"{place.shown} was not changed: it needs {wanted} {what} more, and {used} of the {most} {what} its root may "
        "hold are used; delete something with permanent=true, or empty the trash"
    )


@dataclass
class _Held:
    """The count, while it is locked."""

    fd: int
    usage: Usage

    def set(self, usage: Usage) -> None:
        self.usage = usage
        text = json.dumps({"bytes": usage.bytes_, "files": usage.files, "counted": usage.counted}).encode()
        os.pwrite(self.fd, text.ljust(128), 0)


@contextmanager
def _counted(root: Root) -> Iterator[_Held]:
    with opened_own(root, _FOLDER) as folder:
        fd = os.open(_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield _Held(fd, _read(fd))
        finally:
            os.close(fd)


def _read(fd: int) -> Usage:
    try:
        said = json.loads(os.pread(fd, 128, 0))
        return Usage(int(said["bytes"]), int(said["files"]), float(said["counted"]))
    except (ValueError, KeyError, TypeError):
        return Usage()


def _count(root: Root) -> Usage:
    bytes_ = files = 0
    with root.whole.opened() as top:
        fd = os.open(".", OPEN_FOLDER, dir_fd=top)
        try:
            for node in Walk(_LIMITS, own=False).over(fd):
                if not node.is_folder:
                    files += 1
                    bytes_ += _size(node.entry)
        finally:
            os.close(fd)
    return Usage(bytes_, files, time.time())


def weight(folder: int, name: str) -> tuple[int, int]:
    """Bytes and files of an entry of a folder, with all that is in it.

    Raises:
        OSError: It is not there.
    """
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        return found.st_size, 1
    fd = os.open(name, OPEN_FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        sizes = [_size(node.entry) for node in Walk(_LIMITS, own=False).over(fd) if not node.is_folder]
        return sum(sizes), len(sizes)
    finally:
        os.close(fd)


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0  # deleted since it was listed
