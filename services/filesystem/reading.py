"""Reading text files by windows of lines, in bounded memory whatever the file holds. Blocks: call it in a thread."""

import hashlib
import os
from dataclasses import dataclass
from typing import Protocol

from services.common.paths import PathError, Place, opened_file
from services.filesystem.edits import EditError, as_utf8, line_endings
from services.filesystem.encodings import UTF8, Encoding, encoding_of

__all__ = ["BinaryFile", "Window", "read_tail", "read_window"]

_CHUNK_BYTES = 1 << 20
_SNIFFED_BYTES = 8192
_COUNTED_BYTES = 256 << 20
_TRANSCODED_BYTES = 16 << 20
_BOM = b"\xef\xbb\xbf"


class BinaryFile(PathError):
    """The file holds no text."""


@dataclass(frozen=True)
class Window:
    """Some lines of a file.

    Args:
        text: The lines, with LF between them whatever the file has.
        first_line: Number of the first one, from 1; None when the file was too long to count.
        lines: How many there are.
        next_offset: The offset that continues, None at the end of the file.
        total_lines: Lines of the whole file, None when it was too long to count.
        size_bytes: Size of the file.
        line_ending: `lf`, `crlf`, `mixed` or `none`, of the lines shown.
        note: What the caller must know to use the text, "" when nothing.
        encoding: How the file is encoded.
        sha256: Of the whole file, when all of it was read; else None.
    """

    text: str
    first_line: int | None
    lines: int
    next_offset: int | None
    total_lines: int | None
    size_bytes: int
    line_ending: str
    note: str
    encoding: str = UTF8
    sha256: str | None = None


class _Source(Protocol):
    """Bytes that can be read at any place."""

    @property
    def size(self) -> int: ...

    def read(self, count: int, at: int) -> bytes: ...


@dataclass(frozen=True)
class _File:
    fd: int
    size: int

    def read(self, count: int, at: int) -> bytes:
        return os.pread(self.fd, count, at)


@dataclass(frozen=True)
class _Memory:
    content: bytes
    size: int

    def read(self, count: int, at: int) -> bytes:
        return self.content[at : at + count]


def read_window(
    place: Place, *, offset: int, limit: int, numbers: bool, budget_bytes: int, encoding: str | None = None
) -> Window:
    """Lines `offset` (from 1) to at most `offset + limit - 1`, as many as fit into the budget.

    Raises:
        PathError: The file cannot be read, is binary, or has fewer lines.
        EncodingError: `encoding` cannot be used.
    """
    with opened_file(place) as fd:
        source, named = _source(fd, place, encoding)
        start, passed = _find_line(source, offset)
        if passed < offset - 1 or (start >= source.size and offset > 1):
            raise PathError(f"{place.shown} has {_count(source)} lines; offset {offset} is behind its end")
        return _shown(place, fd, source, named, start, offset, limit, numbers=numbers, budget_bytes=budget_bytes)


def read_tail(place: Place, *, lines: int, numbers: bool, budget_bytes: int, encoding: str | None = None) -> Window:
    """The last `lines` lines, as many as fit into the budget; of a very long file without their numbers.

    Raises:
        PathError: The file cannot be read, or is binary.
        EncodingError: `encoding` cannot be used.
    """
    with opened_file(place) as fd:
        source, named = _source(fd, place, encoding)
        start = _tail_start(source, lines, budget_bytes // 2 if numbers else budget_bytes)
        first = _count_until(source, start) + 1 if source.size <= _COUNTED_BYTES else None
        return _shown(place, fd, source, named, start, first, lines, numbers=numbers, budget_bytes=budget_bytes)


def _source(fd: int, place: Place, named: str | None) -> tuple[_Source, Encoding]:
    size = os.fstat(fd).st_size
    head = os.pread(fd, _SNIFFED_BYTES, 0)
    encoding = encoding_of(head, named)
    if encoding.name == UTF8:
        if b"\0" in head:
            raise BinaryFile(f"{place.shown} is binary ({size} bytes); only text can be read")
        return _File(fd, size), encoding
    if size > _TRANSCODED_BYTES:
        raise PathError(
            f"{place.shown} is {encoding.name} and larger than {_TRANSCODED_BYTES >> 20} MiB; read its bytes"
        )
    content = bytearray()
    while len(content) < size and (chunk := os.pread(fd, _CHUNK_BYTES, len(content))):
        content += chunk
    try:
        text = as_utf8(bytes(content), encoding)
    except EditError:
        if named is not None:
            raise PathError(f"{place.shown} is not {encoding.name}; leave encoding out to see its bytes") from None
        raise BinaryFile(f"{place.shown} is binary ({size} bytes); only text can be read") from None
    return _Memory(text, len(text)), encoding


def _shown(
    place: Place,
    fd: int,
    source: _Source,
    encoding: Encoding,
    start: int,
    first: int | None,
    limit: int,
    *,
    numbers: bool,
    budget_bytes: int,
) -> Window:
    raw = source.read(budget_bytes + 1, start)
    if b"\0" in raw:
        where = "" if first in (None, 1) else f" from line {first} on"
        raise BinaryFile(f"{place.shown} is binary{where}; only text can be read")
    lines, used, cut = _window(raw, limit, at_end=start + len(raw) >= source.size)
    shown, used, fit = _rendered(
        lines, first or 1, used, numbers=numbers and first is not None, budget_bytes=budget_bytes, bom=start == 0
    )
    end = _line_end(source, start + used) if cut else start + used
    more = end < source.size
    whole = start == 0 and not more and not cut
    size = os.fstat(fd).st_size
    return Window(
        text=shown,
        first_line=first,
        lines=fit,
        next_offset=first + fit if more and first is not None else None,
        total_lines=_total(source, first, fit, more=more),
        size_bytes=size,
        line_ending=line_endings(raw[:used]),
        note=_note(raw[:used], cut_line=first or 0 if cut else None, size=end - start, at=start, named=encoding.name),
        encoding=encoding.name,
        sha256=hashlib.sha256(os.pread(fd, size + 1, 0)).hexdigest() if whole else None,
    )


def _total(source: _Source, first: int | None, fit: int, *, more: bool) -> int | None:
    if first is not None and not more:
        return first + fit - 1
    return _count(source) if source.size <= _COUNTED_BYTES else None


def _find_line(source: _Source, line: int) -> tuple[int, int]:
    """Where `line` starts, and how many lines end before that."""
    at, passed = 0, 0
    while passed < line - 1 and (chunk := source.read(_CHUNK_BYTES, at)):
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


def _tail_start(source: _Source, lines: int, budget_bytes: int) -> int:
    """Where the last lines start that fit into the budget; within a line only when the last alone does not fit."""
    lowest = max(0, source.size - budget_bytes)
    raw = source.read(budget_bytes, lowest)
    at = len(raw) - 1 if raw.endswith(b"\n") else len(raw)
    start = 0
    for _ in range(lines):
        found = raw.rfind(b"\n", 0, at)
        if found < 0:
            return lowest + start if lowest else 0
        start, at = found + 1, found
    return lowest + start


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


def _line_end(source: _Source, at: int) -> int:
    while chunk := source.read(_CHUNK_BYTES, at):
        found = chunk.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(chunk)
    return at


def _count(source: _Source) -> int:
    ends = _count_until(source, source.size)
    return ends + (1 if source.size and source.read(1, source.size - 1) != b"\n" else 0)


def _count_until(source: _Source, end: int) -> int:
    at, ends = 0, 0
    while at < end and (chunk := source.read(min(_CHUNK_BYTES, end - at), at)):
        ends += chunk.count(b"\n")
        at += len(chunk)
    return ends


def _note(raw: bytes, *, cut_line: int | None, size: int, at: int, named: str) -> str:
    notes: list[str] = []
    if cut_line is not None:
        name = f"line {cut_line}" if cut_line else "the line"
        notes.append(
            f"{name} has {size} bytes, only its beginning is shown; filesystem_read_bytes from {at} has the rest"
        )
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        if cut_line is None or error.start < len(raw) - 4:
            notes.append("the file is not UTF-8: bytes that are not are shown as \\xNN; name its encoding to read them")
    if named != UTF8:
        notes.append(f"the file is {named}")
    return "; ".join(notes)
