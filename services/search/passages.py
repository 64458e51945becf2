"""A file as passages, ready for the index. Many files at once are divided by another process.

Where a file is divided, and what is put beside its words, is said in docs/decisions/0031.
"""

import os
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from services.search.stems import stems
from services.search.words import defined_names, divide, identifiers, words_of

__all__ = ["Passage", "passages", "passages_beside"]

_BEHIND = 5


class Passage(NamedTuple):
    """A part of a file.

    Args:
        first_line: Where it starts, from 0.
        end_line: The line after its last.
        names: What is defined in it, separated by blanks.
        stems: The stems of its words, separated by blanks.
        identifiers: Its identifiers of several words, small, separated by blanks.
    """

    first_line: int
    end_line: int
    names: str
    stems: str
    identifiers: str


def passages(path: str, text: str) -> list[Passage]:
    """The passages of a file; blank ones are left out.

    Args:
        path: Tells the language.
        text: Its text.
    """
    lines = text.split("\n")
    defined = defined_names(text, path)
    at = _lines_of([start for start, _ in defined], text)
    found: list[Passage] = []
    for first, end in divide(lines, at):
        body = "\n".join(lines[first:end])
        if not body.strip():
            continue
        names = " ".join(name for _, name in defined[bisect_left(at, first) : bisect_left(at, end)])
        words = words_of(body)
        found.append(Passage(first, end, names, stems(body, words), " ".join(identifiers(words)).lower()))
    return found


def passages_beside(files: Sequence[tuple[str, str]]) -> list[list[Passage]]:
    """The passages of each of several files, given as path and text; in a process that others come before."""
    os.setpriority(os.PRIO_PROCESS, 0, max(_BEHIND, os.getpriority(os.PRIO_PROCESS, 0)))
    return [passages(path, text) for path, text in files]


def _lines_of(offsets: Sequence[int], text: str) -> list[int]:
    """The lines in which sorted offsets lie, from 0."""
    found, line, before = [], 0, 0
    for offset in offsets:
        line += text.count("\n", before, offset)
        before = offset
        found.append(line)
    return found
