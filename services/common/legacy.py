"""How handshake-era requests are answered: tool calls as an event stream, everything else as one JSON body.

A stream carries progress, and hanging up cancels the tool. A list needs neither, and as a stream it has no length:
through Traefik 3.7 about 1 in 1,000 lists of 29 KB broke off with "use of closed network connection" (never straight
from the service, and 0 of 5,000 answers with a content length). So what needs no stream gets a length. The price:
hanging up no longer cancels the reading of a resource or a prompt.
"""

import json
from collections import deque
from typing import Final

from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LegacyByMethod", "method_of"]

_VERSION_HEADER: Final = MCP_PROTOCOL_VERSION_HEADER.encode()
_MODERN: Final = frozenset(version.encode() for version in MODERN_PROTOCOL_VERSIONS)


class LegacyByMethod:
    """ASGI application that gives each handshake-era request to the manager that answers it best.

    Args:
        streaming: Answers with event streams; serves the modern era too.
        whole: Answers with one JSON body.
        max_body_bytes: What is read to find the method. A longer body goes on unread to `streaming`, which refuses it.
    """

    def __init__(self, streaming: ASGIApp, whole: ASGIApp, *, max_body_bytes: int) -> None:
        self._streaming = streaming
        self._whole = whole
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = dict(scope["headers"])
        if headers.get(_VERSION_HEADER) in _MODERN or self._declares_too_much(headers.get(b"content-length", b"")):
            await self._streaming(scope, receive, send)
            return
        read, size = await _read(receive, self._max_body_bytes)
        streams = size > self._max_body_bytes or _method_in(read) == "tools/call"
        await (self._streaming if streams else self._whole)(scope, _replayed(read, receive), send)

    def _declares_too_much(self, content_length: bytes) -> bool:
        return content_length.isdigit() and int(content_length) > self._max_body_bytes


def method_of(body: bytes) -> str | None:
    """The JSON-RPC method a body asks for; None if it is not a single request, which the SDK will say."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    method = message.get("method") if isinstance(message, dict) else None
    return method if isinstance(method, str) else None


async def _read(receive: Receive, at_most: int) -> tuple[deque[Message], int]:
    """The messages of a body up to its end, to the caller's hanging up, or to the first one past the bound."""
    read: deque[Message] = deque()
    size = 0
    while size <= at_most:
        message = await receive()
        read.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return read, size


def _method_in(read: deque[Message]) -> str | None:
    return method_of(b"".join(message.get("body", b"") for message in read))


def _replayed(read: deque[Message], receive: Receive) -> Receive:
    async def replay() -> Message:
        return read.popleft() if read else await receive()

    return replay
