"""The search itself: which layer answers, what is kept, what is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import PurePosixPath
from typing import Literal

import anyio.to_thread

from services.common.paths import PathError, Place, Roots, printable
from services.common.ripgrep import Grep, Hit, Hits, Ripgrep
from services.common.targets import Target, clip_line, confirmed, opened_target
from services.search.answers import FileLines, Files, Line, Matches, Outcome, Passages, TextHit
from services.search.indexer import Indexer
from services.search.names import NameHit, rank_names
from services.search.snippets import Passage, passage
from services.search.textindex import query_words

__all__ = ["Engine", "EngineLimits", "searchable"]

_LINE_BYTES = 40  # of a line without its text, in JSON
_CANDIDATES = 2000  # matching lines that are looked at while there is no index


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


@dataclass(frozen=True)
class _Ranked:
    """What one layer says about one place; `matched` counts also what is not among the hits."""

    layer: str
    hits: list[TextHit]
    matched: int
    complete: bool


class Engine:
    """Searches places.

    Args:
        ripgrep: The program.
        indexers: The index of each root.
        limits: How far a search goes.
    """

    def __init__(self, ripgrep: Ripgrep, indexers: Sequence[Indexer], limits: EngineLimits) -> None:
        self.ripgrep = ripgrep
        self.indexers = tuple(indexers)
        self._limits = limits

    async def grep(self, place: Place, wanted: Grep, *, limit: int) -> Matches:
        """Lines that match.

        Raises:
            PathError: The place cannot be searched.
            BadPattern: The pattern or a glob cannot be used.
        """
        async with opened_target(place) as target:
            hits = await self.ripgrep.grep(
                target.folder, target.name, wanted, keep=limit, deadline_s=self._limits.search_s
            )
            files = await anyio.to_thread.run_sync(self._shown, target, hits)
        returned = sum(line.match for file in files for line in file.lines)
        return Matches(
            outcome=_outcome(hits.matched, complete=hits.complete),
            matched=hits.matched,
            returned=returned,
            omitted=hits.matched - returned,
            files_matched=hits.files,
            files=tuple(files),
            problems=hits.problems,
        )

    async def files(self, place: Place, query: str, mode: Literal["fuzzy", "glob"], *, limit: int) -> Files:
        """Files whose names fit.

        Raises:
            PathError: The place cannot be searched.
            BadPattern: The glob cannot be used.
        """
        globs = (query,) if mode == "glob" else ()
        async with opened_target(place) as target:
            paths, complete = await self.ripgrep.files(target.folder, globs=globs, deadline_s=self._limits.search_s)
        if mode == "fuzzy":
            found = await anyio.to_thread.run_sync(rank_names, query, paths)
        else:
            found = [NameHit(path, 100.0) for path in sorted(paths)]
        shown = tuple(NameHit(_name(target, hit.path), hit.score) for hit in found[:limit])
        return Files(
            outcome=_outcome(len(found), complete=complete),
            matched=len(found),
            returned=len(shown),
            omitted=len(found) - len(shown),
            files=shown,
        )

    async def text(self, places: Sequence[Place], query: str, *, limit: int) -> Passages:
        """Passages that hold words of the query, best first.

        Raises:
            PathError: A place cannot be searched.
        """
        words = query_words(query)
        found: list[_Ranked] = []
        for place in places:
            async with opened_target(place) as target:
                found.append(await self._indexed(target, words, limit) or await self._counted(target, words))
        hits = sorted(chain(*(part.hits for part in found)), key=lambda hit: (-hit.score, hit.path, hit.first_line))
        shown = self._within_budget(hits[:limit])
        matched = sum(part.matched for part in found)
        return Passages(
            outcome=_outcome(matched, complete=all(part.complete for part in found)),
            layers=tuple(dict.fromkeys(part.layer for part in found)),
            matched=matched,
            returned=len(shown),
            omitted=matched - len(shown),
            hits=tuple(shown),
        )

    async def _indexed(self, target: Target, words: Sequence[str], limit: int) -> "_Ranked | None":
        """From the index; None when there is none for this place."""
        for indexer in self.indexers:
            within = _within(target, indexer)
            if within is None or not await indexer.fresh(self._limits.fresh_s):
                continue
            chunks, total = await indexer.search(words, within=within, limit=limit)
            hits: list[TextHit] = []
            for chunk in chunks:
                shown = passage(chunk.text, chunk.first_line, words)
                path = str(PurePosixPath(indexer.root.real, chunk.path).relative_to(target.real))
                hits.append(_text_hit(_name(target, path), shown, chunk.score))
            return _Ranked("index", hits, total, complete=True)
        return None

    async def _counted(self, target: Target, words: Sequence[str]) -> "_Ranked":
        """From ripgrep: lines by how many different words they hold."""
        if not words:
            return _Ranked("ripgrep", [], 0, complete=True)
        wanted = Grep(tuple(words), literal=True, case="insensitive")
        found = await self.ripgrep.grep(
            target.folder, target.name, wanted, keep=_CANDIDATES, deadline_s=self._limits.search_s
        )
        hits: list[TextHit] = []
        for path, lines in await anyio.to_thread.run_sync(self._confirmed, target, found):
            for line in lines:
                text = clip_line(line.text, line.start)
                score = len(set(words).intersection(query_words(text)))
                hits.append(_text_hit(_name(target, path), Passage(line.number, line.number, text), score))
        return _Ranked("ripgrep", hits, found.matched, complete=found.complete)

    def _confirmed(self, target: Target, hits: Hits) -> list[tuple[str, list[Hit]]]:
        by_file = groupby(hits.lines, key=lambda hit: hit.path)
        return [(path, confirmed(target, path, list(lines))) for path, lines in by_file]

    def _shown(self, target: Target, hits: Hits) -> list[FileLines]:
        """What goes into the answer, up to its budget."""
        files: list[FileLines] = []
        left = self._limits.answer_bytes
        for path, found in self._confirmed(target, hits):
            lines: list[Line] = []
            name = _name(target, path)
            left -= len(name.encode()) + _LINE_BYTES
            for hit in found:
                text = clip_line(hit.text, hit.start)
                left -= len(text.encode()) + _LINE_BYTES
                if left < 0:
                    break
                lines.append(Line(number=hit.number, text=text, match=hit.start is not None))
            if lines:
                files.append(FileLines(path=name, lines=tuple(lines)))
        return files

    def _within_budget(self, hits: Sequence[TextHit]) -> list[TextHit]:
        shown: list[TextHit] = []
        left = self._limits.answer_bytes
        for hit in hits:
            left -= len(hit.text.encode()) + len(hit.path.encode()) + 2 * _LINE_BYTES
            if left < 0:
                break
            shown.append(hit)
        return shown


def _outcome(matched: int, *, complete: bool) -> Outcome:
    if not complete:
        return "timed out, partial"
    return "complete" if matched else "no match"


def _name(target: Target, path: str) -> str:
    return printable(target.place(path).root.shown(target.place(path).relative))


def _text_hit(path: str, shown: Passage, score: float) -> TextHit:
    return TextHit(
        path=path,
        first_line=shown.first_line,
        last_line=shown.last_line,
        text=shown.text,
        score=round(score, 3),
    )


def _within(target: Target, indexer: Indexer) -> str | None:
    """The target's path in the indexer's root, "" for the root itself, None outside."""
    inside = PurePosixPath(target.real, target.name)
    if not inside.is_relative_to(indexer.root.real):
        return None
    relative = str(inside.relative_to(indexer.root.real))
    return "" if relative == "." else relative


def searchable(roots: Roots, path: str | None) -> list[Place]:
    """The place `path` names, or without one every root.

    Raises:
        PathError: The path is not within the roots, or there is none.
    """
    if not roots:
        raise PathError("there is no root you may use; ask the operator for one")
    return [Place(root, ".") for root in roots] if path is None else [roots.locate(path)]
