"""What ripgrep says, as values. Pure."""

import base64
import json
import os
from bisect import insort
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

__all__ = ["After", "Collector", "Counts", "Hit", "Hits", "counted", "in_order", "listed"]

_EVENT_BYTES = 8 << 20
_HEAD_BYTES = 32
_TEXT_BYTES = 16 << 10
_BEFORE_BYTES = 1 << 10


@dataclass(frozen=True)
class Hit:
    """A line ripgrep showed; with `multiline` perhaps several.

    Args:
        path: The file, relative to the folder searched.
        number: The line, from 1.
        text: The line's bytes, its end included; of a very long one the part around its first match.
        offset: Where `text` starts in the file.
        start: Where the first match starts in `text`; None for a line of context.
        columns: Where each match starts in the line.
    """

    path: str
    number: int
    text: bytes
    offset: int
    start: int | None
    columns: tuple[int, ...] = ()


After = tuple[str, int]
"""The place after which to go on: a path, and the number of a line that was shown."""


def in_order(path: str) -> tuple[bytes, ...]:
    """What files are sorted by: as ripgrep's `--sort=path` has them, folder by folder."""
    return tuple(os.fsencode(path).split(b"/"))


@dataclass
class Counts:
    """How often a pattern matches in which files.

    Args:
        files: Path to number, sorted by path; with `files_only` the number is 1.
        complete: False when the deadline came first.
        problems: What could not be looked at, in ripgrep's words.
    """

    files: dict[str, int]
    complete: bool = True
    problems: tuple[str, ...] = ()


@dataclass
class Hits:
    """What one run found.

    Args:
        lines: The lines kept, sorted by path and number.
        matched: Lines that match, the ones not kept included; with `multiline` matches.
        after: Those of them that come after the place where it was to go on.
        files: Files with a match.
        complete: False when the deadline came first.
        problems: What could not be looked at, in ripgrep's words.
    """

    lines: list[Hit]
    matched: int = 0
    after: int = 0
    files: int = 0
    complete: bool = True
    problems: tuple[str, ...] = ()


def listed(output: bytes) -> dict[str, int]:
    """Paths of `--files-with-matches --null`."""
    return {os.fsdecode(name).removeprefix("./"): 1 for name in output.split(b"\0")[:-1]}


def counted(output: bytes) -> dict[str, int]:
    """Paths and numbers of `--count-matches --null`."""
    found: dict[str, int] = {}
    for line in output.split(b"\n")[:-1]:
        name, _, number = line.rpartition(b"\0")
        found[os.fsdecode(name).removeprefix("./")] = int(number)
    return found


@dataclass(frozen=True, order=True)
class _Block:
    """The lines kept of one file."""

    key: tuple[bytes, ...]
    lines: tuple[Hit, ...] = field(compare=False)
    matches: int = field(compare=False)


class _Of(Enum):
    """Where the file that is read now belongs."""

    BEFORE = auto()
    PAGE = auto()
    BEYOND = auto()


class Collector:
    """Takes ripgrep's JSON lines as they come, of one file after the other but of files in any order.

    Keeps the first matches by path and line, and counts the rest: sorting is not left to ripgrep, which would then
    work on one processor alone.
    """

    def __init__(self, keep: int, after: After | None) -> None:
        self.summed_up = False
        self._keep = keep
        self._after = (in_order(after[0]), after[1]) if after else None
        self._found = Hits([])
        self._blocks: list[_Block] = []
        self._kept = 0
        self._key: tuple[bytes, ...] = ()
        self._least_line = 0
        self._lines: list[Hit] = []
        self._matches = 0
        self._state = _Of.BEFORE
        self._rest = bytearray()
        self._too_long = False

    def take(self, chunk: bytes) -> None:
        """The next bytes."""
        first, *others = chunk.split(b"\n")
        self._grow(first)
        if not others:
            return
        event = bytes(self._rest)
        self._event(_shortened(event) if self._too_long else event, event[:_HEAD_BYTES])
        for event in others[:-1]:
            self._event(event, event[:_HEAD_BYTES])
        self._rest, self._too_long = bytearray(others[-1]), False

    def hits(self) -> Hits:
        """What was found; also of a file that it was in the middle of."""
        self._close()
        left = self._keep
        for block in self._blocks:
            for line in block.lines:
                left -= line.start is not None
                if left < 0:
                    return self._found
                self._found.lines.append(line)
        return self._found

    def _grow(self, more: bytes) -> None:
        if not self._too_long:
            self._rest += more
        if len(self._rest) > _EVENT_BYTES:
            del self._rest[_EVENT_BYTES:]
            self._too_long = True

    def _event(self, event: bytes, head: bytes) -> None:
        if head.startswith(b'{"type":"match"'):
            self._match(event)
        elif head.startswith(b'{"type":"context"'):
            if self._state is _Of.PAGE and event and self._matches <= self._keep:
                self._take_line(event)
        elif head.startswith(b'{"type":"begin"'):
            self._begin(event)
        elif head.startswith(b'{"type":"end"'):
            self._found.files += 1
            self._close()
        elif b'"type":"summary"' in event:
            self.summed_up = True

    def _begin(self, event: bytes) -> None:
        self._key = in_order(_path(json.loads(event)["data"]))
        self._least_line = 0
        self._state = _Of.PAGE
        if self._after and self._key <= self._after[0]:
            self._state = _Of.PAGE if self._key == self._after[0] else _Of.BEFORE
            self._least_line = self._after[1]
        elif self._kept >= self._keep and self._blocks and self._key > self._blocks[-1].key:
            self._state = _Of.BEYOND

    def _match(self, event: bytes) -> None:
        self._found.matched += 1
        if self._state is _Of.BEFORE:
            return
        if self._state is _Of.BEYOND or self._matches > self._keep:
            self._found.after += 1
            return
        if not event:
            self._found.after += 1
        elif self._take_line(event):
            self._matches += 1
            self._found.after += 1

    def _take_line(self, event: bytes) -> bool:
        hit = _hit(event)
        if hit.number <= self._least_line:
            return False
        self._lines.append(hit)
        return True

    def _close(self) -> None:
        if self._lines:
            insort(self._blocks, _Block(self._key, tuple(self._lines), self._matches))
            self._kept += self._matches
            while self._kept - self._blocks[-1].matches >= self._keep and len(self._blocks) > 1:
                self._kept -= self._blocks.pop().matches
        self._lines, self._matches, self._state = [], 0, _Of.BEFORE


def _shortened(event: bytes) -> bytes:
    """An event too long to be read whole, with the matches that fit; empty where the text alone is too long."""
    at = event.rfind(b',{"match":')  # cannot stand in a text, where quotes are escaped
    return event[:at] + b"]}}" if b'"submatches":[' in event[: max(0, at)] else b""


def _path(data: dict[str, Any]) -> str:
    return os.fsdecode(_bytes(data["path"])).removeprefix("./")


def _hit(event: bytes) -> Hit:
    data = json.loads(event)["data"]
    columns = tuple(found["start"] for found in data["submatches"])
    text = _bytes(data["lines"])
    start = columns[0] if columns else None
    cut = 0
    if len(text) > _TEXT_BYTES:
        cut = max(0, (start or 0) - _BEFORE_BYTES)
        text = text[cut : cut + _TEXT_BYTES]
    return Hit(
        path=_path(data),
        number=data["line_number"],
        text=text,
        offset=data["absolute_offset"] + cut,
        start=None if start is None else start - cut,
        columns=columns,
    )


def _bytes(value: dict[str, str]) -> bytes:
    """Ripgrep's way to put any bytes into JSON."""
    return value["text"].encode() if "text" in value else base64.b64decode(value["bytes"])
