"""The metrics of one instance, each declared once, in a registry of its own."""

import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import cache
from typing import Final

from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector

from observability.telemetry.exposition import exposed
from services.common.usage import Usage

__all__ = ["UNKNOWN_TOOL", "Metrics", "Outcome"]

# From a cached list to a page that loads for a minute; a latency gate needs edges where it compares.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_SLOW_S: Final = 0.25
"""From here on somebody may want to see the trace of each."""

UNKNOWN_TOOL: Final = "(unknown)"
"""Stands for every name that is no tool, so that a caller cannot make label values."""


class Outcome(StrEnum):
    """How a tool call ended."""

    OK = "ok"
    TOOL_ERROR = "tool_error"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    ERROR = "error"
    REFUSED = "refused"
    """Of copies only: the tool may change something."""
    SCHEMA = "schema"
    """It worked, but its result does not fit the output schema the tool declares."""


class Metrics:
    """What an instance counts.

    Args:
        service: The service.
        version: Its version.
        instance: This instance.
    """

    def __init__(self, *, service: str, version: str, instance: str) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "tekup_tool_calls", "Tool calls by how they ended", ["tool", "outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "tekup_tool_seconds",
            "Duration of tool calls in seconds",
            ["tool"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.mirrored = Counter(
            "tekup_mirrored_calls",
            "Copies of other versions' calls by how they ended; they count nowhere else",
            ["tool", "outcome"],
            registry=self.registry,
        )
        self.mirrored_seconds = Histogram(
            "tekup_mirrored_seconds",
            "Duration of copies of other versions' calls in seconds",
            ["tool"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.schema_violations = Counter(
            "tekup_tool_schema_violations",
            "Results that did not fit the output schema of their tool, and were withheld",
            ["tool"],
            registry=self.registry,
        )
        # Finding a child by its labels takes a lock and costs more than counting.
        self._count_of = cache(self.calls.labels)
        self._seconds_of = cache(self.seconds.labels)
        self._next_exemplar: dict[str, float] = {}  # when one is wanted again, by tool
        self.lists = Counter(
            "tekup_list_cache",
            "Lists and discovery answered to clients: hit as kept for their rights, miss made anew",
            ["method", "result"],
            registry=self.registry,
        )
        self.in_flight = Gauge("tekup_requests_in_flight", "Requests on /mcp being served", registry=self.registry)
        self.refused = Counter(
            "tekup_requests_refused",
            "Requests on /mcp answered with an HTTP error, by its status",
            ["status"],
            registry=self.registry,
        )
        self.ready = Gauge("tekup_ready", "1 when the declared probe calls work", registry=self.registry)
        self.probe_failures = Counter(
            "tekup_probe_failures", "Failed probe calls of the instance on itself", ["tool"], registry=self.registry
        )
        self.registered = Gauge("tekup_registered", "1 when the registry knows the instance", registry=self.registry)
        self.secret_file = Gauge(
            "tekup_secret_file_seconds",
            "When the file of the secret in use was written, in seconds since the epoch",
            ["secret"],
            registry=self.registry,
        )
        Gauge(
            "tekup_instance_info",
            "Always 1; says what runs",
            ["service", "version", "instance"],
            registry=self.registry,
        ).labels(service, version, instance).set(1)
        self._handles = Gauge("tekup_handles", "Open handles, by what one stands for", ["kind"], registry=self.registry)
        self._handles_limit = Gauge(
            "tekup_handles_limit",
            "Handles that the instance may hold open at most; absent without a limit",
            ["kind"],
            registry=self.registry,
        )
        self.usage = Usage()
        self.registry.register(self.usage)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def expect(self, tool: str) -> None:
        """Show the series of a tool from the start, as 0: one that appears with its first failure looks like none."""
        for outcome in Outcome:
            self._count_of(tool, outcome.value)
        self._seconds_of(tool)
        self.schema_violations.labels(tool)

    def count(self, tool: str, outcome: Outcome, seconds: float) -> None:
        """Count one ended tool call."""
        self._count_of(tool, outcome.value).inc()
        self._seconds_of(tool).observe(seconds, self._exemplar(tool, seconds))
        if outcome is Outcome.SCHEMA:
            self.schema_violations.labels(tool).inc()

    def _exemplar(self, tool: str, seconds: float) -> dict[str, str] | None:
        """The trace that a measured call belongs to, where it is one that is kept.

        Of quick calls one a second is enough: to note it costs as much as to count the call twice.
        """
        now = time.monotonic()
        if seconds < _SLOW_S and now < self._next_exemplar.get(tool, 0.0):
            return None
        span = trace.get_current_span().get_span_context()
        if not (span.is_valid and span.trace_flags.sampled):
            return None
        self._next_exemplar[tool] = now + 1
        return {"trace_id": f"{span.trace_id:032x}"}

    def count_copy(self, tool: str, outcome: Outcome, seconds: float) -> None:
        """Count one ended copy of a tool call."""
        self.mirrored.labels(tool, outcome.value).inc()
        self.mirrored_seconds.labels(tool).observe(seconds)

    def expect_lists(self, methods: Iterable[str]) -> None:
        """Show the series of these lists from the start, as 0."""
        for method in methods:
            for result in ("hit", "miss"):
                self.lists.labels(method, result)

    def count_list(self, method: str, *, hit: bool) -> None:
        """Count one answered list; the method has to be one of the protocol's."""
        self.lists.labels(method, "hit" if hit else "miss").inc()

    def watch_handles(self, kind: str, held: Callable[[], int], most: int | None = None) -> None:
        """Show how many handles of `kind` are open.

        Args:
            kind: What one stands for.
            held: Tells how many there are now.
            most: How many there may be; None for no bound.
        """
        self._handles.labels(kind).set_function(held)
        if most is not None:
            self._handles_limit.labels(kind).set(most)

    async def shown(self, accept: str) -> tuple[bytes, str]:
        """Everything, as whoever asks can read it.

        Args:
            accept: The `Accept` header, "" without one.

        Returns:
            The text and its media type.
        """
        await self.usage.refresh()
        return exposed(self.registry, accept)
