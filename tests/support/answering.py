"""A server that gives recorded answers, for readers of other programs' HTTP APIs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self


class Answering(ThreadingHTTPServer):
    """Answers by path, with 404 elsewhere; a context manager.

    Args:
        answers: What is answered, as JSON, by path.
        status: The status of these answers.
    """

    def __init__(self, answers: Mapping[str, object], status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.status = status
        self.asked: list[str] = []
        """Paths with their queries, and bodies after a blank."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.asked.append(f"{self.path} {body}".strip())
        answer = self.server.answers.get(self.path.partition("?")[0])
        data = json.dumps(answer if answer is not None else {"errors": [{"code": 404}]}).encode()
        self.send_response(404 if answer is None else self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
