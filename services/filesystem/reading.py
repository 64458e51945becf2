"""Reading text files by windows of lines, in bounded memory whatever the file holds. Blocks: call it in a thread."""

import os
from dataclasses import dataclass

from services.common.paths import PathError, Place, opened_file
from services.filesystem.edits import line_endings

__all__ = ["Window", "read_window"]

_CHUNK_BYTES = 1 << 20
_SNIFFED_BYTES = 8192
_COUNTED_BYTES = 256 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Window:
    """Some lines of a file.

    Args:
        text: The lines, with LF between them whatever the file has.
        first_line: Number of the first one, from 1.
        lines: How many there are.
        next_offset: The offset that continues, None at the end of the file.
        total_lines: Lines of the whole file, None when it was too long to count.
        size_bytes: Size of the file.
        line_ending: `lf`, `crlf`, `mixed` or `none`, of the lines shown.
        note: What the caller must know to use the text, "" when nothing.
    """

    text: str
    first_line: int
    lines: int
    next_offset: int | None
    total_lines: int | None
    size_bytes: int
    line_ending: str
    note: str


def read_window(place: Place, *, offset: int, limit: int, numbers: bool, budget_bytes: int) -> Window:
    """Lines `offset` (from 1) to at most `offset + limit - 1`, as many as fit into the budget.

    Raises:
        PathError: The file cannot be read, is binary, or has fewer lines.
    """
    with opened_file(place) as fd:
        size = os.fstat(fd).st_size
        if b"\0" in os.pread(fd, _SNIFFED_BYTES, 0):
            raise PathError(f"{place.shown} is binary ({size} bytes); only text can be read")
        start, passed = _find_line(fd, offset)
        if passed < offset - 1 or (start >= size and offset > 1):
            raise PathError(f"{place.shown} has {_count(fd, size)} lines; offset {offset} is behind its end")
        raw = os.pread(fd, budget_bytes + 1, start)
        if b"\0" in raw:
            raise PathError(f"{place.shown} is binary from line {offset} on; only text can be read")
        lines, used, cut = _window(raw, limit, at_end=start + len(raw) >= size)
        shown, used, fit = _rendered(lines, offset, used, numbers=numbers, budget_bytes=budget_bytes, bom=start == 0)
        end = _line_end(fd, start + used) if cut else start + used
        return Window(
            text=shown,
            first_line=offset,
            lines=fit,
            next_offset=offset + fit if end < size else None,
            total_lines=_count(fd, size) if size <= _COUNTED_BYTES else None,
            size_bytes=size,
            line_ending=line_endings(raw[:used]),
            note=_note(raw[:used], cut_line=offset if cut else None, size=end - start),
        )


def _find_line(fd: int, line: int) -> tuple[int, int]:
    """Where `line` starts, and how many lines end before that."""
    at, passed = 0, 0
    while passed < line - 1 and (chunk := os.pread(fd, _CHUNK_BYTES, at)):
        ends = chunk.count(b"\n")
        if passed + ends < line - 1:
            passed += ends
            at += len(chunk)
            continue
        inner = 0
        for _ in range(line - 1 - passed):
            inner = chunk.index(b"\n", inner) + 1
        return at + inner, line - 1
    return at, passed


def _window(raw: bytes, limit: int, *, at_end: bool) -> tuple[list[bytes], int, bool]:
    """The whole lines at the start of `raw`, their length, and whether one line had to be cut."""
    pieces = raw.split(b"\n", limit)
    rest = pieces.pop() if len(pieces) > limit or not at_end or not pieces[-1] else b""
    if not pieces and rest:
        return [rest], len(rest), True
    used = sum(len(piece) + 1 for piece in pieces)
    return pieces, min(used, len(raw)), False


def _rendered(
    lines: list[bytes], first: int, used: int, *, numbers: bool, budget_bytes: int, bom: bool
) -> tuple[str, int, int]:
    """The lines as text within the budget; with it how many bytes of the file and how many lines it shows."""
    shown: list[str] = []
    left = budget_bytes
    for number, line in enumerate(lines, start=first):
        body = line.removeprefix(_BOM) if bom and number == first else line
        text = body.removesuffix(b"\r").decode("utf-8", "backslashreplace")
        text = f"{number:>6}\t{text}" if numbers else text
        left -= len(text.encode()) + 1
        if left < 0 and shown:
            return "\n".join(shown), sum(len(line) + 1 for line in lines[: len(shown)]), len(shown)
        # A first line that does not fit was cut by the caller's read, or grew by its escapes: cut it here.
        shown.append(text if left >= 0 else text.encode()[:budget_bytes].decode("utf-8", "ignore"))
    return "\n".join(shown), used, len(shown)


def _line_end(fd: int, at: int) -> int:
    while chunk := os.pread(fd, _CHUNK_BYTES, at):
        found = chunk.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(chunk)
    return at


def _count(fd: int, size: int) -> int:
    at, ends, last = 0, 0, b"\n"
    while chunk := os.pread(fd, _CHUNK_BYTES, at):
        ends += chunk.count(b"\n")
        last = chunk[-1:]
        at += len(chunk)
    return ends + (1 if size and last != b"\n" else 0)


def _note(raw: bytes, *, cut_line: int | None, size: int) -> str:
    notes: list[str] = []
    if cut_line is not None:
        notes.append(f"line {cut_line} has {size} bytes, only its beginning is shown")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        if cut_line is None or error.start < len(raw) - 4:
            notes.append("the file is not UTF-8: bytes that are not are shown as \\xNN")
    return "; ".join(notes)
