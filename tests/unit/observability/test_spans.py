"""Our own spans say what the library's would, never what a caller sent, and become what a collector can read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from observability.telemetry.carrier import parsed, written
from observability.telemetry.encoding import request_of, resource_of
from observability.telemetry.spans import Kept, Spans

LIBRARYS = TraceContextTextMapPropagator()
GATE = SpanContext(0xAB, 0xCD, is_remote=True, trace_flags=TraceFlags(1))
hexes = st.text("0123456789abcdef", min_size=1, max_size=34)
headers = st.one_of(
    st.text(max_size=60),
    st.builds("-".join, st.lists(hexes, min_size=2, max_size=5)),
    st.from_regex(r"[ \t]*[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z0-9]*)?[ \t\n]*", fullmatch=True),
)
texts = st.text(max_size=250)
values = st.one_of(texts, st.booleans(), st.integers(), st.floats(allow_nan=False))


@dataclass
class Taken:
    """Keeps the spans that have ended."""

    spans: list[tuple[str, bytes]] = field(default_factory=list)

    def put(self, scope: str, span: bytes) -> None:
        self.spans.append((scope, span))

    def read(self) -> list[trace_pb2.Span]:
        """As a collector reads them."""
        request = ExportTraceServiceRequest.FromString(request_of(resource_of({"service.name": "demo"}), self.spans))
        (group,) = request.resource_spans
        assert group.resource.attributes[0].value.string_value == "demo"
        return [span for scope in group.scope_spans for span in scope.spans]


def about(span: trace_pb2.Span) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in span.attributes}


@contextmanager
def running(context: SpanContext) -> Iterator[None]:
    token = contexts.attach(holding(context))
    try:
        yield
    finally:
        contexts.detach(token)


def holding(context: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


@settings(deadline=None, max_examples=400)
@given(headers)
@example(f"00-{'0' * 32}-{'1' * 16}-01")
@example(f"ff-{'1' * 32}-{'1' * 16}-01")
@example(f"00-{'1' * 32}-{'1' * 16}-01-more")
@example(f"01-{'1' * 32}-{'1' * 16}-01-more")
@example(f"00-{'1' * 32}-{'1' * 16}-01" + " " * 500)
def test_a_traceparent_is_read_as_the_library_reads_it(header: str) -> None:
    theirs = trace.get_current_span(LIBRARYS.extract({"traceparent": header}, Context())).get_span_context()
    ours = parsed(header)
    assert ours == (theirs if theirs.is_valid else None)
    if ours is not None:
        carrier: dict[str, str] = {}
        LIBRARYS.inject(carrier, holding(ours))
        assert written(ours) == carrier["traceparent"]


@settings(deadline=None, max_examples=100)
@given(texts, st.dictionaries(texts, values, max_size=8), st.sampled_from(list(SpanKind)[:3]), st.booleans())
def test_what_a_span_says_is_what_a_collector_reads(
    name: str, said: dict[str, object], kind: SpanKind, failed: bool
) -> None:
    taken = Taken()
    span = Kept(taken, "tekup", name, kind, {}, SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(3)), GATE,
                None, start_ns=5)  # fmt: skip
    span.set_attributes(said)
    if failed:
        span.set_status(StatusCode.ERROR, "a secret")
    span.end(6)
    span.end(7)
    (read,) = taken.read()
    assert (read.name, read.kind) == (name[:128], {0: 1, 1: 2, 2: 3}[kind.value])
    assert (read.trace_id, read.span_id) == ((1).to_bytes(16, "big"), (2).to_bytes(8, "big"))
    assert (read.parent_span_id, read.start_time_unix_nano, read.end_time_unix_nano) == (
        (0xCD).to_bytes(8, "big"),
        5,
        6,
    )
    assert read.flags == 0x303
    assert about(read) == {key: expected(value) for key, value in said.items()}
    assert (read.status.code == trace_pb2.Status.STATUS_CODE_ERROR, read.status.message) == (failed, "")


def expected(value: object) -> object:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value[:200] if isinstance(value, str) else value


def test_equal_values_of_other_types_are_not_taken_for_each_other() -> None:
    taken = Taken()
    for value in (1, True, 1.0, "1"):
        with_value = Spans(taken, 1.0, None).begin("tekup", "x", {"tekup.x": value})
        with_value.end()
    assert [repr(about(span)["tekup.x"]) for span in taken.read()] == ["1", "True", "1.0", "'1'"]


def test_a_span_is_bounded_whatever_it_is_asked_to_say() -> None:
    taken = Taken()
    span = Spans(taken, 1.0, None).begin("tekup", "n" * 1000, {"tekup.long": "x" * 10_000, "half": "\ud83d"})
    span.set_attributes({f"tekup.{number}": [number] for number in range(100)})
    span.set_attribute("tekup.long", "y" * 10_000)
    span.add_event("a secret")
    span.record_exception(ValueError("a secret"))
    span.end()
    (read,) = taken.read()
    assert (len(read.name), len(read.attributes), len(read.events)) == (128, 24, 0)
    assert about(read) | {"tekup.long": "y" * 200, "half": "?", "tekup.7": "[7]"} == about(read)


def test_who_asks_the_library_for_a_span_gets_ours_as_the_one_that_runs() -> None:
    taken = Taken()
    tracer = Spans(taken, 1.0, None).get_tracer("mcp-python-sdk")
    with suppress(ValueError), tracer.start_as_current_span("outer", kind=SpanKind.CLIENT) as outer:
        assert trace.get_current_span() is outer
        with tracer.start_as_current_span("inner", set_status_on_exception=False):
            raise ValueError("a secret")
    assert not trace.get_current_span().is_recording()
    inner, outer_read = taken.read()
    assert (inner.parent_span_id, inner.trace_id) == (outer_read.span_id, outer_read.trace_id)
    assert (outer_read.status.code, inner.status.code, outer_read.status.message) == (2, 0, "")
    assert [scope for scope, _ in taken.spans] == ["mcp-python-sdk"] * 2


@pytest.mark.parametrize("kept", [True, False])
def test_a_served_request_is_kept_as_the_gate_says_and_linked_to_its_span_where_its_parent_is_anothers(
    kept: bool,
) -> None:
    gate = SpanContext(0xAB, 0xCD, is_remote=True, trace_flags=TraceFlags(kept))
    callers = SpanContext(0xEF, 0x12, is_remote=True, trace_flags=TraceFlags(not kept))
    taken = Taken()
    spans = Spans(taken, 0.0 if kept else 1.0, lambda said: {"tekup.era": str(said["mcp.protocol.version"])})
    said = {"mcp.method.name": "tools/call", "mcp.protocol.version": "2026", "jsonrpc.request.id": "a secret"}
    with running(gate):
        for context in (holding(callers), None):
            spans.begin("mcp", "tools/call x", said, context, SpanKind.SERVER).end()
    if not kept:
        assert not taken.spans
        return
    joined, plain = taken.read()
    assert (joined.trace_id[-1], joined.parent_span_id[-1], plain.trace_id[-1]) == (0xEF, 0x12, 0xAB)
    assert [(link.span_id[-1], link.attributes[0].key) for link in joined.links] == [(0xCD, "tekup.link")]
    assert not plain.links
    assert about(plain) == {"mcp.method.name": "tools/call", "tekup.era": "2026"}


def test_of_traces_that_begin_here_the_share_is_kept() -> None:
    taken = Taken()
    spans = Spans(taken, 0.25, None)
    for _ in range(4_000):
        spans.begin("tekup", "root", {}, Context()).end()
    assert 800 < len(taken.spans) < 1_200
