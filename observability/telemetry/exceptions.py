"""What an exception says in a log: where it came from in full, its message short and without what a caller sent.

Messages of exceptions are where arguments and contents of files end up (`could not parse '…'`): long quotes are hidden,
paths excepted, and what is left is redacted as any text.
"""

import re
import traceback
from typing import Final

from observability.telemetry.redaction import HIDDEN, redacted

__all__ = ["told"]

LONGEST_MESSAGE: Final = 500
MOST_FRAMES: Final = 30
MOST_EXCEPTIONS: Final = 10
_QUOTE: Final = re.compile(r"(['\"])(?!/|https?://)(?:(?!\1)[^\\]|\\.){32,}(?:\1|\Z)", re.S)


def told(error: BaseException) -> str:
    """The exception, what it was caused by, and what it is a group of, the first cause first."""
    return "\n".join(_lines(error, set()))


def _lines(error: BaseException, seen: set[int]) -> list[str]:
    if id(error) in seen or len(seen) >= MOST_EXCEPTIONS:
        return ["…"]
    seen.add(id(error))
    lines = []
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        lines += [*_lines(before, seen), "caused:" if error.__cause__ else "while it was handled:"]
    frames = traceback.format_tb(error.__traceback__)
    if frames:
        left_out = [f"  … ({len(frames) - MOST_FRAMES} more)\n"] if len(frames) > MOST_FRAMES else []
        lines.append("Traceback:\n" + "".join([*left_out, *frames[-MOST_FRAMES:]]).rstrip())
    lines.append(_message(error))
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            lines += [f"  | {line}" for part in _lines(one, seen) for line in part.splitlines()]
    return lines


def _message(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        said = str(error)
    except Exception:  # of a class whose text is broken too
        said = "(its text cannot be had)"
    said = _QUOTE.sub(HIDDEN, redacted(said))
    said = said if len(said) <= LONGEST_MESSAGE else f"{said[:LONGEST_MESSAGE]}… ({len(said)} characters)"
    return f"{name}: {said}" if said else name
