"""Answers about code: what is defined where, and what uses it."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.paths import Place
from services.common.ripgrep_output import in_order
from services.common.targets import clip_line
from services.search.answers import Definitions, SymbolHit, Uses, UsesHit
from services.search.code import CodeSearch, Defined, Found, Used
from services.search.cursors import next_cursor, read_cursor
from services.search.engine import EngineLimits, Told, outcome_of
from services.search.rendering import head_of

__all__ = ["CodeAnswers"]

T = TypeVar("T")

_HIT_BYTES = 160
_LAYERS = ("ripgrep", "tree-sitter")


@dataclass(frozen=True)
class _Page(Generic[T]):
    items: list[tuple[Place, T]]
    cursor: str
    matched: int
    complete: bool
    unread: int


class CodeAnswers:
    """Shapes what `CodeSearch` finds.

    Args:
        code: It.
        limits: How far a search goes.
    """

    def __init__(self, code: CodeSearch, limits: EngineLimits) -> None:
        self._code = code
        self._limits = limits

    async def outline(
        self, places: Sequence[Place], name: str, kinds: Sequence[str], *, limit: int, cursor: str
    ) -> Told[Definitions]:
        """Definitions in files, in their order.

        Raises:
            PathError: A place cannot be read.
            CursorError: The cursor cannot be used.
        """
        found = [(place, await self._code.outline(place, name, kinds)) for place in places]
        question = ("symbols", _named(places), name, sorted(kinds))
        page = self._page(question, found, limit, cursor, lambda one: (one.path, one.symbol.name_line), _length)
        return self._definitions(page, ("tree-sitter",))

    async def definitions(self, places: Sequence[Place], name: str, *, limit: int, cursor: str) -> Told[Definitions]:
        """Where a name is defined.

        Raises:
            PathError: A place cannot be read.
            CursorError: The cursor cannot be used.
        """
        found = [(place, await self._code.definitions(place, name)) for place in places]
        question = ("definition", _named(places), name)
        page = self._page(question, found, limit, cursor, lambda one: (one.path, one.symbol.name_line), _length)
        return self._definitions(page, _LAYERS)

    async def references(self, places: Sequence[Place], name: str, *, limit: int, cursor: str) -> Told[Uses]:
        """What uses a name.

        Raises:
            PathError: A place cannot be read.
            CursorError: The cursor cannot be used.
        """
        found = [(place, await self._code.references(place, name)) for place in places]
        question = ("references", _named(places), name)
        page = self._page(question, found, limit, cursor, lambda one: (one.path, one.number), lambda _: 400)
        uses = tuple(
            UsesHit(
                path=place.child(one.path).shown,
                first_line=one.number,
                last_line=one.number,
                within=one.within,
                score=1.0 if one.parsed else 0.5,
            )
            for place, one in page.items
        )
        facts = Uses(
            outcome=outcome_of(page.matched, complete=page.complete),
            layers=_LAYERS,
            matched=page.matched,
            returned=len(uses),
            omitted=page.matched - len(uses),
            cursor=page.cursor,
            uses=uses,
            unread=page.unread,
        )
        lines = [f"{use.path}:{one.number}:{_line(one)}" for use, (_, one) in zip(uses, page.items, strict=True)]
        return Told(facts, "\n".join([_head("uses", facts), *lines]))

    def _page(
        self,
        question: object,
        found: Sequence[tuple[Place, Found[T]]],
        limit: int,
        cursor: str,
        where: Callable[[T], tuple[str, int]],
        length: Callable[[T], int],
    ) -> _Page[T]:
        """The part of what was found that comes after the cursor and fits."""

        def key(one: tuple[Place, T]) -> tuple[tuple[bytes, ...], int]:
            path, number = where(one[1])
            return in_order(one[0].child(path).shown), number

        items = sorted(((place, one) for place, part in found for one in part.items), key=key)
        after = read_cursor(question, cursor)
        begin = bisect_right(items, (in_order(after[0]), after[1]), key=key) if after else 0
        shown: list[tuple[Place, T]] = []
        left = self._limits.answer_bytes
        for place, one in items[begin : begin + limit]:
            left -= 2 * len(place.child(where(one)[0]).shown.encode()) + length(one) + _HIT_BYTES
            if left < 0:
                break
            shown.append((place, one))
        on = ""
        if shown and begin + len(shown) < len(items):
            path, number = where(shown[-1][1])
            on = next_cursor(question, shown[-1][0].child(path).shown, number)
        complete = all(part.complete for _, part in found)
        return _Page(shown, on, len(items), complete, sum(part.unread for _, part in found))

    def _definitions(self, page: _Page[Defined], layers: tuple[str, ...]) -> Told[Definitions]:
        symbols = tuple(
            SymbolHit(
                path=place.child(one.path).shown,
                name=one.symbol.name,
                kind=one.symbol.kind,
                container=one.symbol.container,
                first_line=one.symbol.first_line,
                last_line=one.symbol.last_line,
                score=1.0,
            )
            for place, one in page.items
        )
        facts = Definitions(
            outcome=outcome_of(page.matched, complete=page.complete),
            layers=layers,
            matched=page.matched,
            returned=len(symbols),
            omitted=page.matched - len(symbols),
            cursor=page.cursor,
            symbols=symbols,
            unread=page.unread,
        )
        lines: list[str] = []
        path = ""
        for hit, (_, one) in zip(symbols, page.items, strict=True):
            if hit.path != path:
                path = hit.path
                lines.append(path)
            lines.append(f"{one.symbol.name_line}:{clip_line(one.head.encode('utf-8', 'replace'), one.symbol.column)}")
        return Told(facts, "\n".join([_head("definitions", facts), *lines]))


def _head(what: str, facts: Definitions | Uses) -> str:
    notes = [f"{facts.unread} files with the name could not be parsed"] if facts.unread and what != "uses" else []
    return head_of(what, facts.outcome, facts.matched, facts.returned, facts.cursor, facts.layers, notes)


def _named(places: Sequence[Place]) -> list[tuple[str, str]]:
    return [(place.root.path, place.relative) for place in places]


def _length(one: Defined) -> int:
    return min(len(one.head), 400) + len(one.symbol.name) + len(one.symbol.container)


def _line(one: Used) -> str:
    return clip_line(one.text, min(one.start, len(one.text))).strip("\n")
