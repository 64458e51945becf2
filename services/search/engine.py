"""Lines and names: what ripgrep answers, what is kept of it, what is counted."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, Literal, TypeVar

import anyio.to_thread
from pydantic import BaseModel

from services.common.paths import PathError, Place, Roots, printable
from services.common.ripgrep import Grep, Ripgrep
from services.common.ripgrep_output import After, Hit, Hits, in_order
from services.common.targets import Target, clip_line, confirmed, opened_target
from services.search.answers import FileLines, Files, Line, Matches, Outcome
from services.search.cursors import next_cursor, read_cursor
from services.search.names import NameHit, rank_names
from services.search.rendering import Shown, head_of, numbered
from services.search.repeats import Repeats

__all__ = ["Engine", "EngineLimits", "Mode", "Told", "name_of", "outcome_of", "searchable"]

A = TypeVar("A", bound=BaseModel)
Mode = Literal["lines", "files", "counts"]

_LINE_BYTES = 30  # of a line without its text: its number in the content, its facts in JSON
_FILE_BYTES = 60
_NAMES_BYTES = 45


@dataclass(frozen=True)
class Told(Generic[A]):
    """An answer.

    Args:
        facts: What is known.
        text: What stands in the files, and a line on how much of it this is.
    """

    facts: A
    text: str


@dataclass(frozen=True)
class EngineLimits:
    """How far a search goes.

    Args:
        search_s: The longest a search runs; what was found until then is returned.
        fresh_s: The longest a ranked search waits for its index to catch up with the files.
        answer_bytes: The most text of an answer.
    """

    search_s: float = 20.0
    fresh_s: float = 0.5
    answer_bytes: int = 64 << 10


class Engine:
    """Searches places with ripgrep.

    Args:
        ripgrep: The program.
        limits: How far a search goes.
        repeats: Answers questions that were answered before.
    """

    def __init__(self, ripgrep: Ripgrep, limits: EngineLimits, repeats: Repeats | None = None) -> None:
        self.ripgrep = ripgrep
        self._limits = limits
        self._repeats = repeats or Repeats(())

    async def grep(
        self, place: Place, wanted: Grep, *, limit: int, mode: Mode = "lines", cursor: str = ""
    ) -> Told[Matches]:
        """Lines that match, or the files they are in, or how often they match in each.

        Args:
            place: Where to search.
            wanted: What to look for.
            limit: The most matching lines, or files, of an answer.
            mode: What to answer with.
            cursor: Of the answer before.

        Raises:
            PathError: The place cannot be searched.
            BadPattern: The pattern or a glob cannot be used.
            CursorError: The cursor cannot be used.
        """
        question = ("grep", place.root.path, place.relative, wanted, mode)
        after = read_cursor(question, cursor)
        async with opened_target(place) as target:
            return await self._repeats.answer(
                target.real,
                (question, limit, after),
                lambda: self._grep(target, wanted, limit, mode, after, question),
                lambda told: told.facts.outcome != "timed out, partial",
            )

    async def _grep(
        self, target: Target, wanted: Grep, limit: int, mode: Mode, after: After | None, question: object
    ) -> Told[Matches]:
        if mode != "lines":
            return await self._counted(target, wanted, mode, limit, after, question)
        hits = await self.ripgrep.grep(
            target.folder, target.name, wanted, keep=limit, deadline_s=self._limits.search_s, after=after
        )
        files, blocks, last = await anyio.to_thread.run_sync(self._shown, target, hits)
        returned = sum(file.matches for file in files)
        on = next_cursor(question, *last) if last and hits.after > returned else ""
        facts = Matches(
            outcome=outcome_of(hits.matched, complete=hits.complete),
            layers=("ripgrep",),
            matched=hits.matched,
            returned=returned,
            omitted=hits.matched - returned,
            cursor=on,
            files_matched=hits.files,
            files=tuple(files),
            problems=hits.problems,
        )
        return Told(facts, _text_of(facts, f"lines in {hits.files} files", blocks))

    async def files(
        self,
        place: Place,
        query: str,
        mode: Literal["fuzzy", "glob"],
        *,
        limit: int,
        cursor: str = "",
        hidden: bool = False,
        ignored: bool = False,
    ) -> Told[Files]:
        """Files whose names fit.

        Raises:
            PathError: The place cannot be searched.
            BadPattern: The glob cannot be used.
            CursorError: The cursor cannot be used.
        """
        question = ("files", place.root.path, place.relative, query, mode, hidden, ignored)
        begin = (read_cursor(question, cursor) or ("", 0))[1]
        globs = (query,) if mode == "glob" else ()
        async with opened_target(place) as target:
            paths, complete = await self.ripgrep.files(
                target.folder, globs=globs, hidden=hidden, ignored=ignored, deadline_s=self._limits.search_s
            )
        if mode == "fuzzy":
            found = await anyio.to_thread.run_sync(rank_names, query, paths)
        else:
            found = [NameHit(path, 100.0) for path in sorted(paths)]
        named = [NameHit(name_of(target, hit.path), hit.score) for hit in found[begin : begin + limit]]
        shown = named[: _fitting([hit.path for hit in named], self._limits.answer_bytes, _NAMES_BYTES)]
        end = begin + len(shown)
        facts = Files(
            outcome=outcome_of(len(found), complete=complete),
            layers=("ripgrep", "rapidfuzz") if mode == "fuzzy" else ("ripgrep",),
            matched=len(found),
            returned=len(shown),
            omitted=len(found) - len(shown),
            cursor=next_cursor(question, "", end) if shown and end < len(found) else "",
            files=tuple(shown),
        )
        head = head_of("files", facts.outcome, facts.matched, facts.returned, facts.cursor, facts.layers)
        return Told(facts, head)

    async def _counted(
        self,
        target: Target,
        wanted: Grep,
        mode: Mode,
        limit: int,
        after: tuple[str, int] | None,
        question: object,
    ) -> Told[Matches]:
        found = await self.ripgrep.count(
            target.folder, target.name, wanted, deadline_s=self._limits.search_s, files_only=mode == "files"
        )
        paths = list(found.files)
        begin = bisect_right(paths, in_order(after[0]), key=in_order) if after else 0
        page = paths[begin : begin + limit]
        page = page[: _fitting(page, self._limits.answer_bytes, _FILE_BYTES)]
        matched, returned = sum(found.files.values()), sum(found.files[path] for path in page)
        more = begin + len(page) < len(paths)
        facts = Matches(
            outcome=outcome_of(matched, complete=found.complete),
            layers=("ripgrep",),
            matched=matched,
            returned=returned,
            omitted=matched - returned,
            cursor=next_cursor(question, page[-1], 0) if page and more else "",
            files_matched=len(paths),
            files=tuple(FileLines(path=name_of(target, path), matches=found.files[path]) for path in page),
            problems=found.problems,
        )
        what = "files" if mode == "files" else f"occurrences in {len(paths)} files"
        return Told(facts, _text_of(facts, what, []))

    def _shown(self, target: Target, hits: Hits) -> tuple[list[FileLines], list[str], tuple[str, int] | None]:
        """What goes into the answer, up to its budget: the facts, the text, and where it ends."""
        files: list[FileLines] = []
        blocks: list[str] = []
        last: tuple[str, int] | None = None
        left = self._limits.answer_bytes
        for path, found in groupby(hits.lines, key=lambda hit: hit.path):
            name = name_of(target, path)
            left -= 2 * len(name.encode()) + _FILE_BYTES
            lines, text, left = _within(confirmed(target, path, list(found)), left)
            if any(line.match for line in lines):
                matches = sum(line.match for line in lines)
                files.append(FileLines(path=name, matches=matches, lines=tuple(lines)))
                blocks.append(f"{name}\n{numbered(text)}")
                last = path, max(line.number for line in lines if line.match)
            if left < 0:
                break
        return files, blocks, last


def _within(hits: Sequence[Hit], left: int) -> tuple[list[Line], list[Shown], int]:
    lines: list[Line] = []
    text: list[Shown] = []
    for hit in hits:
        body = clip_line(hit.text, hit.start)
        left -= len(body.encode()) + _LINE_BYTES
        if left < 0:
            break
        more = body.count("\n")
        lines.append(
            Line(number=hit.number, match=hit.start is not None, last_number=hit.number + more if more else None)
        )
        text.append((hit.number, body, hit.start is not None))
    return lines, text, left


def _fitting(paths: Sequence[str], budget: int, each: int) -> int:
    """How many paths fit into an answer."""
    for number, path in enumerate(paths):
        budget -= len(path.encode("utf-8", "backslashreplace")) + each
        if budget < 0:
            return number
    return len(paths)


def _text_of(facts: Matches, what: str, blocks: Sequence[str]) -> str:
    notes = [f"not searched: {problem}" for problem in facts.problems[:3]]
    head = head_of(what, facts.outcome, facts.matched, facts.returned, facts.cursor, facts.layers, notes)
    return "\n\n".join([head, *blocks])


def outcome_of(matched: int, *, complete: bool) -> Outcome:
    """Which of the three answers it is."""
    if not complete:
        return "timed out, partial"
    return "complete" if matched else "no match"


def name_of(target: Target, path: str) -> str:
    """A path relative to a target, as callers see it."""
    return printable(target.place(path).root.shown(target.place(path).relative))


def searchable(roots: Roots, path: str | None) -> list[Place]:
    """The place `path` names, or without one every root.

    Raises:
        PathError: The path is not within the roots, or there is none.
    """
    if not roots:
        raise PathError("there is no root you may use; ask the operator for one")
    return [Place(root, ".") for root in roots] if path is None else [roots.locate(path)]
