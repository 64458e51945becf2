"""How a process of ours shows its metrics: one text for all of them, in the form the reader asks for.

OpenMetrics is the form that carries exemplars; whoever does not ask for it gets Prometheus's plain text. When a series
began (`…_created`) is shown in neither: nothing reads it, and it would be a second series beside each counter.
"""

from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

__all__ = ["exposed"]

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def exposed(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Everything in a registry, as whoever asks can read it.

    Args:
        registry: What is shown.
        accept: The `Accept` header of the request, "" without one.

    Returns:
        The text and its media type.
    """
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
