"""The official SDK's client against a gate, in either era."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import mcp
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

MODERN, LEGACY = "2026-07-28", "legacy"
ERAS = {MODERN: "2026-07-28", LEGACY: "2025-11-25"}
"""What the client is told, and what it then speaks."""
PATIENCE_S = 90.0
"""Longer than anything the platform lets a call take."""


@asynccontextmanager
async def sdk_client(url: str, key: str, mode: str, timeout_s: float = PATIENCE_S) -> AsyncIterator[mcp.Client]:
    """A connected client.

    Args:
        url: The endpoint.
        key: An API key.
        mode: One of `ERAS`.
        timeout_s: How long it waits for a byte before it hangs up.
    """
    failed: Exception | None = None
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=timeout_s) as http,
        mcp.Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        try:
            yield client
        except Exception as error:  # the SDK's task groups would wrap it in groups of groups
            failed = error
    if failed is not None:
        raise failed


@dataclass(frozen=True)
class Answer:
    """How a call was answered: with a result, a failed tool's words, a JSON-RPC error, or not at all."""

    result: dict[str, Any] | None = None
    text: str = ""
    tool_error: str = ""
    code: int = 0
    message: str = ""
    hung_up: bool = False

    @property
    def ok(self) -> bool:
        """Whether the tool did what was asked."""
        return self.result is not None

    @property
    def gone(self) -> bool:
        """Whether it says that the handle is gone."""
        return "is gone, open anew" in self.tool_error

    @property
    def may_have_run(self) -> bool:
        """Whether it says that the call was lost on its way, or after."""
        return bool(self.code) and "may have run" in self.message


async def asked(client: mcp.Client, tool: str, arguments: dict[str, Any]) -> Answer:
    """Call once; every JSON-RPC error is an answer, anything else is raised."""
    try:
        result = await client.call_tool(tool, arguments)
    except mcp.MCPError as error:
        return Answer(code=error.error.code, message=error.error.message)
    text = " ".join(part.text for part in result.content if isinstance(part, TextContent))
    if result.is_error:
        return Answer(tool_error=text)
    return Answer(result=result.structured_content or {}, text=text)


def instance_of(handle: str) -> str:
    """The instance that gave a handle."""
    return handle.partition(".")[0]
