"""A web site on loopback for browsers: pages by path, what was posted, and pages that misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Site", "site"]

Page = str | bytes | Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A site.

    Attributes:
        port: Where.
        pages: By path: HTML, bytes, or a function that answers.
        headers: More headers of a path's answer.
        seen: Method and path of each request.
        bodies: What was posted, by path.
    """

    port: int = 0
    pages: dict[str, Page] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.seen.append(f"{request.command} {request.path}")
        if size := int(request.headers.get("content-length") or 0):
            self.bodies[path] = request.rfile.read(size)
        page = self.pages.get(path)
        if callable(page):
            page(request)
            return
        data = page.encode() if isinstance(page, str) else page or b"none"
        headers = {"content-type": "text/html; charset=utf-8", **self.headers.get(path, {})}
        request.send_response(404 if page is None else int(headers.pop("status", "200")))
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


@contextmanager
def site() -> Iterator[Site]:
    """A site that answers inside the block."""
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(ConnectionError):
                made.answer(self)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
