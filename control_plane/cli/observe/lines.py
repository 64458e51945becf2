"""Log lines of any process as the command line reads them: when, who, how bad, about what; and which are wanted.

Our processes, Traefik, Consul and the programs of the on-call stack call the same things by different names; this is
the one place that knows. No I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["LEVELS", "Line", "Wanted", "line_of", "time_of", "trace_id_of"]

LEVELS = ("debug", "info", "warning", "error")
_RANKS = {"trace": 0, "debug": 0, "info": 1, "warn": 2, "warning": 2, "error": 3, "fatal": 3, "critical": 3, "panic": 3}
_TIMES = ("ts", "StartUTC", "time", "@timestamp", "timestamp")
_TRACES = ("trace_id", "TraceId", "traceID")
_CLIENTS = ("client", "request_X-Tekup-Client")
_TOOLS = ("tool", "request_Mcp-Name")
_PLAIN = re.compile(r"(\d{4}-\d\d-\d\d[T ][0-9:.]+(?:Z|[+-]\d\d:?\d\d)?)\s+\[?([A-Z]+)\]?\s")
_FRACTION = re.compile(r"(\.\d{6})\d+")
_TRACE = re.compile(r"(?:00-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?", re.I)


@dataclass(frozen=True)
class Line:
    """One line of a log.

    Args:
        at: When, seconds since the epoch.
        process: Whose.
        text: As it was written, without its end.
        fields: What it says; none where it is no JSON.
    """

    at: float
    process: str
    text: str
    fields: Mapping[str, Any]

    @property
    def level(self) -> str:
        """One of `LEVELS`, "" where it does not say."""
        rank = _RANKS.get(str(self.fields.get("level", self.fields.get("@level", ""))).lower())
        return "" if rank is None else LEVELS[rank]

    @property
    def trace(self) -> str:
        """The trace it belongs to, or ""."""
        return _first(self.fields, _TRACES)

    @property
    def client(self) -> str:
        """Whose call it tells of, or ""."""
        return _first(self.fields, _CLIENTS)

    @property
    def tool(self) -> str:
        """What was called, or ""."""
        return _first(self.fields, _TOOLS)


@dataclass(frozen=True)
class Wanted:
    """Which lines.

    Args:
        process: Of this process alone; "" for all.
        trace: Of this trace alone.
        client: About calls of this client, and of its users (`<client>~…`).
        tool: About calls of this tool.
        level: So bad at least.
        since: Not before, seconds since the epoch.
    """

    process: str = ""
    trace: str = ""
    client: str = ""
    tool: str = ""
    level: str = ""
    since: float = 0.0

    @property
    def narrowed(self) -> bool:
        """Whether anything but a process is asked for."""
        return bool(self.trace or self.client or self.tool or self.level or self.since)

    def fits(self, line: Line) -> bool:
        """Whether a line is one of them."""
        return (
            line.at >= self.since
            and (not self.process or line.process == self.process)
            and (not self.trace or line.trace == self.trace)
            and (not self.client or line.client == self.client or line.client.startswith(f"{self.client}~"))
            and (not self.tool or line.tool == self.tool)
            and (not self.level or LEVELS.index(line.level or "debug") >= LEVELS.index(self.level))
        )

    def might_fit(self, text: str) -> bool:
        """Whether a line may be one of them, by its text alone: most of a log is passed over by this."""
        return all(word in text for word in (self.trace, self.client, self.tool) if word.isascii())


def line_of(text: str, process: str, before: float) -> Line:
    """A line as it was read.

    Args:
        text: The line.
        process: Whose log it is from.
        before: When the line before it was written: what has no time of its own, such as a traceback, belongs there.
    """
    fields: Mapping[str, Any] = {}
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except ValueError:
            fields = {}
    elif plain := _PLAIN.match(text):
        fields = {"ts": plain[1], "level": plain[2]}
    at = next((at for name in _TIMES if (at := time_of(fields.get(name))) is not None), before)
    return Line(at, process, text, fields)


def time_of(value: object) -> float | None:
    """A time as logs write it, in seconds since the epoch; None if it is none."""
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(_FRACTION.sub(r"\1", value))
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def trace_id_of(text: str) -> str:
    """The id of a trace: 32 hex digits, alone or inside a `traceparent`; "" if there is none."""
    found = _TRACE.fullmatch(text.strip())
    return found[1].lower() if found else ""


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((str(fields[name]) for name in names if fields.get(name)), "")
