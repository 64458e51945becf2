"""What an instance tells the control plane of itself: asked as its tools are, through the gate, which alone leads to
every instance wherever it runs."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from starlette.types import Receive, Send

from services.common.jsonrpc import Refusal, refuse

__all__ = ["COPIES", "LOAD", "Tell", "Telling"]

LOAD: Final = b"dev.tekup/load"
COPIES: Final = b"dev.tekup/copies"
MAX_BYTES: Final = 64 << 10
_METHOD_HEADER: Final = b"mcp-method"

Tell = Callable[[], Awaitable[Mapping[str, Any]]]


class Telling:
    """Answers methods of our own; who asks is checked before.

    Args:
        by_method: What is told, by JSON-RPC method.
    """

    def __init__(self, by_method: Mapping[bytes, Tell]) -> None:
        self._by_method = by_method

    def asked(self, headers: Iterable[tuple[bytes, bytes]]) -> Tell | None:
        """What a request wants told, by its `Mcp-Method`; None for every other request."""
        for name, value in headers:
            if name == _METHOD_HEADER:
                return self._by_method.get(value)
        return None

    async def answer(self, tell: Tell, whose: Iterable[tuple[bytes, bytes]], receive: Receive, send: Send) -> None:
        """Tell it under the headers that name this instance, or refuse what is no request."""
        identity = await _id_of(receive)
        if identity is None:
            await refuse(Refusal(400, -32600, "the body is no JSON-RPC request"), send)
            return
        body = json.dumps({"jsonrpc": "2.0", "id": identity, "result": {"resultType": "complete", **await tell()}})
        sent = body.encode()
        headers = [
            (b"content-type", b"application/json"), (b"content-length", str(len(sent)).encode()), *whose,
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": sent})


async def _id_of(receive: Receive) -> str | int | None:
    read, more = b"", True
    while more and len(read) <= MAX_BYTES:
        message = await receive()
        read += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    try:
        identity = json.loads(read)["id"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return identity if isinstance(identity, str | int) else None
