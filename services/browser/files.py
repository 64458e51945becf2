"""The files of a page: what it downloaded and what was saved from it, in a folder of its own, and what may be uploaded.

Everything is opened through the path layer. Callers see the folder as `/page`; what else may be uploaded lies in the
folders of `MCP_BROWSER_ROOTS`, narrowed to those of the caller's grant. Blocks: call it in a thread.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.paths import PathError, Root, Roots, opened, opened_file

__all__ = ["FOLDER", "PageFiles", "Saved", "Upload"]

FOLDER: Final = "/page"
_UPLOAD_BYTES = 20 << 20  # in memory, here and in the page
_NAME_CHARS = 100
_FILES = 200
_STRANGE = re.compile(r"[^\w.()+@=,-]+")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Saved:
    """A file of a page.

    Args:
        path: As callers say it.
        size_bytes: Its size.
    """

    path: str
    size_bytes: int


@dataclass(frozen=True)
class Upload:
    """A file as it is given to a page."""

    name: str
    data: bytes


class PageFiles:
    """One page's files.

    Args:
        folder: Made when it is first needed, removed by `remove`.
        most_bytes: The most all of them may hold.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def root(self) -> Root:
        """The page's folder as a root."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Root(FOLDER, os.path.realpath(self._folder))

    def listed(self) -> list[Saved]:
        """What there is, by name."""
        if not self._folder.exists():
            return []
        found = [(entry.name, entry.stat(follow_symlinks=False).st_size) for entry in os.scandir(self._folder)]
        return [Saved(f"{FOLDER}/{name}", size) for name, size in sorted(found)]

    def save(self, name: str, source: bytes | Path) -> Saved:
        """Put a file there under a name made harmless; one that is taken gets a number.

        Raises:
            PathError: There is no room, or it cannot be written.
        """
        there = self.listed()
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if len(there) >= _FILES or sum(one.size_bytes for one in there) + size > self._most_bytes:
            raise PathError(
                f"{clean_name(name)} ({size} bytes) was not kept: a page may have {_FILES} files of "
                f"{self._most_bytes >> 20} MiB together; close it and open another"
            )
        chosen = _free_name(clean_name(name), {one.path.rpartition("/")[2] for one in there})
        place = Roots([self.root()]).locate(f"{FOLDER}/{chosen}")
        with opened(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600) as fd:
            _fill(fd, source)
        return Saved(f"{FOLDER}/{chosen}", size)

    def read(self, path: str, offset: int, at_most: int) -> tuple[bytes, int]:
        """A part of a file of the page, and the size of the whole.

        Raises:
            PathError: It cannot be read.
        """
        with opened_file(Roots([self.root()]).locate(path)) as fd:
            return os.pread(fd, at_most, offset), os.fstat(fd).st_size

    def uploads(self, paths: list[str], others: Roots) -> list[Upload]:
        """Files for a page, from its own folder or from `others`.

        Raises:
            PathError: One of them cannot be read, or they are too large.
        """
        roots = Roots([self.root(), *others])
        found: list[Upload] = []
        left = _UPLOAD_BYTES
        for path in paths:
            place = roots.locate(path if path.startswith("/") else f"{FOLDER}/{path}")
            with opened_file(place) as fd, os.fdopen(os.dup(fd), "rb") as file:
                data = file.read(left + 1)
            left -= len(data)
            if left < 0:
                raise PathError(f"{place.shown}: more than {_UPLOAD_BYTES >> 20} MiB cannot be uploaded at once")
            found.append(Upload(os.path.basename(place.relative), data))  # noqa: PTH119  # a name, not a path
        return found

    def remove(self) -> None:
        """All of them."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _fill(fd: int, source: bytes | Path) -> None:
    with os.fdopen(os.dup(fd), "wb") as out:
        if isinstance(source, bytes):
            out.write(source)
            return
        with source.open("rb") as incoming:
            shutil.copyfileobj(incoming, out, _CHUNK)


def clean_name(name: str) -> str:
    """A file name that is one everywhere: no folder, no control characters, not hidden, not too long."""
    base = _STRANGE.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip("._")
    stem, dot, ending = base.rpartition(".")
    ending = f".{ending[:20]}" if dot else ""
    return f"{(stem if dot else base)[: _NAME_CHARS - len(ending)]}{ending}" or "file"


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, f".{ending}") if dot else (name, "")
    return next(made for number in range(2, _FILES + 3) if (made := f"{stem}-{number}{ending}") not in taken)
