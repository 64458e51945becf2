"""From what the words say of chunks to an order. Pure. Every number has its reason in docs/decisions/0031."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.search.textindex import Chunk
from services.search.words import identifiers, words_of

__all__ = ["Signals", "fused", "is_symbol", "ranked"]

_SYMBOL = re.compile(r"[A-Za-z_$][\w$]*(?:(?:\.|::|#|->)[A-Za-z_$][\w$]*)*(?:\(\))?")
_TESTS = re.compile(
    r"(?:^|/)(?:tests?|testing|__tests__|spec)/|(?:^|/)(?:test_[^/]*|[^/]*_test|[^/]*\.(?:test|spec)|conftest)\.\w+$"
)
_VENDORED = re.compile(r"(?:^|/)_?(?:vendor(?:ed)?|third[-_]party|node_modules|external|extern|site-packages)/")
_GENERATED = re.compile(
    r"_pb2(?:_grpc)?\.pyi?$|\.pb\.go$|\.min\.(?:js|css)$|(?:^|/)generated/|\.generated\.|-lock\.\w+$|\.lock$|\.map$"
)
_EXAMPLES = re.compile(r"(?:^|/)(?:examples?|docs?|samples?|benchmarks?|compat|legacy)/")
_ASKS_FOR_TESTS = re.compile(r"\btests?\b|\bspecs?\b", re.I)


@dataclass(frozen=True)
class Signals:
    """How much a signal changes a score.

    Args:
        defines: A chunk that defines the name that is asked for, or an identifier of several words in a sentence.
        tests: A test, unless the question is about tests.
        vendored: Code of others that is kept in the tree.
        generated: Code that no person wrote.
        examples: Examples, documents, layers of compatibility.
        meaning: The part of embeddings, for questions in words.
        rank: The constant of reciprocal rank fusion.
    """

    defines: float = 1.5
    tests: float = 0.6
    vendored: float = 0.7
    generated: float = 0.5
    examples: float = 0.85
    meaning: float = 0.5
    rank: float = 20.0


def is_symbol(query: str) -> bool:
    """Whether a question is the name of something, not a sentence."""
    return _SYMBOL.fullmatch(query.strip()) is not None


def ranked(query: str, chunks: Sequence[Chunk], signals: Signals) -> list[Chunk]:
    """Chunks, best first, by their words and by what their places say."""
    # A sentence's plain words are also names of functions, and say little as such.
    names = (
        {name.strip("()") for name in re.split(r"[\s.#:]+|->", query)}
        if is_symbol(query)
        else set(identifiers(words_of(query)))
    )
    tests = _ASKS_FOR_TESTS.search(query) is not None
    weighed = [
        replace(chunk, score=chunk.score * _weight(chunk, names, tests=tests, signals=signals)) for chunk in chunks
    ]
    return sorted(weighed, key=_order)


def _order(chunk: Chunk) -> tuple[float, str, int]:
    return -chunk.score, chunk.path, chunk.first_line


def _weight(chunk: Chunk, names: set[str], *, tests: bool, signals: Signals) -> float:
    weight = 1.0
    if not names.isdisjoint(chunk.names.split()):
        weight *= signals.defines
    if not tests and _TESTS.search(chunk.path):
        weight *= signals.tests
    if _VENDORED.search(chunk.path):
        weight *= signals.vendored
    if _GENERATED.search(chunk.path):
        weight *= signals.generated
    if _EXAMPLES.search(chunk.path):
        weight *= signals.examples
    return weight


def fused(order: Sequence[Chunk], likeness: Mapping[tuple[str, int], float], signals: Signals) -> list[Chunk]:
    """An order by words and one by meaning, by the ranks in both; those without a vector keep their rank in words.

    Args:
        order: Best first.
        likeness: How like the question chunks are, by path and first line.
        signals: The weights.
    """
    by_meaning = sorted(likeness, key=lambda place: -likeness[place])
    meant = {place: number for number, place in enumerate(by_meaning)}
    scored: list[tuple[float, int, Chunk]] = []
    for number, chunk in enumerate(order):
        place = (chunk.path, chunk.first_line)
        words = 1 / (signals.rank + number)
        meaning = 1 / (signals.rank + meant.get(place, number))
        scored.append(((1 - signals.meaning) * words + signals.meaning * meaning, number, chunk))
    scored.sort(key=lambda one: (-one[0], one[1]))
    # Scores stay in the order that is shown, and in the measure of the words'.
    values = sorted((chunk.score for chunk in order), reverse=True)
    return [replace(chunk, score=value) for (_, _, chunk), value in zip(scored, values, strict=True)]
