"""What makes spans in a process that has a collector: the one module that brings spans, encoding and gRPC together.

Invariants: a caller never waits for the collector; no attribute, event or status holds text of an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Final, Self

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode

from observability.telemetry.carrier import parsed, written
from observability.telemetry.encoding import resource_of
from observability.telemetry.outbox import Outbox
from observability.telemetry.spans import Spans, new_ids
from observability.telemetry.traces import TRACEPARENT, Describe, Mark, Origin, Value

__all__ = ["Sending"]

SCOPE: Final = "tekup"


class Sending:
    """Spans of this process, on their way.

    Args:
        origin: Whose.
        url: Where to.
        share: Of the traces that begin here.
        describe: Of the spans of served requests.
    """

    def __init__(self, origin: Origin, url: str, share: float, describe: Describe | None) -> None:
        about = {
            "service.name": origin.name,
            "service.version": origin.version,
            "service.instance.id": origin.instance,
        }
        self._outbox = Outbox(url, resource_of(about))
        self._spans = Spans(self._outbox, share, describe)
        # The MCP SDK asks the library's global provider. That is set once in a process; ours is one a process too.
        trace.set_tracer_provider(self._spans)

    def span(self, name: str, attributes: Mapping[str, Value], *, root: bool, parent: str, client: bool) -> Mark | None:
        """A span, None where it would not be kept."""
        context = None
        if root:
            context = _holding(parent) or Context()
        elif not trace.get_current_span().is_recording():
            return None
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        return _Open(self._spans.begin(SCOPE, name, _dotted(attributes), context, kind))

    def outgoing(self, *, quiet: bool) -> dict[str, str]:
        """`traceparent` of the span that runs."""
        running = trace.get_current_span().get_span_context()
        if running.is_valid:
            return {TRACEPARENT: written(running)}
        return {TRACEPARENT: written(new_ids())} if quiet else {}

    def apart(self) -> object:
        """Make no span the one that runs."""
        return contexts.attach(Context())

    def join(self, parent: str) -> object:
        """Make a caller's span the one that runs."""
        context = _holding(parent)
        return None if context is None else contexts.attach(context)

    def leave(self, token: object) -> None:
        """Undo `join`."""
        if isinstance(token, Token):
            contexts.detach(token)

    def stop(self, within_s: float) -> None:
        """Send what is left, for so long at most."""
        self._outbox.stop(within_s)


class _Open:
    """A span between its beginning and its end."""

    __slots__ = ("_span", "_token")

    def __init__(self, made: trace.Span) -> None:
        self._span = made
        self._token: Token[Context] | None = None

    def note(self, **attributes: Value) -> None:
        """Say more of it."""
        self._span.set_attributes(_dotted(attributes))

    def __enter__(self) -> Self:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None, /
    ) -> None:
        if self._token is not None:
            contexts.detach(self._token)
        if kind is not None:
            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _holding(parent: str) -> Context | None:
    """Where the span that a `traceparent` names is the one that runs; None for a header that is none."""
    named = parsed(parent) if parent else None
    return None if named is None else trace.set_span_in_context(NonRecordingSpan(named), Context())


def _dotted(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("_", ".", 1): value for name, value in attributes.items()}
