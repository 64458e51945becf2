"""Spans as bytes of OTLP, made for what ours are: few attributes, of few values, no events.

Messages of protocol buffers that stand one behind the other are one message, and of a span all that differs from the
last of its kind (ids, times, flags) has a fixed length. So a span is those, packed, behind what the library made once
of its name, attributes and status: 3 microseconds, where the library takes 40. As bytes it is also nothing that
Python's garbage collector goes through while it waits to be sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.trace import SpanContext, SpanKind

__all__ = ["request_of", "resource_of", "span_of"]

_KINDS: Final = {
    SpanKind.INTERNAL: trace_pb2.Span.SPAN_KIND_INTERNAL,
    SpanKind.SERVER: trace_pb2.Span.SPAN_KIND_SERVER,
    SpanKind.CLIENT: trace_pb2.Span.SPAN_KIND_CLIENT,
}
_FAILED: Final = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR)
# Bits of a span's flags: whether it is known, and whether it is so, that the parent is in another process.
_PARENT_KNOWN: Final = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_PARENT_REMOTE: Final = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
# Each field behind its tag: trace_id, span_id, start and end in ns, flags; then, where there is one, the parent's id.
_OWN: Final = struct.Struct("<2s16s2s8scQcQ2sI")
_PARENT: Final = struct.Struct("<2s8s")
_SPANS, _SCOPE_SPANS, _RESOURCE_SPANS = b"\x12", b"\x12", b"\x0a"
_INT64: Final = 1 << 63


def span_of(
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, object],
    *,
    failed: bool,
    context: SpanContext,
    parent: SpanContext | None,
    link: SpanContext | None,
    start_ns: int,
    end_ns: int,
) -> bytes:
    """A span, with the tag and the length that it has in its group.

    Args:
        name: What was done.
        kind: By whom.
        attributes: Texts and numbers.
        failed: Whether it ended with an error.
        context: Its ids.
        parent: What it is a step of.
        link: The gate's span, where that is not the parent.
        start_ns: When it began, since the epoch.
        end_ns: When it ended.
    """
    flags = context.trace_flags | _PARENT_KNOWN
    if parent is not None and parent.is_remote:
        flags |= _PARENT_REMOTE
    own = _OWN.pack(
        b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big"),
        b"\x39", start_ns, b"\x41", end_ns, b"\x85\x01", flags,
    )  # fmt: skip
    made = own + _said(name, kind, failed, *attributes, *attributes.values())
    if parent is not None:
        made += _PARENT.pack(b"\x22\x08", parent.span_id.to_bytes(8, "big"))
    if link is not None:
        made += _linked(link)
    return _SPANS + _length(len(made)) + made


def resource_of(attributes: Mapping[str, object]) -> bytes:
    """Whose spans they are, as the beginning of a group of them."""
    resource = Resource(attributes=[_pair(name, value) for name, value in attributes.items()])
    made: bytes = trace_pb2.ResourceSpans(resource=resource).SerializeToString()
    return made


def request_of(resource: bytes, spans: Iterable[tuple[str, bytes]]) -> bytes:
    """What a collector is sent.

    Args:
        resource: From `resource_of`.
        spans: Each from `span_of`, with the name of the library that made it.
    """
    by_scope: dict[str, list[bytes]] = {}
    for scope, span in spans:
        by_scope.setdefault(scope, []).append(span)
    groups = [resource]
    for scope, each in by_scope.items():
        named = trace_pb2.ScopeSpans(scope=InstrumentationScope(name=scope)).SerializeToString()
        group = b"".join((named, *each))
        groups += (_SCOPE_SPANS, _length(len(group)), group)
    whole = b"".join(groups)
    return _RESOURCE_SPANS + _length(len(whole)) + whole


@lru_cache(maxsize=2048, typed=True)
def _said(name: str, kind: SpanKind, failed: bool, *pairs: object) -> bytes:
    """What a span says but for ids and times; names of attributes, then as many values."""
    half = len(pairs) // 2
    made: bytes = trace_pb2.Span(
        name=_text(name),
        kind=_KINDS.get(kind, trace_pb2.Span.SPAN_KIND_INTERNAL),
        attributes=[_pair(str(each), value) for each, value in zip(pairs[:half], pairs[half:], strict=True)],
        status=_FAILED if failed else None,
    ).SerializeToString()
    return made


def _linked(link: SpanContext) -> bytes:
    gate = trace_pb2.Span.Link(
        trace_id=link.trace_id.to_bytes(16, "big"),
        span_id=link.span_id.to_bytes(8, "big"),
        attributes=[_pair("tekup.link", "gate")],
    )
    made: bytes = trace_pb2.Span(links=[gate]).SerializeToString()
    return made


def _pair(name: str, value: object) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=name, value=AnyValue(bool_value=value))
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return KeyValue(key=name, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=name, value=AnyValue(double_value=value))
    return KeyValue(key=name, value=AnyValue(string_value=_text(str(value))))


def _text(text: str) -> str:
    """What UTF-8 can say of it: half a character of a caller must not cost a batch."""
    return text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=4096)
def _length(number: int) -> bytes:
    """A length as protocol buffers have it: seven bits a byte, the lowest first."""
    said = bytearray()
    while number > 127:
        said.append(number & 127 | 128)
        number >>= 7
    said.append(number)
    return bytes(said)
