"""Traces as Jaeger has them, asked by its API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from tests.support.otlp import Taken

MOST = 1500


def trace(url: str, trace_id: str) -> list[Taken]:
    """The spans of a trace; none while Jaeger does not know it."""
    answer = httpx.get(f"{url}/api/traces/{trace_id}", timeout=30, trust_env=False)
    found = answer.json().get("data") if answer.is_success else None
    return [span for each in found or () for span in _spans(each)]


def spans(url: str, service: str, operation: str, since_s: float) -> list[Taken]:
    """All spans of a service under one name, of the traces that have one and began since then.

    Args:
        url: Jaeger's API.
        service: Whose, as a process calls itself.
        operation: The name.
        since_s: Seconds since the epoch.
    """
    asked = {"service": service, "operation": operation, "start": str(round(since_s * 1e6)), "limit": str(MOST)}
    answer = httpx.get(f"{url}/api/traces", params=asked, timeout=30, trust_env=False)
    found = [span for each in answer.raise_for_status().json()["data"] for span in _spans(each)]
    return [span for span in found if (span.service, span.name) == (service, operation)]


def _spans(found: Mapping[str, Any]) -> Iterator[Taken]:
    processes = found["processes"]
    for span in found["spans"]:
        about = {tag["key"]: tag["value"] for tag in span["tags"]}
        parents = [one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"]
        yield Taken(
            service=processes[span["processID"]]["serviceName"],
            name=span["operationName"],
            kind=str(about.get("span.kind", "internal")),
            trace=span["traceID"],
            span=span["spanID"],
            parent=parents[0] if parents else "",
            links=tuple(one["spanID"] for one in span["references"] if one["refType"] != "CHILD_OF"),
            about=about,
            resource={tag["key"]: tag["value"] for tag in processes[span["processID"]]["tags"]},
            failed=bool(about.get("error")),
            said=str(about.get("otel.status_description", "")),
        )
