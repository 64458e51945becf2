"""Spans as OTLP has them, made for what ours are: few attributes, of few values, no events.

The library's own encoder takes 40 microseconds for such a span, a third of all that a traced call costs; this takes a
quarter of that, mostly by making each pair of name and value once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

__all__ = ["encoded"]

_KINDS: Final = {
    SpanKind.INTERNAL: trace_pb2.Span.SPAN_KIND_INTERNAL,
    SpanKind.SERVER: trace_pb2.Span.SPAN_KIND_SERVER,
    SpanKind.CLIENT: trace_pb2.Span.SPAN_KIND_CLIENT,
}
_FAILED: Final = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR)
_FINE: Final = trace_pb2.Status()
# Bits of a span's flags: whether it is known, and whether it is so, that the parent is in another process.
_PARENT_KNOWN: Final = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_PARENT_REMOTE: Final = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


def encoded(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """A request that holds these spans, which are all of this process."""
    by_scope: dict[str, list[trace_pb2.Span]] = {}
    for span in spans:
        scope = span.instrumentation_scope
        by_scope.setdefault(scope.name if scope else "", []).append(_span(span))
    groups = [
        trace_pb2.ScopeSpans(scope=InstrumentationScope(name=name), spans=each) for name, each in by_scope.items()
    ]
    resource = Resource(attributes=_pairs(spans[0].resource.attributes.items()) if spans else ())
    return ExportTraceServiceRequest(resource_spans=[trace_pb2.ResourceSpans(resource=resource, scope_spans=groups)])


def _span(span: ReadableSpan) -> trace_pb2.Span:
    context, parent = span.context, span.parent
    remote = _PARENT_REMOTE if parent is not None and parent.is_remote else 0
    return trace_pb2.Span(
        trace_id=_trace(context),
        span_id=_id(context),
        parent_span_id=_id(parent),
        flags=int(context.trace_flags if context else 0) | _PARENT_KNOWN | remote,
        name=span.name,
        kind=_KINDS.get(span.kind, trace_pb2.Span.SPAN_KIND_INTERNAL),
        start_time_unix_nano=span.start_time or 0,
        end_time_unix_nano=span.end_time or 0,
        attributes=_pairs(_plain(span.attributes or {}).items()),
        links=[_link(link) for link in span.links],
        status=_FAILED if span.status.status_code is StatusCode.ERROR else _FINE,
    )


def _plain(attributes: Mapping[str, object]) -> Mapping[str, object]:
    """As a dict: to go through the library's own mapping takes a lock for each of them."""
    return attributes.copy() if isinstance(attributes, MappingProxyType) else attributes


def _link(link: Link) -> trace_pb2.Span.Link:
    attributes = _pairs((link.attributes or {}).items())
    return trace_pb2.Span.Link(trace_id=_trace(link.context), span_id=_id(link.context), attributes=attributes)


def _trace(context: SpanContext | None) -> bytes:
    return context.trace_id.to_bytes(16, "big") if context is not None else b""


def _id(context: SpanContext | None) -> bytes:
    return context.span_id.to_bytes(8, "big") if context is not None else b""


def _pairs(attributes: Iterable[tuple[str, object]]) -> list[KeyValue]:
    return [_pair(name, value) for name, value in attributes]


@lru_cache(maxsize=2048, typed=True)
def _pair(name: str, value: object) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=name, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=name, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=name, value=AnyValue(double_value=value))
    return KeyValue(key=name, value=AnyValue(string_value=str(value)))
