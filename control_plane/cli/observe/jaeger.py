"""One trace from Jaeger, as a tree of spans. Jaeger's own API (`/api/traces/<id>`), times in microseconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from compose.local.errors import LocalError
from compose.local.exits import Exit
from control_plane.cli.observe.asking import asking

__all__ = ["Jaeger", "JaegerFailed", "Span", "as_tree", "spans_of"]

TIMEOUT_S = 20.0
_OUTCOMES = ("tekup.outcome", "outcome", "http.response.status_code", "http.status_code", "rpc.grpc.status_code")


class JaegerFailed(LocalError):
    """Jaeger does not answer, or not as it should."""

    exit_code = Exit.FAILED


@dataclass(frozen=True)
class Span:
    """Something a process did for a call.

    Args:
        id: Its own.
        parent: The span it is part of, "" for none.
        service: Whose.
        name: What.
        start_us: When it began, microseconds since the epoch.
        duration_us: How long it took.
        tags: What else is known of it.
    """

    id: str
    parent: str
    service: str
    name: str
    start_us: int
    duration_us: int
    tags: Mapping[str, Any]

    @property
    def outcome(self) -> str:
        """How it ended, "" where it does not say."""
        said = next((str(self.tags[name]) for name in _OUTCOMES if self.tags.get(name) not in (None, "")), "")
        failed = self.tags.get("error") in (True, "true") or self.tags.get("otel.status_code") == "ERROR"
        return f"{said} error".strip() if failed and said != "error" else said


class Jaeger:
    """A Jaeger.

    Args:
        url: Where its API is.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def trace(self, trace_id: str) -> tuple[Span, ...]:
        """The spans of a trace, none where it knows of no such trace.

        Raises:
            JaegerFailed: It did not tell.
        """
        with asking("Jaeger", self.url, JaegerFailed):
            answer = httpx.get(f"{self.url}/api/traces/{trace_id}", timeout=TIMEOUT_S, trust_env=False)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return ()
            if not answer.is_success:
                raise JaegerFailed(f"Jaeger at {self.url} answered {answer.status_code}: {answer.text.strip()[:300]}")
            return spans_of(answer.json())


def spans_of(answer: Mapping[str, Any]) -> tuple[Span, ...]:
    """The spans in an answer of Jaeger, in the order they began."""
    spans = []
    for trace in answer["data"] or ():
        services = {key: value["serviceName"] for key, value in trace["processes"].items()}
        for span in trace["spans"]:
            parents = [ref["spanID"] for ref in span.get("references") or () if ref["refType"] == "CHILD_OF"]
            tags = {tag["key"]: tag["value"] for tag in span.get("tags") or ()}
            service = services.get(span["processID"], "")
            at, took = int(span["startTime"]), int(span["duration"])
            parent = next(iter(parents), "")
            spans.append(Span(span["spanID"], parent, service, span["operationName"], at, took, tags))
    return tuple(sorted(spans, key=lambda span: (span.start_us, -span.duration_us)))


def as_tree(spans: Sequence[Span]) -> Iterator[tuple[int, Span]]:
    """Each span with its depth, below the one it is part of; one whose parent is not there counts as a root."""
    known, children = {span.id for span in spans}, dict[str, list[Span]]()
    for span in spans:
        parent = span.parent if span.parent in known and span.parent != span.id else ""
        children.setdefault(parent, []).append(span)
    waiting = [(0, span) for span in reversed(children.pop("", []))]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting += [(depth + 1, child) for child in reversed(children.pop(span.id, []))]
