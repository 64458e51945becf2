"""JSON-RPC errors as whole HTTP answers, for requests that never reach the SDK.

A plain-text 4xx makes clients of both eras believe the server is of the other one (specification 2026-07-28,
basic/transports/streamable-http), so whatever this platform refuses, it refuses in JSON-RPC.
"""

import json
from collections.abc import Mapping
from typing import Final

from starlette.types import Send

__all__ = ["HEADER_MISMATCH", "UNSUPPORTED_VERSION", "Refusal", "refuse"]

HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022


class Refusal(Exception):  # it is an answer, not an accident
    """A request is answered with an error.

    Args:
        status: HTTP status.
        code: JSON-RPC code.
        message: What was wrong, where, and what to do.
        data: More for programs.
        headers: More response headers.
    """

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        *,
        data: Mapping[str, object] | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.data = data
        self.headers = headers


async def refuse(refusal: Refusal, send: Send) -> None:
    """Send `refusal` as the whole answer."""
    error: dict[str, object] = {"code": refusal.code, "message": refusal.message}
    if refusal.data is not None:
        error["data"] = refusal.data
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
