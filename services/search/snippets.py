"""Cutting passages to what is worth sending. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.targets import clip_line
from services.search.textindex import query_words

__all__ = ["Passage", "passage"]

_PASSAGE_LINES = 8


@dataclass(frozen=True)
class Passage:
    """Some lines of a file.

    Args:
        first_line: Number of the first.
        last_line: Number of the last.
        text: The lines.
    """

    first_line: int
    last_line: int
    text: str


def passage(text: str, first_line: int, words: Sequence[str]) -> Passage:
    """The few lines of `text` that hold most of `words`."""
    lines = text.split("\n")
    wanted = set(words)
    found = [wanted.intersection(_folded(line)) for line in lines]
    size = min(_PASSAGE_LINES, len(lines))
    starts = range(len(lines) - size + 1)
    best = max(starts, key=lambda start: (*_worth(found[start : start + size]), -start))
    shown = [clip_line(line.encode("utf-8", "replace"), None) for line in lines[best : best + size]]
    while len(shown) > 1 and not shown[-1].strip():
        shown.pop()
    return Passage(first_line + best, first_line + best + len(shown) - 1, "\n".join(shown))


def _folded(line: str) -> list[str]:
    return query_words(line)


def _worth(found: Sequence[set[str]]) -> tuple[int, int]:
    return len(set().union(*found)), sum(map(len, found))
