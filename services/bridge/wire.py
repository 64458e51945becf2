"""Requests straight on a child's pipes, beside the SDK's dispatcher, which has all other messages.

For the dispatcher a request is two models, two streams and a span on its way there, and two more on its way back: with
a child that answers at once a third of a call's time. It keeps what has progress to tell.
"""

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any, Final

from mcp import MCPError
from mcp.shared.dispatcher import as_request_id, coerce_request_id
from mcp_types import CONNECTION_CLOSED, JSONRPCError
from pydantic import ValidationError
from pydantic_core import from_json

__all__ = ["CLOSED", "Wire"]

CLOSED: Final = "Connection closed"
"""As the SDK's dispatcher says it."""
FIRST_ID: Final = 1_000_000_000
"""The dispatcher counts from one; some servers hold a number in 32 bits."""


class Wire:
    """A child's pipes, for requests.

    Args:
        pipe: What the child reads.
    """

    def __init__(self, pipe: asyncio.StreamWriter) -> None:
        self._pipe = pipe
        self._numbers = itertools.count(FIRST_ID)
        self._waiting: dict[int | str, asyncio.Future[dict[str, Any]]] = {}
        self._over = False

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its result; whoever stops waiting has cancelled it.

        Args:
            method: JSON-RPC method.
            params: Its parameters.

        Raises:
            MCPError: The child refused; or `CONNECTION_CLOSED` with the message `CLOSED`.
        """
        message = {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}
        try:
            await self._pipe.drain()  # before, so that no more is held of what it does not read
        except OSError:
            self.end()
        if self._over:
            raise MCPError(CONNECTION_CLOSED, CLOSED)
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._write({**message, "id": number})
        try:
            return await answer
        except asyncio.CancelledError:
            cancelled = {"requestId": number, "reason": "caller cancelled"}
            self._write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled})
            raise
        finally:
            self._waiting.pop(number, None)

    def take(self, line: bytes) -> bool:
        """Whether what the child wrote is an answer to a request of this kind; then it is given to who waits."""
        if not self._waiting:
            return False
        try:
            message = from_json(line)
        except ValueError:
            return False
        if not isinstance(message, dict) or "method" in message or message.get("jsonrpc") != "2.0":
            return False
        number = as_request_id(message.get("id"))
        answer = None if number is None else self._waiting.get(coerce_request_id(number))
        if answer is None or answer.done():
            return False
        if isinstance(result := message.get("result"), dict):
            answer.set_result(result)
            return True
        try:
            error = JSONRPCError.model_validate(message, by_name=False).error
        except ValidationError:
            return False
        answer.set_exception(MCPError(error.code, error.message, error.data))
        return True

    def end(self) -> None:
        """Nothing more comes: tell who waits."""
        self._over = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(MCPError(CONNECTION_CLOSED, CLOSED))

    def _write(self, message: Mapping[str, Any]) -> None:
        self._pipe.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
