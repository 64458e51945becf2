"""Ranked answers: which layers are asked, what is still true, what is shown."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import PurePosixPath

import anyio.to_thread

from services.common.paths import PathError, Place, opened_file
from services.common.ripgrep import Grep, Ripgrep
from services.common.targets import Target, clip_line, confirmed, opened_target
from services.search.answers import Passages, TextHit
from services.search.cursors import next_cursor, read_cursor
from services.search.engine import EngineLimits, Told, name_of, outcome_of
from services.search.indexer import Indexer
from services.search.meaning import Meaning
from services.search.ranking import Signals, fused, is_symbol, ranked
from services.search.rendering import head_of
from services.search.snippets import Passage, passage
from services.search.textindex import Chunk, Query, Weights
from services.search.words import defined_names, divide, query_words

__all__ = ["RankedSearch"]

_CANDIDATES = 2000  # matching lines that are looked at while there is no index
_LOOKED_AT = 100  # chunks that are ranked anew
_MEANT = 50  # chunks whose meaning is looked at
_FILE_BYTES = 1 << 20
_TEXT_CHARS = 2000  # of a chunk, for its meaning: more than the model reads
_RELATED_WORDS = 40
_HIT_BYTES = 150


@dataclass(frozen=True)
class _Hit:
    """A passage, before it is known whether there is room for it."""

    path: str
    shown: Passage
    score: float
    part: tuple[int, int]


@dataclass(frozen=True)
class _Part:
    """What one layer says about one place; `matched` counts also what is not among the hits."""

    layers: tuple[str, ...]
    hits: list[_Hit]
    matched: int
    complete: bool
    notes: tuple[str, ...] = ()


class RankedSearch:
    """Answers questions with passages.

    Args:
        ripgrep: Answers while there is no index.
        indexers: The index of each root.
        limits: How far a search goes.
        signals: What changes a score.
        weights: How much a word counts by where it stands.
        meaning: The layer of embeddings, None without.
    """

    def __init__(
        self,
        ripgrep: Ripgrep,
        indexers: Sequence[Indexer],
        limits: EngineLimits,
        signals: Signals | None = None,
        weights: Weights | None = None,
        meaning: Meaning | None = None,
    ) -> None:
        self.indexers = tuple(indexers)
        self.meaning = meaning
        self._ripgrep = ripgrep
        self._limits = limits
        self._signals = signals or Signals()
        self._weights = weights or Weights()

    async def text(
        self, places: Sequence[Place], query: str, *, limit: int, snippet_lines: int = 8, cursor: str = ""
    ) -> Told[Passages]:
        """Passages that answer a question, best first.

        Raises:
            PathError: A place cannot be searched.
            CursorError: The cursor cannot be used.
        """
        question = ("text", [(place.root.path, place.relative) for place in places], query, snippet_lines)
        begin = (read_cursor(question, cursor) or ("", 0))[1]
        words = query_words(query)
        found = [await self._answer(place, query, words, begin + limit, snippet_lines) for place in places]
        return self._told(question, found, begin, limit)

    async def related(
        self, place: Place, line: int, among: Sequence[Place], *, limit: int, snippet_lines: int = 8, cursor: str = ""
    ) -> Told[Passages]:
        """Passages like the one at a line of a file, best first.

        Args:
            place: The file.
            line: A line of it, from 1.
            among: Where to look.
            limit: The most passages.
            snippet_lines: The most lines of each.
            cursor: Of the answer before.

        Raises:
            PathError: A place cannot be read.
            CursorError: The cursor cannot be used.
        """
        question = ("related", place.root.path, place.relative, line, snippet_lines)
        begin = (read_cursor(question, cursor) or ("", 0))[1]
        text, first, last = await anyio.to_thread.run_sync(_passage_at, place, line)
        words = query_words(text)[:_RELATED_WORDS]
        wanted = " ".join(words)
        found = [await self._answer(part, wanted, words, begin + limit + 1, snippet_lines, text) for part in among]
        here = place.root.shown(place.relative)
        kept = [
            _Part(
                part.layers,
                [hit for hit in part.hits if hit.path != here or not first <= hit.shown.first_line <= last],
                max(0, part.matched - 1),
                part.complete,
                part.notes,
            )
            for part in found
        ]
        return self._told(question, kept, begin, limit)

    async def _answer(
        self, place: Place, query: str, words: Sequence[str], wanted: int, lines: int, meant: str = ""
    ) -> _Part:
        async with opened_target(place) as target:
            indexed = await self._indexed(target, query, words, wanted, lines, meant or query)
            if indexed is not None:
                return indexed
            return await self._counted(target, words, lines)

    async def _indexed(
        self, target: Target, query: str, words: Sequence[str], wanted: int, lines: int, meant: str
    ) -> _Part | None:
        """From the index; None when there is none for this place."""
        for indexer in self.indexers:
            within = _within(target, indexer)
            if within is None:
                continue
            fresh = await indexer.fresh(self._limits.fresh_s)
            if not indexer.ready:
                continue
            chunks, total = await indexer.search(
                Query.of(query, words, within, self._weights), limit=max(wanted * 2, _LOOKED_AT)
            )
            read = await anyio.to_thread.run_sync(_still_true, indexer, chunks)
            order = ranked(query, [chunk for chunk in chunks if _place(chunk) in read], self._signals)
            layers: tuple[str, ...] = ("index",)
            if self.meaning is not None and not is_symbol(query):
                order, used = await self._by_meaning(self.meaning, meant, order, read)
                layers = ("index", "embeddings") if used else layers
            hits = [
                _Hit(
                    name_of(target, str(PurePosixPath(indexer.root.real, chunk.path).relative_to(target.real))),
                    passage(read[_place(chunk)], chunk.first_line, words, lines),
                    chunk.score,
                    (chunk.first_line, chunk.last_line),
                )
                for chunk in order[:wanted]
            ]
            behind = 0 if fresh else max(indexer.to_do, 1)
            notes = (f"the index is behind by about {behind} files",) if behind else ()
            return _Part(layers, hits, max(total - (len(chunks) - len(order)), len(hits)), complete=True, notes=notes)
        return None

    async def _by_meaning(
        self, meaning: Meaning, query: str, order: list[Chunk], read: dict[tuple[str, int], str]
    ) -> tuple[list[Chunk], bool]:
        """The order with the meaning of the first chunks in it, and whether that of most of them was known."""
        first = order[:_MEANT]
        texts = [_meant(chunk, read[_place(chunk)]) for chunk in first]
        likeness = await meaning.likeness(query, texts)
        meaning.offer([text for text, value in zip(texts, likeness, strict=True) if value is None])
        known = {_place(chunk): value for chunk, value in zip(first, likeness, strict=True) if value is not None}
        if 2 * len(known) < len(first):
            return order, False
        return [*fused(first, known, self._signals), *order[_MEANT:]], True

    async def _counted(self, target: Target, words: Sequence[str], lines: int) -> _Part:
        """From ripgrep: lines by the different words they hold, rare words above common ones."""
        notes = ("the index is being built",)
        if not words:
            return _Part(("ripgrep",), [], 0, complete=True, notes=notes)
        wanted = Grep(tuple(words), literal=True, case="insensitive")
        found = await self._ripgrep.grep(
            target.folder, target.name, wanted, keep=_CANDIDATES, deadline_s=self._limits.search_s
        )
        kept = await anyio.to_thread.run_sync(
            lambda: [
                (path, confirmed(target, path, list(of_file)))
                for path, of_file in groupby(found.lines, key=lambda hit: hit.path)
            ]
        )
        held = [set(words).intersection(query_words(clip_line(hit.text, hit.start))) for _, of in kept for hit in of]
        rare = {word: 1 / (1 + sum(word in some for some in held)) for word in words}
        hits: list[_Hit] = []
        for (path, hit), some in zip(((path, hit) for path, of in kept for hit in of), held, strict=True):
            shown = Passage(hit.number, hit.number, clip_line(hit.text, hit.start) if lines else "")
            score = len(some) + sum(rare[word] for word in some)
            hits.append(_Hit(name_of(target, path), shown, score, (hit.number, hit.number)))
        return _Part(("ripgrep",), hits, found.matched, complete=found.complete, notes=notes)

    def _told(self, question: object, found: Sequence[_Part], begin: int, limit: int) -> Told[Passages]:
        everything = list(chain.from_iterable(part.hits for part in found))
        hits = sorted(everything, key=lambda hit: (-hit.score, hit.path, hit.shown.first_line))
        page = self._within_budget(hits[begin : begin + limit])
        matched = sum(part.matched for part in found)
        end = begin + len(page)
        facts = Passages(
            outcome=outcome_of(matched, complete=all(part.complete for part in found)),
            layers=tuple(dict.fromkeys(chain.from_iterable(part.layers for part in found))),
            matched=matched,
            returned=len(page),
            omitted=max(0, matched - len(page)),
            cursor=next_cursor(question, "", end)
            if page and end < matched and (end < len(hits) or len(hits) >= begin + limit)
            else "",
            hits=tuple(_fact(hit) for hit in page),
        )
        notes = tuple(dict.fromkeys(chain.from_iterable(part.notes for part in found)))
        head = head_of("passages", facts.outcome, matched, len(page), facts.cursor, facts.layers, notes)
        blocks = [f"{hit.path}:{hit.shown.first_line}-{hit.shown.last_line}\n{hit.shown.text}".rstrip() for hit in page]
        return Told(facts, "\n\n".join([head, *blocks]))

    def _within_budget(self, hits: Sequence[_Hit]) -> list[_Hit]:
        shown: list[_Hit] = []
        left = self._limits.answer_bytes
        for hit in hits:
            left -= len(hit.shown.text.encode("utf-8", "replace")) + 2 * len(hit.path.encode()) + _HIT_BYTES
            if left < 0:
                break
            shown.append(hit)
        return shown


def _fact(hit: _Hit) -> TextHit:
    return TextHit(
        path=hit.path,
        first_line=hit.shown.first_line,
        last_line=hit.shown.last_line,
        part_first_line=hit.part[0],
        part_last_line=hit.part[1],
        score=round(hit.score, 3),
    )


def _place(chunk: Chunk) -> tuple[str, int]:
    return chunk.path, chunk.first_line


def _meant(chunk: Chunk, text: str) -> str:
    """A chunk as the model reads it: where it is, then what it says."""
    return f"{PurePosixPath(chunk.path).stem} {text[:_TEXT_CHARS]}"


def _still_true(indexer: Indexer, chunks: Sequence[Chunk]) -> dict[tuple[str, int], str]:
    """The text of those chunks whose file is still what was indexed, read through the path layer."""
    by_file: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_file.setdefault(chunk.path, []).append(chunk)
    found: dict[tuple[str, int], str] = {}
    for path, of_file in by_file.items():
        try:
            with opened_file(Place(indexer.root, path)) as fd:
                stat = os.fstat(fd)
                if (stat.st_mtime_ns, stat.st_size) != of_file[0].stamp:
                    continue
                lines = os.pread(fd, _FILE_BYTES, 0).decode("utf-8", "replace").split("\n")
        except PathError:
            continue
        for chunk in of_file:
            found[_place(chunk)] = "\n".join(lines[chunk.first_line - 1 : chunk.last_line])
    return found


def _passage_at(place: Place, line: int) -> tuple[str, int, int]:
    """The part of a file that holds a line, and its first and last line."""
    with opened_file(place) as fd:
        text = os.pread(fd, _FILE_BYTES, 0).decode("utf-8", "replace")
    lines = text.split("\n")
    if line > len(lines):
        raise PathError(f"{place.shown} has {len(lines)} lines; line {line} is not among them")
    starts = [text.count("\n", 0, start) for start, _ in defined_names(text, place.relative)]
    first, last = next((part for part in divide(lines, starts) if part[0] < line <= part[1]), (0, len(lines)))
    return "\n".join(lines[first:last]), first + 1, last


def _within(target: Target, indexer: Indexer) -> str | None:
    """The target's path in the indexer's root, "" for the root itself, None outside."""
    inside = PurePosixPath(target.real, target.name)
    if not inside.is_relative_to(indexer.root.real):
        return None
    relative = str(inside.relative_to(indexer.root.real))
    return "" if relative == "." else relative
