"""Definitions, references and outlines: ripgrep finds the files, tree-sitter says what stands there.

Nothing is kept between calls but what was read out of a file, under its time of change and size: an answer is as fresh
as the files.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

import anyio.to_thread

from services.common.paths import PathError, Place, opened_file
from services.common.ripgrep import Grep, Hit, Ripgrep, in_order
from services.common.targets import Target, opened_target
from services.search.symbols import Source, Symbol, Unreadable, language_of

__all__ = ["CodeSearch", "Defined", "Found", "Used"]

T = TypeVar("T")

_FILE_BYTES = 1 << 20
_KEPT_FILES = 4096
_LINES = 20_000  # lines with a name in them that are looked at
_SEPARATORS = ("::", ".", "#", "->", "\\")


@dataclass(frozen=True)
class Defined:
    """A definition in a file.

    Args:
        path: Relative to the target.
        symbol: What is defined.
        head: The line of its name.
    """

    path: str
    symbol: Symbol
    head: str


@dataclass(frozen=True)
class Used:
    """A line in which a name is used.

    Args:
        path: Relative to the target.
        number: The line.
        text: Its bytes.
        start: Where the name stands in it.
        within: The definition around it, "" for none.
        parsed: Whether a grammar said that it is code; False where there is none for the file.
    """

    path: str
    number: int
    text: bytes
    start: int
    within: str
    parsed: bool


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a question found.

    Args:
        items: All of it, sorted by path and line.
        complete: False when the deadline or a bound came first.
        unread: Files with the name in them that no grammar here can read, or that are too large.
    """

    items: list[T]
    complete: bool
    unread: int = 0


@dataclass(frozen=True)
class _Read:
    symbols: tuple[Symbol, ...]
    heads: tuple[str, ...]


class CodeSearch:
    """Looks into code.

    Args:
        ripgrep: Finds the files.
        search_s: The longest a question takes; what was found until then is returned.
    """

    def __init__(self, ripgrep: Ripgrep, *, search_s: float) -> None:
        self._ripgrep = ripgrep
        self._search_s = search_s
        self._kept: OrderedDict[tuple[str, str, int, int], _Read] = OrderedDict()
        self._lock = Lock()

    async def outline(self, place: Place, name: str, kinds: Sequence[str]) -> Found[Defined]:
        """Definitions of a file, or of all files of a folder that a grammar can read.

        Args:
            place: The file or folder.
            name: Only names that hold this text, in any case; "" for all.
            kinds: Only these kinds; none for all.

        Raises:
            PathError: The place cannot be read.
            RipgrepError: Ripgrep did not run.
        """
        until = time.monotonic() + self._search_s
        async with opened_target(place) as target:
            paths, listed = [target.name.removeprefix("./")], True
            if target.name == "./":
                paths, listed = await self._ripgrep.files(target.folder, deadline_s=self._search_s)
                paths = [path for path in paths if language_of(path)]
            found = await anyio.to_thread.run_sync(self._defined, target, paths, until)
        wanted = name.casefold()
        items = [
            one
            for one in found.items
            if wanted in one.symbol.name.casefold() and (not kinds or one.symbol.kind in kinds)
        ]
        return Found(items, found.complete and listed, found.unread)

    async def definitions(self, place: Place, name: str) -> Found[Defined]:
        """Where a name is defined.

        Args:
            place: Where to look.
            name: The name; `Outer.name` and `outer::name` want it inside of another.

        Raises:
            PathError: The place cannot be read.
            RipgrepError: Ripgrep did not run.
        """
        until = time.monotonic() + self._search_s
        outer, last = _parts(name)
        async with opened_target(place) as target:
            named = await self._ripgrep.count(
                target.folder, target.name, _word(last), deadline_s=self._search_s, files_only=True
            )
            found = await anyio.to_thread.run_sync(self._defined, target, list(named.files), until)
        items = [one for one in found.items if one.symbol.name == last and _inside(one.symbol.container, outer)]
        return Found(items, found.complete and named.complete, found.unread)

    async def references(self, place: Place, name: str) -> Found[Used]:
        """Where a name is used in code: neither defined there, nor in a comment or a string.

        In a file that no grammar here can read, every line with the name counts, and is marked.

        Raises:
            PathError: The place cannot be read.
            RipgrepError: Ripgrep did not run.
        """
        until = time.monotonic() + self._search_s
        _, last = _parts(name)
        async with opened_target(place) as target:
            hits = await self._ripgrep.grep(
                target.folder, target.name, _word(last), keep=_LINES, deadline_s=self._search_s
            )
            found = await anyio.to_thread.run_sync(self._used, target, hits.lines, last, until)
        return Found(found.items, found.complete and hits.complete and hits.matched <= _LINES, found.unread)

    def _defined(self, target: Target, paths: Sequence[str], until: float) -> Found[Defined]:
        items: list[Defined] = []
        unread = 0
        for path in sorted(paths, key=in_order):
            if time.monotonic() > until:
                return Found(items, complete=False, unread=unread)
            read = self._read(target, path)
            if read is None:
                unread += 1
                continue
            items += [Defined(path, symbol, head) for symbol, head in zip(read.symbols, read.heads, strict=True)]
        return Found(items, complete=True, unread=unread)

    def _read(self, target: Target, path: str) -> _Read | None:
        """What a file defines; None where no grammar can say."""
        language = language_of(path)
        try:
            with opened_file(target.place(path)) as fd:
                stat = os.fstat(fd)
                if language is None or stat.st_size > _FILE_BYTES:
                    return None
                key = (target.real, path, stat.st_mtime_ns, stat.st_size)
                with self._lock:
                    if key in self._kept:
                        self._kept.move_to_end(key)
                        return self._kept[key]
                content = os.pread(fd, _FILE_BYTES, 0)
        except PathError:
            return None
        try:
            symbols = Source(content, language).symbols()
        except Unreadable:
            return None
        lines = content.split(b"\n")
        heads = tuple(
            lines[symbol.name_line - 1].decode("utf-8", "backslashreplace").rstrip("\r") for symbol in symbols
        )
        return self._keep(key, _Read(tuple(symbols), heads))

    def _keep(self, key: tuple[str, str, int, int], read: _Read) -> _Read:
        with self._lock:
            self._kept[key] = read
            while len(self._kept) > _KEPT_FILES:
                self._kept.popitem(last=False)
        return read

    def _used(self, target: Target, hits: Sequence[Hit], name: str, until: float) -> Found[Used]:
        items: list[Used] = []
        unread = 0
        for path, lines in _by_file(hits):
            if time.monotonic() > until:
                return Found(items, complete=False, unread=unread)
            content = _content(target, path)
            if content is None:
                continue
            language = language_of(path)
            unread += language is None
            items += _uses(path, content, language, lines, name)
        return Found(items, complete=True, unread=unread)


def _word(name: str) -> Grep:
    return Grep((name,), literal=True, case="sensitive", word=True)


def _parts(name: str) -> tuple[tuple[str, ...], str]:
    """The names around, and the name itself."""
    for separator in _SEPARATORS:
        name = name.replace(separator, "\0")
    *outer, last = [part for part in name.split("\0") if part.strip()] or [name]
    return tuple(part.strip() for part in outer), last.strip()


def _inside(container: str, outer: Sequence[str]) -> bool:
    names = container.split(".") if container else []
    return not outer or names[-len(outer) :] == list(outer)


def _by_file(hits: Iterable[Hit]) -> Iterator[tuple[str, list[Hit]]]:
    grouped: dict[str, list[Hit]] = {}
    for hit in hits:
        grouped.setdefault(hit.path, []).append(hit)
    yield from grouped.items()


def _content(target: Target, path: str) -> bytes | None:
    try:
        with opened_file(target.place(path)) as fd:
            return os.pread(fd, _FILE_BYTES, 0)
    except PathError:
        return None


def _uses(path: str, content: bytes, language: str | None, hits: Sequence[Hit], name: str) -> Iterator[Used]:
    source, symbols = _source(content, language)
    text = content.split(b"\n")
    wanted = name.encode()
    named = {(symbol.name_line, symbol.column) for symbol in symbols if symbol.name == name}
    for hit in hits:
        line = text[hit.number - 1] if hit.number <= len(text) else b""
        for column in hit.columns:
            if not line.startswith(wanted, column):  # it changed meanwhile, or was read outside of the root
                continue
            if source and ((hit.number, column) in named or not source.is_code(hit.number, column)):
                continue
            yield Used(path, hit.number, hit.text, column, _around(symbols, hit.number), source is not None)
            break


def _source(content: bytes, language: str | None) -> tuple[Source | None, list[Symbol]]:
    """A text with what it defines, as far as a grammar can say."""
    if language is None:
        return None, []
    try:
        source = Source(content, language)
        return source, source.symbols()
    except Unreadable:
        return None, []


def _around(symbols: Sequence[Symbol], line: int) -> str:
    inner = [one for one in symbols if one.first_line <= line <= one.last_line]
    if not inner:
        return ""
    last = max(inner, key=lambda one: one.first_line)
    return f"{last.container}.{last.name}" if last.container else last.name
