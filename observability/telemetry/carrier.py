"""`traceparent` as W3C Trace Context has it, to and from what OpenTelemetry calls a span's context.

Read as the library reads it (a test compares the two), without what ours never has: `tracestate`, and a choice of
carriers. It is read for every call, so it is one expression.
"""

import re
from typing import Final

from opentelemetry.trace import SpanContext, TraceFlags

__all__ = ["parsed", "written"]

LONGEST: Final = 512
_HEADER: Final = re.compile(r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:(-.*)|[ \t]*)\n?")
_FLAGS: Final = tuple(TraceFlags(number) for number in range(256))


def parsed(header: str) -> SpanContext | None:
    """The span that a header names.

    Args:
        header: Its value.

    Returns:
        None where it is no such value.
    """
    found = _HEADER.fullmatch(header) if len(header) <= LONGEST else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (more and version == "00"):
        return None
    context = SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=_FLAGS[int(flags, 16)])
    return context if context.is_valid else None


def written(context: SpanContext) -> str:
    """The header that names a span."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
