"""A server at a URL: the SDK's transports, with the headers that the declaration's files hold now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from services.bridge.child import Link, Usage
from services.bridge.declaration import Declaration, Transport
from services.bridge.oauth import authorization

__all__ = ["connected"]

CONNECT_S: Final = 10.0
# A stream may be quiet for as long as its call takes; each call has its own deadline, and each sign of life.
_TIMEOUT: Final = httpx2.Timeout(CONNECT_S, read=None)


@asynccontextmanager
async def connected(declaration: Declaration, proxy: str = "") -> AsyncIterator[Link]:
    """Connected to a declaration's URL inside the block.

    Args:
        declaration: To what.
        proxy: A proxy's URL, the one way out; "" for none.

    Raises:
        BadDeclaration: Its secrets cannot be read.
        httpx2.HTTPError: It cannot be reached (SSE; the other transport connects with the first request).
    """
    headers, auth = declaration.all_headers(), authorization(declaration)
    ended = asyncio.Event()
    if declaration.transport is Transport.SSE:

        def client(
            headers: dict[str, Any] | None = None,
            timeout: httpx2.Timeout | None = None,
            auth: httpx2.Auth | None = None,
        ) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth, proxy=proxy or None, trust_env=False)

        transport = sse_client(
            declaration.url, headers=headers, timeout=CONNECT_S, sse_read_timeout=24 * 3600.0,
            httpx_client_factory=client, auth=auth,
        )  # fmt: skip
        async with transport as (read, write):
            yield Link(cast("Any", read), cast("Any", write), ended, _why, Usage)
        return
    # Redirects stay the SDK's business, which follows none to another origin: the headers are secrets.
    async with (
        httpx2.AsyncClient(headers=headers, timeout=_TIMEOUT, auth=auth, proxy=proxy or None, trust_env=False) as http,
        streamable_http_client(declaration.url, http_client=http) as (read, write),
    ):
        yield Link(cast("Any", read), cast("Any", write), ended, _why, Usage)


def _why() -> str:
    return "its connection ended"
