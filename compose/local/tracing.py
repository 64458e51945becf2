"""What a gate's Traefik is told of traces: the block of traefik.yml that its placeholder TRACING stands for."""

import json
from typing import Final
from urllib.parse import urlsplit

__all__ = ["GATE", "gate_tracing"]

GATE: Final = "tekup-gate"
"""As which service Traefik's spans are known."""


def gate_tracing(url: str, share: float) -> str:
    """The block, in one line.

    Args:
        url: the collector, `http://host:port` or `https://…`; "" for no traces.
        share: of the calls that bring no trace of their own, how many begin one that is kept, 0 to 1.
    """
    if not url:
        return ""
    parts = urlsplit(url)
    grpc = {"endpoint": parts.netloc, "insecure": parts.scheme == "http"}
    # No header is recorded: the defaults are none, and values of `?…` are never taken.
    block = {"serviceName": GATE, "sampleRate": share, "addInternals": False, "otlp": {"grpc": grpc}}
    return f"tracing: {json.dumps(block)}"
