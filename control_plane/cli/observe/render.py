"""Log lines and traces for people, at most 80 columns wide. No I/O."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from compose.local.show import WIDTH
from control_plane.cli.observe.jaeger import Span, as_tree
from control_plane.cli.observe.lines import Line

__all__ = ["LineRows", "tree_rows"]

LONGEST_VALUE = 200
LONGEST_PLAIN = 400
_UNSAID = frozenset(
    ("ts", "level", "event", "service", "version", "instance", "replica", "gate", "span_id", "StartUTC", "time", "msg",
     "message", "@timestamp", "@level", "@message", "@module", "timestamp", "SpanId", "entryPointName", "trace_id",
     "TraceId", "duration_ms", "Duration")
)  # fmt: skip
_ACCESS = {"request_X-Tekup-Client": "client", "request_X-Tekup-Service": "service", "request_Mcp-Name": "tool",
           "request_X-Tekup-Route": "target", "request_Mcp-Method": "method", "DownstreamStatus": "status",
           "RetryAttempts": "retries", "RequestMethod": "", "RequestPath": "path", "ClientHost": "from",
           "ServiceAddr": "at", "OriginDuration": "", "OriginStatus": ""}  # fmt: skip
"""What Traefik's names of fields are called here; "" is left out."""
NANO_A_MS = 1_000_000
BRANCH = "  "


class LineRows:
    """Makes rows of log lines: time, process, event, the fields that matter; a row of its own where the day changes.

    Args:
        with_trace: Whether each is to show its trace.
    """

    def __init__(self, *, with_trace: bool) -> None:
        self._with_trace = with_trace
        self._day = ""

    def rows(self, lines: Iterable[Line]) -> Iterator[str]:
        """The rows of these lines, without line ends."""
        for line in lines:
            at = datetime.fromtimestamp(line.at, UTC)
            if (day := f"{at:%Y-%m-%d}") != self._day:
                self._day = day
                yield f"{day} (UTC)"
            first = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d} {line.process}"
            yield from _wrapped(f"{first}  {self._said(line)}", "  ")

    def _said(self, line: Line) -> str:
        if not _event(line):
            return line.text[:LONGEST_PLAIN]
        words = [line.level.upper()] if line.level in ("warning", "error") else []
        words.append(_event(line))
        words += [f"{name}={_value(value)}" for name, value in _fields(line)]
        words += [took] if (took := _duration(line)) else []
        words += [f"trace={line.trace}"] if self._with_trace and line.trace else []
        return " ".join(words)


def _event(line: Line) -> str:
    if "DownstreamStatus" in line.fields:
        where = str(line.fields.get("entryPointName", ""))
        return "access" if where in ("", "public") else f"access ({where})"
    said = (line.fields.get(name) for name in ("event", "message", "msg", "@message"))
    return next((" ".join(str(text).split())[:LONGEST_PLAIN] for text in said if text), "")


def _fields(line: Line) -> Iterator[tuple[str, Any]]:
    for name, value in line.fields.items():
        shown = _ACCESS.get(name, "" if name in _UNSAID or name == "exception" else name)
        if shown and value not in ("", None, [], {}) and not (shown == "retries" and not value):
            yield shown, value
    if "exception" in line.fields:
        yield "exception", str(line.fields["exception"]).strip().splitlines()[-1]


def _value(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _duration(line: Line) -> str:
    took = line.fields.get("duration_ms", line.fields.get("Duration"))
    if not isinstance(took, int | float):
        return ""
    text = _ms(took if "duration_ms" in line.fields else took / NANO_A_MS)
    return text.replace(" ", "")  # a row may end after any blank


def _ms(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]


def tree_rows(spans: Sequence[Span]) -> Iterator[str]:
    """A trace as rows: when since its beginning, how long, whose, what, how it ended; each below what it is part of."""
    start = min(span.start_us for span in spans)
    for depth, span in as_tree(spans):
        times = f"{_ms((span.start_us - start) / 1000):>9} {_ms(span.duration_us / 1000):>9}  "
        indent = BRANCH * min(depth, 12)
        outcome = f"  {span.outcome}" if span.outcome else ""
        said = " ".join(f"{span.service} {span.name}{outcome}".split())
        yield from _wrapped(f"{times}{indent}{said}", " " * len(times) + indent + BRANCH)
