"""Sending spans to a collector: the one module that knows OpenTelemetry's SDK and gRPC.

Invariants: a caller never waits for the collector; at most `QUEUE` spans are held, the newest; at most one line a
minute says that spans are lost; no attribute, event or status holds text of an exception.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Final, Self

from grpc import Compression
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from observability.telemetry.encoding import encoded
from observability.telemetry.traces import TRACEPARENT, Describe, Mark, Origin, Value

__all__ = ["Sending"]

logger = logging.getLogger(__name__)

QUEUE: Final = 4096
BATCH: Final = 512
DELAY_MS: Final = 1000
# One batch in the air at a time, and tried again within this: a collector that starts anew loses nothing.
EXPORT_S: Final = 5.0
SAY_EVERY_S: Final = 60.0
NAME_LETTERS: Final = 128
LIMITS: Final = SpanLimits(max_span_attributes=24, max_events=0, max_links=4, max_span_attribute_length=200)
# The collector is beside us: no proxy of the environment leads there, and one that is back is found soon.
CHANNEL: Final = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 5000))
# What the SDK says of a request that its caller chose, or that the span's name and `tekup.era` say as well.
LEFT_OUT: Final = frozenset({"jsonrpc.request.id", "gen_ai.operation.name", "mcp.protocol.version"})
_CARRIER: Final = TraceContextTextMapPropagator()


class Sending:
    """Spans of this process, on their way.

    Args:
        origin: Whose.
        url: Where to.
        share: Of the traces that begin here.
        describe: Of the spans of served requests.
    """

    def __init__(self, origin: Origin, url: str, share: float, describe: Describe | None) -> None:
        # What the library says of each batch and of each span too many is said by us, once a minute.
        for noisy in ("opentelemetry.sdk._shared_internal", "opentelemetry.exporter.otlp.proto.grpc.exporter"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL + 1)
        exporter = _Exporter(
            endpoint=url,
            timeout=EXPORT_S,
            compression=Compression.NoCompression,
            channel_options=CHANNEL,  # type: ignore[arg-type]  # gRPC takes numbers
        )
        self._exporter = _Told(exporter, url)
        resource = Resource(
            {
                "service.name": origin.name,
                "service.version": origin.version,
                "service.instance.id": origin.instance,
            }
        )
        self._provider = TracerProvider(
            sampler=_Decided(share, describe), resource=resource, span_limits=LIMITS, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            _Batches(self._exporter, max_queue_size=QUEUE, schedule_delay_millis=DELAY_MS, max_export_batch_size=BATCH)
        )
        self._tracer = self._provider.get_tracer("tekup")
        # The MCP SDK asks the library's global provider. That is set once in a process; ours is one a process too.
        trace.set_tracer_provider(self._provider)

    def span(self, name: str, attributes: Mapping[str, Value], *, root: bool, parent: str, client: bool) -> Mark | None:
        """A span, None where it would not be kept."""
        context = None
        if root:
            context = _CARRIER.extract({TRACEPARENT: parent}, Context()) if parent else Context()
        elif not trace.get_current_span().is_recording():
            return None
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        return _Open(self._tracer.start_span(name, context, kind, _dotted(attributes)))

    def outgoing(self, *, quiet: bool) -> dict[str, str]:
        """`traceparent` of the span that runs."""
        carrier: dict[str, str] = {}
        _CARRIER.inject(carrier)
        if not carrier and quiet:
            ids = self._provider.id_generator
            carrier[TRACEPARENT] = f"00-{ids.generate_trace_id():032x}-{ids.generate_span_id():016x}-00"
        return carrier

    def apart(self) -> object:
        """Make no span the one that runs."""
        return contexts.attach(Context())

    def join(self, parent: str) -> object:
        """Make a caller's span the one that runs."""
        context = _CARRIER.extract({TRACEPARENT: parent})
        if not trace.get_current_span(context).get_span_context().is_valid:
            return None
        return contexts.attach(context)

    def leave(self, token: object) -> None:
        """Undo `join`."""
        if isinstance(token, Token):
            contexts.detach(token)

    def stop(self, within_s: float) -> None:
        """Send what is left, for so long at most."""
        # Its own shutdown waits half a minute for a collector that hangs.
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(within_s)
        if ending.is_alive():
            self._exporter.give_up()


class _Open:
    """A span between its beginning and its end."""

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
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._token is not None:
            contexts.detach(self._token)
        if kind is not None:
            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _dotted(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("_", ".", 1): value for name, value in attributes.items()}


class _Decided(Sampler):
    """Keeps what the beginning of a trace keeps; of a served request that is the gate's span, whatever its caller says.

    A request may name another parent in its `_meta`, with a flag of its own: whoever may call could else have every
    call kept, or none. The request's own gate has decided by the share that operators set.
    """

    def __init__(self, share: float, describe: Describe | None) -> None:
        self._roots = TraceIdRatioBased(share)
        self._describe = describe

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002  # the library's signature
        trace_state: TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        """Whether a span that begins now is kept."""
        served = kind is SpanKind.SERVER
        decided_by = trace.get_current_span(None if served else parent_context).get_span_context()
        if decided_by.is_valid:
            kept = decided_by.trace_flags.sampled
        else:
            kept = self._roots.should_sample(None, trace_id, name).decision is Decision.RECORD_AND_SAMPLE
        if not kept:
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, self._said(attributes or {}) if served else attributes)

    def _said(self, attributes: Mapping[str, object]) -> Attributes:
        """What a served request's span says: nothing that its caller chose but the tool."""
        kept = {name: value for name, value in attributes.items() if name not in LEFT_OUT}
        return {**kept, **(self._describe(attributes) if self._describe else {})}  # type: ignore[dict-item]  # as given

    def get_description(self) -> str:
        """Its name."""
        return "TekupDecided"


class _Batches(BatchSpanProcessor):
    """Links a request's span to the gate's where its parent is another's, and takes out what others wrote into it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """A span begins; the one that runs is still the one outside."""
        if len(span.name) > NAME_LETTERS:  # it holds the name that a caller wants
            span.update_name(span.name[:NAME_LETTERS])
        if span.kind is not SpanKind.SERVER:
            return
        gate = trace.get_current_span().get_span_context()
        if gate.is_valid and span.parent is not None and span.parent.span_id != gate.span_id:
            span.add_link(gate, {"tekup.link": "gate"})

    def _on_ending(self, span: Span) -> None:
        # The SDK puts an error's text here, and with it what the caller sent.
        if span.status.status_code is StatusCode.ERROR and span.status.description:
            span.set_status(Status(StatusCode.ERROR))


class _Exporter(OTLPSpanExporter):
    """The library's, but for the encoding."""

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        return encoded(data)


class _Told(SpanExporter):
    """Sends, and says once a minute that it does not arrive."""

    def __init__(self, exporter: OTLPSpanExporter, url: str) -> None:
        self._exporter = exporter
        self._url = url
        self._lost = 0
        self._given_up = False
        self._said_s = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        if self._given_up:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._say(logging.INFO, "traces.arriving")
        else:
            self._lost += len(spans)
            self._say(logging.WARNING, "traces.lost")
        return result

    def give_up(self) -> None:
        """Send nothing more, and end what is being sent."""
        self._given_up = True
        self._exporter.shutdown()

    def shutdown(self) -> None:
        """Let go of the connection."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Nothing is held here."""
        return True

    def _say(self, level: int, event: str) -> None:
        if not self._lost or time.monotonic() - self._said_s < SAY_EVERY_S:
            return
        self._said_s = time.monotonic()
        logger.log(level, event, extra={"collector": self._url, "spans": self._lost})
        self._lost = 0
