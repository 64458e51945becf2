"""Answers as text: what stands in files, each line once. Pure."""

from collections.abc import Iterable, Sequence

__all__ = ["Shown", "head_of", "numbered"]

Shown = tuple[int, str, bool]
"""A line: its number, its text, and whether it matches."""


def numbered(lines: Iterable[Shown]) -> str:
    """Lines with their numbers: `12:` before one that matches, `13-` before another."""
    return "\n".join(f"{number}{':' if match else '-'}{text}" for number, text, match in lines)


def head_of(
    what: str, outcome: str, matched: int, returned: int, cursor: str, layers: Sequence[str], notes: Sequence[str] = ()
) -> str:
    """The line that begins an answer: how much there is, how much of it is here, who says so."""
    parts = [f"{outcome}: {returned} of {matched} {what}", f"by {', '.join(layers)}"]
    parts += [f"go on with cursor {cursor}"] if cursor else []
    return f"[{'; '.join([*parts, *notes])}]"
