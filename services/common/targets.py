"""From a place to a folder that ripgrep can run in, and back from what it says to what may be shown."""

import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from services.common.paths import PathError, Place, explain, opened, opened_file, opened_parent
from services.common.ripgrep import Hit

__all__ = ["Target", "clip_line", "confirmed", "opened_target"]

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_TRANSCODED_BYTES = 16 << 20
_LINE_CHARS = 400
_BEFORE_CHARS = 120


@dataclass(frozen=True)
class Target:
    """Something to search, opened.

    Args:
        folder: Descriptor of the folder to run in.
        name: What to search there, starting with `./`.
        base: The place of that folder.
        real: Where the folder really is; never shown.
    """

    folder: int
    name: str
    base: Place
    real: str

    def place(self, path: str) -> Place:
        """The place of a path relative to the folder."""
        return self.base.child(path)


@asynccontextmanager
async def opened_target(place: Place) -> AsyncIterator[Target]:
    """A folder or a file to search, held open inside the block.

    Raises:
        PathError: It cannot be opened, or is neither.
    """
    with ExitStack() as held:
        yield await anyio.to_thread.run_sync(_open, held, place)


def _open(held: ExitStack, place: Place) -> Target:
    fd = held.enter_context(opened(place, os.O_PATH))
    kind = os.fstat(fd).st_mode
    if stat.S_ISDIR(kind):
        return Target(fd, "./", place, _real(fd, place))
    if not stat.S_ISREG(kind):
        raise PathError(f"{place.shown} is neither a file nor a folder")
    folder, name = held.enter_context(opened_parent(place))
    above = place.relative.rstrip("/").rpartition("/")[0]
    return Target(folder, f"./{name}", Place(place.root, above or "."), _real(folder, place))


def _real(fd: int, place: Place) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError as error:
        raise explain(error, place) from error


def confirmed(target: Target, path: str, hits: Sequence[Hit]) -> list[Hit]:
    """Those of `hits` (all of one file) whose bytes stand in that file beneath the root.

    Ripgrep opens files by their names, so a folder swapped for a link while it runs could lead it out of the root.
    What it says is therefore shown only when the same bytes are read through the path layer. Blocks.
    """
    try:
        with opened_file(target.place(path)) as fd:
            if os.pread(fd, 2, 0) in _UTF16:
                # Ripgrep searched a transcoded copy: its offsets are not the file's.
                lines = set(os.pread(fd, _TRANSCODED_BYTES, 0).decode("utf-16", "replace").encode().split(b"\n"))
                return [hit for hit in hits if hit.text.rstrip(b"\n") in lines]
            return [hit for hit in hits if os.pread(fd, len(hit.text), hit.offset) == hit.text]
    except PathError:
        return []


def clip_line(line: bytes, start: int | None) -> str:
    """A line as text; of a long one the part around its first match, with `…` where it was cut."""
    body = line.rstrip(b"\r\n")
    before = body[: start or 0].decode("utf-8", "backslashreplace")
    text = body.decode("utf-8", "backslashreplace")
    if len(text) <= _LINE_CHARS:
        return text
    first = max(0, len(before) - _BEFORE_CHARS)
    shown = text[first : first + _LINE_CHARS]
    return f"{'…' if first else ''}{shown}{'…' if first + _LINE_CHARS < len(text) else ''}"
