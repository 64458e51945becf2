"""Globs in which `*` stands for any characters and nothing else is special, in time linear in the text.

Pure. A regular expression with several `.*` takes a power of the text's length, and both sides may come from anybody.
"""

from collections.abc import Sequence

__all__ = ["covers"]


def covers(pieces: Sequence[str], text: str) -> bool:
    """Whether a glob covers the whole of a text.

    Args:
        pieces: What stands between the asterisks of the glob, at least one.
        text: What it may cover.
    """
    first, *others = pieces
    if not others:
        return text == first
    *middle, last = others
    end = len(text) - len(last)
    if not text.startswith(first) or not text.endswith(last):
        return False
    at = len(first)
    for piece in middle:  # each where it first comes: if any place will do, that one does
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return at <= end
