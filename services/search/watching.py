"""What changes beneath a folder, told by the kernel (inotify(7)).

`caught_up` makes it exact: a file is made in a folder that is watched along, and the kernel tells changes in their
order, so that all which happened before is known once that file is. Where nothing can be watched (a file system
without inotify, too few watches) `works` is False, and its user compares files instead.

Not by a library: those at hand have themselves told of every opening of a file too, so that one search through a large
tree overflows the kernel's queue, and pass over in silence that it has.
"""

import asyncio
import ctypes
import functools
import logging
import os
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio.to_thread

__all__ = ["Watch"]

logger = logging.getLogger(__name__)

_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _OVERFLOW, _IGNORED, _IS_FOLDER = 0x400, 0x800, 0x4000, 0x8000, 0x40000000
_DONT_FOLLOW, _ONLY_FOLDERS = 0x2000000, 0x1000000
_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")
_READ_BYTES = 1 << 20
_MANY = 2000


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(function: Callable[..., int], *arguments: object) -> int:
    found = function(*arguments)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


class Watch:
    """Watches one folder.

    Args:
        folder: Its real path.

    Attributes:
        works: Whether changes are told.
        changed: Paths relative to the folder that changed since `take`.
        too_many: More changed than were kept, or something that concerns many files.
        told: How many changes there were.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.works = False
        self.changed: set[str] = set()
        self.too_many = True
        self.told = 0
        self._touched = 0
        self._seen = 0
        self._news = asyncio.Event()
        self._cookies = Path()
        self._fd = -1
        self._folders: dict[int, str | None] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watches while the block lasts."""
        self._cookies = Path(tempfile.mkdtemp(prefix="tekup-search-watch-"))
        try:
            await self._begin()
            yield
        finally:
            self._end()
            shutil.rmtree(self._cookies, ignore_errors=True)

    async def caught_up(self, within_s: float) -> bool:
        """Whether all changes up to now are known.

        Args:
            within_s: The longest to wait for that.
        """
        if not self.works:
            return False
        self._touched += 1
        wanted = self._touched
        cookie = self._cookies / str(wanted)
        try:
            cookie.touch()
            cookie.unlink()
        except OSError:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._seen < wanted and self.works:
                    self._news.clear()
                    await self._news.wait()
        return self._seen >= wanted

    def take(self) -> tuple[set[str], bool]:
        """What changed, and whether it is more than can be told; begins anew."""
        taken = self.changed, self.too_many
        self.changed, self.too_many = set(), False
        return taken

    async def _begin(self) -> None:
        try:
            self._fd = _checked(_libc().inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)
            self._folders[self._add(str(self._cookies))] = None
            await anyio.to_thread.run_sync(self._add_all, "")
        except OSError as error:
            logger.warning("index.unwatched", extra={"root": self._folder, "error": str(error)})
            self._end()
            return
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        self.works = self.too_many = True

    def _end(self) -> None:
        self.works = False
        self._news.set()
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _add(self, path: str) -> int:
        flags = _WANTED | _DONT_FOLLOW | _ONLY_FOLDERS
        return _checked(_libc().inotify_add_watch, self._fd, os.fsencode(path), flags)

    def _add_all(self, below: str) -> None:
        """Watch a folder and those beneath it; what is gone meanwhile is passed over.

        Raises:
            OSError: There are no more watches.
        """
        top = f"{self._folder}/{below}" if below else self._folder
        for folder, names, _ in os.walk(top):
            names[:] = [name for name in names if name != ".git"]
            try:
                watch = self._add(folder)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            self._folders[watch] = os.path.relpath(folder, self._folder).removeprefix(".").lstrip("/")

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while self._fd >= 0:
                for watch, mask, name in _events(os.read(self._fd, _READ_BYTES)):
                    self._note(watch, mask, name)
        self._news.set()

    def _note(self, watch: int, mask: int, name: str) -> None:
        if mask & _OVERFLOW:
            self.told += 1
            self.too_many = True
        elif mask & _IGNORED:
            self._folders.pop(watch, None)
        elif watch not in self._folders:
            return
        elif (folder := self._folders[watch]) is None:
            self._seen = max(self._seen, int(name) if name.isdigit() else 0)
        elif name != ".git":
            self._changed(f"{folder}/{name}" if folder and name else folder or name, mask)

    def _changed(self, path: str, mask: int) -> None:
        self.told += 1
        if mask & _IS_FOLDER and mask & (_CREATE | _MOVED_TO):
            # What came into it before it was watched is not told.
            self.too_many = True
            try:
                self._add_all(path)
            except OSError as error:
                logger.warning("index.unwatched", extra={"root": self._folder, "error": str(error)})
                self._end()
        elif len(self.changed) >= _MANY:
            self.too_many = True
        elif path:
            self.changed.add(path)


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    """The watch, the mask and the name of each event."""
    at = 0
    while at < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, at)
        name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
        at += _EVENT.size + length
        yield watch, mask, os.fsdecode(name)
