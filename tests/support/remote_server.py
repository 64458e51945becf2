"""An MCP server at a URL for the bridge's tests: `python remote_server.py PORT TRANSPORT [ISSUER]`; it wants a header.

Transports: `http` keeps sessions in memory, as most servers of the handshake era do, `sse` is the one before it. With
an issuer it takes that one's tokens for itself, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import sys

import jwt
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send

PORT, TRANSPORT, ISSUER = (*sys.argv[1:], "")[:3]
URL = f"http://127.0.0.1:{PORT}/mcp"


class Verifier:
    """Takes what the issuer signed for this server."""

    def __init__(self) -> None:
        self._keys = jwt.PyJWKClient(f"{ISSUER}/jwks")

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            key = await asyncio.to_thread(self._keys.get_signing_key_from_jwt, token)
            said = jwt.decode(token, key, algorithms=["RS256"], audience=URL, issuer=ISSUER)
        except jwt.PyJWTError:
            return None
        scopes = str(said.get("scope", "")).split()
        return AccessToken(
            token=token, client_id=said["client_id"], scopes=scopes, expires_at=said["exp"], resource=URL
        )


def made() -> MCPServer[dict[str, object]]:
    if not ISSUER:
        return MCPServer("remote", instructions="From afar.")
    auth = AuthSettings.model_validate({
        "issuer_url": ISSUER, "resource_server_url": URL, "required_scopes": ["mcp:ledger"],
        "validate_token_resource": True,
    })  # fmt: skip
    return MCPServer("remote", token_verifier=Verifier(), auth=auth)


server = made()


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
    app = server.sse_app() if TRANSPORT == "sse" else server.streamable_http_app()
    uvicorn.run(app if ISSUER else Guarded(app), host="127.0.0.1", port=int(PORT), log_level="warning")
