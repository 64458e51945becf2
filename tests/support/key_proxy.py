"""A loopback proxy that adds an API key, for clients that cannot send one. All else passes unchanged, Host included."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

CHUNK = 65536
END_OF_HEAD = b"\r\n\r\n"
CONNECT_S = 10.0
GRACE_S = 10.0


class _Exchange(socketserver.BaseRequestHandler):
    """One connection, which carries one request."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        received = b""
        while END_OF_HEAD not in received:
            chunk = self.request.recv(CHUNK)
            if not chunk:
                return
            received += chunk
        head, _, body = received.partition(END_OF_HEAD)
        with socket.create_connection(self.server.target, CONNECT_S) as upstream:
            upstream.settimeout(None)
            upstream.sendall(self._with_key(head) + END_OF_HEAD + body)
            up = threading.Thread(target=_pump, args=(self.request, upstream), daemon=True)
            up.start()
            _carry(upstream, self.request)
            # An answer says where it ends, so its reader hangs up. Undici fails whoever closes while it still reads.
            up.join(GRACE_S)
            _end(upstream, self.request)
            up.join()

    def _with_key(self, head: bytes) -> bytes:
        """One request per connection, so that no other head has to be found in what follows."""
        first, *lines = head.split(b"\r\n")
        unwanted = (b"connection:", *self.server.drop)
        kept = [line for line in lines if not line.lower().startswith(unwanted)]
        return b"\r\n".join((first, *kept, *self.server.add, b"Connection: close"))


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry until one side ends, then end both: a client that hangs up must be noticed behind."""
    _carry(source, sink)
    _end(source, sink)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            sink.sendall(chunk)


def _end(*sides: socket.socket) -> None:
    for side in sides:
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: tuple[str, int], add: tuple[bytes, ...], drop: tuple[bytes, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.target = target
        self.add = add
        self.drop = drop


@contextlib.contextmanager
def key_proxy(url: str, key: str = "", drop: str = "") -> Iterator[str]:
    """Run a proxy while the block lasts.

    Args:
        url: Where it leads, `http://host:port`.
        key: The API key to add.
        drop: Headers whose names begin so are lost on the way, as a faulty gate might lose them.

    Returns:
        Its own address, `http://host:port`.
    """
    to = urlsplit(url)
    assert to.hostname
    assert to.port
    add = (f"Authorization: Bearer {key}".encode(),) if key else ()
    with _Server((to.hostname, to.port), add, (drop.lower().encode(),) if drop else ()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
