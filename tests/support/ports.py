"""Ports nobody else will take before the process a test starts has bound them."""

from __future__ import annotations

import itertools
import os
import random
import socket

LOWEST, BEYOND = 10_100, 15_000
"""Below what `compose.local.ports` hands out (15000-31999), what Linux takes for outgoing connections (32768-60999)
and above the last port browsers refuse (10080)."""
WORKERS = 4


def _own_slice() -> range:
    # each pytest worker hands out from a slice of its own: between choosing a port and binding it lies a process start
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    size = (BEYOND - LOWEST) // WORKERS
    return range(LOWEST + worker * size, LOWEST + (worker + 1) * size)


_slice = _own_slice()
_offsets = itertools.count(random.randrange(len(_slice)))


def free_port() -> int:
    """A port nobody holds now on any address; not handed out again before the whole slice was.

    Raises:
        RuntimeError: Everything is taken.
    """
    for offset in itertools.islice(_offsets, len(_slice)):
        port = _slice[offset % len(_slice)]
        if _is_free(port, socket.SOCK_STREAM) and _is_free(port, socket.SOCK_DGRAM):
            return port
    raise RuntimeError(f"no free port in {_slice}")


def free_ports(count: int) -> list[int]:
    """As many as asked for of :func:`free_port`."""
    return [free_port() for _ in range(count)]


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True
