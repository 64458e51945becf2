"""What in a file comes nearest to a text that is not in it: a hint for who quoted it wrongly. Pure."""

from collections.abc import Sequence
from difflib import get_close_matches

__all__ = ["nearest"]

_BYTES = 1 << 20
_COMPARED_LINES = 10_000
_LINE_CHARS = 500
_SHOWN_CHARS = 160
_CUTOFF = 0.6


def nearest(content: bytes, wanted: bytes) -> str:
    """A clause such as "the nearest is line 7: …", "" when nothing is near. Only the first MiB is looked at."""
    lines = _stripped(content[:_BYTES])
    parts = _stripped(wanted)
    while parts and not parts[0]:
        del parts[0]
    while parts and not parts[-1]:
        del parts[-1]
    if not parts:
        return ""
    if spaced := _but_for_blanks(lines, parts):
        where = f"line {spaced}" if len(parts) == 1 else f"lines {spaced}-{spaced + len(parts) - 1}"
        return f"the same text with other white space stands at {where}"
    longest = max(parts, key=len)[:_LINE_CHARS]
    near = get_close_matches(longest, dict.fromkeys(lines[:_COMPARED_LINES]), n=1, cutoff=_CUTOFF)
    if not near:
        return ""
    return f"the nearest to it is line {lines.index(near[0]) + 1}: {near[0][:_SHOWN_CHARS]}"


def _stripped(content: bytes) -> list[str]:
    return [" ".join(line[:_LINE_CHARS].split()) for line in content.decode("utf-8", "backslashreplace").split("\n")]


def _but_for_blanks(lines: Sequence[str], parts: list[str]) -> int:
    """The line at which `parts` begin when white space does not count, 0 when they do not."""
    for number in range(len(lines) - len(parts) + 1):
        if lines[number] == parts[0] and lines[number : number + len(parts)] == parts:
            return number + 1
    return 0
