"""Sockets and Hypercorn: bound before anything starts, closed on our word.

Ports are bound here and handed over as file descriptors, so that a free port is known before the server runs and cannot
be lost in between.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import Framework
from starlette.types import ASGIApp

from services.common.connections import prepare

__all__ = ["Listener", "advertised_address", "bind", "listening", "own_address"]

# The gate keeps idle connections for 90 s; closing first would fail a call now and then with 502.
KEEP_ALIVE_S: Final = 120.0
NEVER: Final = 2**62
BACKLOG: Final = 1024
CLOSE_WITHIN_S: Final = 2.0
HANDSHAKE_S: Final = 5.0


@dataclass(frozen=True)
class Listener:
    """A bound socket."""

    sock: socket.socket
    host: str
    port: int


def bind(host: str, port: int) -> Listener:
    """Bind a TCP port.

    Args:
        host: Address to listen on.
        port: 0 for a free one.

    Raises:
        OSError: It is taken, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return Listener(sock, host, sock.getsockname()[1])


def advertised_address(host: str, consul_url: str) -> str:
    """The address others reach this instance at: `host`, or for a wildcard the one that leads to Consul."""
    if host not in ("0.0.0.0", "::"):
        return host
    target = urlsplit(consul_url).hostname or "127.0.0.1"
    family = socket.AF_INET6 if host == "::" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))  # sends nothing: it only picks the route
        return str(probe.getsockname()[0])


def own_address(listener: Listener) -> str:
    """Host and port by which this process itself reaches the listener, as a URL has them."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)
    return f"[{host}]:{listener.port}" if ":" in host else f"{host}:{listener.port}"


class _Mutual(Config):
    """With a context of our own, which is kept and renewed while the server runs."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context

    @property
    def ssl_enabled(self) -> bool:
        """Always."""
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        """Ours."""
        return self._context


def _config(listener: Listener, tls: ssl.SSLContext | None) -> Config:
    config = _Mutual(tls) if tls else Config()
    config.bind = [f"fd://{listener.sock.detach()}"]
    config.backlog = BACKLOG
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = NEVER
    config.include_server_header = False
    config.graceful_timeout = CLOSE_WITHIN_S
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.ssl_handshake_timeout = HANDSHAKE_S
    return config


@asynccontextmanager
async def listening(app: ASGIApp, listener: Listener, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """Serve `app` inside the block. Who connects from its first moment on is answered.

    On the way out idle connections are closed at once. Hypercorn waits without end for busy ones on Python 3.12 and
    later (hypercorn issue 308), so after two seconds it is not asked any longer.

    Args:
        app: What answers.
        listener: Where.
        tls: Under which certificate; None for plain HTTP.
    """
    stop = asyncio.Event()
    prepare(asyncio.get_running_loop())
    listener.sock.listen(BACKLOG)  # Hypercorn comes to it later
    server = asyncio.create_task(
        serve(cast("Framework", app), _config(listener, tls), shutdown_trigger=stop.wait, mode="asgi")
    )
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait([server], timeout=CLOSE_WITHIN_S + 1)
        server.cancel()
        with suppress(asyncio.CancelledError):
            await server
