"""A collector of spans: OTLP by gRPC, as the protocol's own generated service takes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.gate import wait_until

KINDS = {1: "internal", 2: "server", 3: "client"}
WAIT_S = 30.0


@dataclass(frozen=True)
class Taken:
    """A span that came.

    Attributes:
        service: Whose it is.
        links: Ids of the spans it is linked to.
        about: Its attributes.
        resource: Those of its process.
    """

    service: str
    name: str
    kind: str
    trace: str
    span: str
    parent: str
    links: tuple[str, ...]
    about: dict[str, object]
    resource: dict[str, object]
    failed: bool
    said: str

    @property
    def label(self) -> str:
        """Whose it is, what kind and which."""
        return f"{self.service}: {self.kind} {self.name}"


@dataclass
class Collector:
    """What has come so far."""

    url: str = ""
    spans: list[Taken] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    def named(self, name: str) -> list[Taken]:
        """Spans of that name."""
        return [one for one in list(self.spans) if one.name == name]

    def of(self, trace: str) -> list[Taken]:
        """Spans of a trace."""
        return [one for one in list(self.spans) if one.trace == trace]

    def wait(self, name: str, count: int = 1) -> list[Taken]:
        """So many spans of that name, once they have come."""
        wait_until(lambda: len(self.named(name)) >= count, f"{count} x {name!r}; there are {self.labels()}", WAIT_S)
        return self.named(name)

    def labels(self) -> list[str]:
        """All spans, in words."""
        return sorted({one.label for one in list(self.spans)})

    def tree(self, trace: str, aside: str = "") -> list[str]:
        """A trace as an outline, children below their parents by name; without spans of the label `aside`."""
        spans = [one for one in self.of(trace) if one.label != aside]
        ids = {one.span for one in spans}
        lines: list[str] = []

        def add(parent: str | None, depth: int) -> None:
            below = [one for one in spans if (one.parent if one.parent in ids else None) == parent]
            for one in sorted(below, key=lambda each: each.label):
                lines.append("  " * depth + one.label)
                add(one.span, depth + 1)

        add(None, 0)
        return lines


class _Service(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(  # the protocol's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Take a batch."""
        while self._collector.hold.is_set() and context.is_active():
            threading.Event().wait(0.02)
        for group in request.resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                self._collector.spans += [_taken(span, resource) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


def _attributes(pairs: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in pairs:  # type: ignore[attr-defined]
        assert isinstance(pair, KeyValue)
        which = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, which) if which else None
    return found


def _taken(span: trace_pb2.Span, resource: dict[str, object]) -> Taken:
    return Taken(
        service=str(resource.get("service.name")),
        name=span.name,
        kind=KINDS.get(span.kind, str(span.kind)),
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        about=_attributes(span.attributes),
        resource=resource,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        said=span.status.message,
    )


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector that takes spans inside the block; `hold` makes it take a batch and say nothing."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(_Service(collector), server)
    collector.url = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield collector
    finally:
        collector.hold.clear()
        server.stop(0).wait()
