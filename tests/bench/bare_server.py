"""The peer of a kit service: the bare SDK server on Hypercorn, with one tool of the same weight."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel


class Roots(BaseModel):
    """What the tool returns."""

    roots: list[str]


def main(port: int) -> None:
    """Serve for ever on loopback."""
    server = MCPServer("filesystem", version="0")

    @server.tool()
    async def filesystem_list_roots() -> Roots:
        """List the roots."""
        return Roots(roots=["/srv"])

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = 120
    config.keep_alive_max_requests = 1_000_000_000
    asyncio.run(serve(cast("ASGIFramework", server.streamable_http_app()), config))


if __name__ == "__main__":
    main(int(sys.argv[1]))
