"""An MCP server at a URL for the bridge's tests: `python remote_server.py PORT TRANSPORT`; it wants a header.

Transports: `http` keeps sessions in memory, as most servers of the handshake era do, `sse` is the one before it.
"""

from __future__ import annotations

import asyncio
import os
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send

server: MCPServer[dict[str, object]] = MCPServer("remote", instructions="From afar.")


@server.tool()
async def pid() -> str:
    """Which process this is."""
    return str(os.getpid())


@server.tool()
async def slow(steps: int, ctx: Context[dict[str, object], object]) -> str:
    """Takes a while and says so."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
        await asyncio.sleep(0.02)
    return "done"


class Guarded:
    """Refuses whoever does not show the header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"authorization") != b"Bearer sesame":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


if __name__ == "__main__":
    app = server.sse_app() if sys.argv[2] == "sse" else server.streamable_http_app()
    uvicorn.run(Guarded(app), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
