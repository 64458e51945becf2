"""Spans behind OpenTelemetry's API, as light as what ours say allows.

The library's own span is made for whatever anybody may ask of one: bounded mappings behind locks, events, processors.
Ours has a name, a dict and two times, and becomes bytes as it ends. What asks the API for spans (the MCP SDK) gets
these.

Invariants: no attribute, event or status holds text of an exception; of a served request nothing is said that its
caller chose but the tool; what a span says is bounded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import Final, Protocol

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes

from observability.telemetry.encoding import span_of
from observability.telemetry.traces import Describe

__all__ = ["Kept", "Running", "Spans", "Taking", "new_ids"]

NAME_LETTERS: Final = 128
MOST_ATTRIBUTES: Final = 24
VALUE_LETTERS: Final = 200
# What the MCP SDK says of a request that its caller chose, or that the span's name and `tekup.era` say as well.
LEFT_OUT: Final = frozenset({"jsonrpc.request.id", "gen_ai.operation.name", "mcp.protocol.version"})
_NONE: Final[frozenset[str]] = frozenset()
_RANDOM: Final = TraceFlags.RANDOM_TRACE_ID
_SAMPLED: Final = TraceFlags.SAMPLED
_FLAGS: Final = tuple(TraceFlags(number) for number in range(4))


class Taking(Protocol):
    """What takes spans that have ended."""

    def put(self, scope: str, span: bytes) -> None:
        """Take one, and wait for nothing."""


class Kept(trace.Span):
    """A span that will be sent.

    Args:
        taking: Takes it as it ends.
        scope: The library that makes it.
        name: What is done.
        kind: By whom.
        attributes: What is known of it at its beginning; it is its own from here on.
        context: Its ids.
        parent: What it is a step of.
        link: Another span that it belongs to.
        start_ns: When it began, since the epoch; None for now.
    """

    def __init__(
        self,
        taking: Taking,
        scope: str,
        name: str,
        kind: SpanKind,
        attributes: dict[str, object],
        context: SpanContext,
        parent: SpanContext | None,
        link: SpanContext | None,
        start_ns: int | None,
    ) -> None:
        self._taking: Taking | None = taking
        self._scope = scope
        self._name = name[:NAME_LETTERS]  # it holds the name that a caller wants
        self._kind = kind
        self._attributes = attributes
        self._context = context
        self._parent = parent
        self._link = link
        self._failed = False
        self._start_ns = start_ns or time.time_ns()

    def get_span_context(self) -> SpanContext:
        """Its ids."""
        return self._context

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return self._taking is not None

    def set_attribute(self, key: str, value: object) -> None:
        """Say more of it."""
        if len(self._attributes) < MOST_ATTRIBUTES or key in self._attributes:
            self._attributes[key] = _bounded(value)

    def set_attributes(self, attributes: Mapping[str, object]) -> None:
        """Say more of it."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def update_name(self, name: str) -> None:
        """Call it otherwise."""
        self._name = name[:NAME_LETTERS]

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:  # noqa: ARG002
        """Say whether it failed; the description may quote a caller, and is left out."""
        code = status.status_code if isinstance(status, Status) else status
        if code is not StatusCode.UNSET:
            self._failed = code is StatusCode.ERROR

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Nothing: ours have none."""

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Nothing: ours have the gate's."""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # the library's signature
    ) -> None:
        """Nothing: its text may be anybody's."""

    def end(self, end_time: int | None = None) -> None:
        """Have it sent; only the first time counts."""
        taking, self._taking = self._taking, None
        if taking is not None:
            taking.put(self._scope, self._encoded(end_time or time.time_ns()))

    def _encoded(self, end_ns: int) -> bytes:
        return span_of(
            self._name,
            self._kind,
            self._attributes,
            failed=self._failed,
            context=self._context,
            parent=self._parent,
            link=self._link,
            start_ns=self._start_ns,
            end_ns=end_ns,
        )


class Running:
    """A span as the one that runs, inside a block.

    Args:
        span: The span.
        ends: Whether it ends with the block.
        fails: Whether an exception that leaves the block is an error of it.
    """

    __slots__ = ("_ends", "_fails", "_span", "_token")

    def __init__(self, span: trace.Span, *, ends: bool, fails: bool) -> None:
        self._span = span
        self._ends = ends
        self._fails = fails
        self._token: Token[Context] | None = None

    def __enter__(self) -> trace.Span:
        """Begin."""
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None, /
    ) -> None:
        """End."""
        if self._token is not None:
            contexts.detach(self._token)
        if self._fails and isinstance(error, Exception):
            self._span.set_status(StatusCode.ERROR)
        if self._ends:
            self._span.end()


class Spans(trace.TracerProvider):
    """Begins the spans of a process, and decides which are kept: what the beginning of their trace keeps.

    Of a served request that is the gate's span, whatever its caller says: a request may name another parent in its
    `_meta`, with a flag of its own, and whoever may call could else have every call kept, or none.

    Args:
        taking: Takes those that have ended.
        share: Of the traces that begin here, how many are kept, 0 to 1.
        describe: Of the spans of served requests, what they say besides.
    """

    def __init__(self, taking: Taking, share: float, describe: Describe | None) -> None:
        self._taking = taking
        self._below = round(share * (1 << 64))
        self._describe = describe

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,  # noqa: ARG002  # the library's signature
        schema_url: str | None = None,  # noqa: ARG002
        attributes: Attributes = None,  # noqa: ARG002
    ) -> trace.Tracer:
        """What makes spans for a library."""
        return _Tracer(self, instrumenting_module_name)

    def begin(
        self,
        scope: str,
        name: str,
        attributes: Mapping[str, object],
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        start_ns: int | None = None,
    ) -> trace.Span:
        """A span that begins; one that says nothing where it is not kept.

        Args:
            scope: The library that makes it.
            name: What is done.
            attributes: What is known of it.
            context: Where its parent is looked for; None for the span that runs.
            kind: By whom.
            start_ns: When it began; None for now.
        """
        parent = trace.get_current_span(context).get_span_context()
        gate = parent
        if kind is SpanKind.SERVER and context is not None:
            gate = trace.get_current_span().get_span_context()
        if parent.is_valid:
            trace_id, flags = parent.trace_id, parent.trace_flags & _RANDOM
        else:
            trace_id, flags = random.getrandbits(128) or 1, _RANDOM  # no secret
        kept = gate.trace_flags & _SAMPLED if gate.is_valid else trace_id & 0xFFFF_FFFF_FFFF_FFFF < self._below
        span_id = random.getrandbits(64) or 1  # no secret
        own = SpanContext(trace_id, span_id, is_remote=False, trace_flags=_FLAGS[flags | _SAMPLED if kept else flags])
        if not kept:
            return NonRecordingSpan(own)
        link = gate if gate is not parent and gate.is_valid and gate.span_id != parent.span_id else None
        above = parent if parent.is_valid else None
        said = self._said(attributes, served=kind is SpanKind.SERVER)
        return Kept(self._taking, scope, name, kind, said, own, above, link, start_ns)

    def _said(self, attributes: Mapping[str, object], *, served: bool) -> dict[str, object]:
        """What a span says at its beginning; of a served request nothing that its caller chose but the tool."""
        left_out = LEFT_OUT if served else _NONE
        said = {
            name: value if type(value) is str and len(value) <= VALUE_LETTERS else _bounded(value)
            for name, value in attributes.items()
            if name not in left_out
        }
        if served and self._describe:
            said.update(self._describe(attributes))
        return said


class _Tracer(trace.Tracer):
    """Makes spans for one library."""

    def __init__(self, spans: Spans, scope: str) -> None:
        self._spans = spans
        self._scope = scope

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002  # the library's signature
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: ARG002
        set_status_on_exception: bool = True,  # noqa: ARG002
    ) -> trace.Span:
        """A span that begins."""
        return self._spans.begin(self._scope, name, attributes or {}, context, kind, start_time)

    def start_as_current_span(  # type: ignore[override]  # the library says it by a decorator
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: ARG002
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> AbstractContextManager[trace.Span]:
        """A span that begins and runs, as a context manager."""
        span = self._spans.begin(self._scope, name, attributes or {}, context, kind, start_time)
        return Running(span, ends=end_on_exit, fails=set_status_on_exception)


def new_ids() -> SpanContext:
    """Ids of a trace that nobody keeps."""
    return SpanContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1, is_remote=False)


def _bounded(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    text = value if type(value) is str else str(value)
    return text if len(text) <= VALUE_LETTERS else text[:VALUE_LETTERS]
