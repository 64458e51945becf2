"""A real MCP service to put behind a gate or a bare router: the SDK's server on Hypercorn, with one tool."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


class Echo(BaseModel):
    """What the tool returns."""

    text: str


async def _well(_: Request) -> Response:
    return PlainTextResponse("ok")


def main(port: int) -> None:
    """Serve for ever on loopback, `/ready` and `/health` as well, which the gate asks for."""
    server = MCPServer("bench", version="0")

    @server.tool()
    async def bench_echo(text: str = "echo") -> Echo:
        """Say it again."""
        return Echo(text=text)

    app = server.streamable_http_app()
    app.router.routes.extend(Route(path, _well) for path in ("/ready", "/health"))
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = 120
    config.keep_alive_max_requests = 1_000_000_000
    asyncio.run(serve(cast("ASGIFramework", app), config))


if __name__ == "__main__":
    main(int(sys.argv[1]))
