"""A trivial application on the kit's own listener, plain, over mutual TLS with HTTP/1.1, and with HTTP/2."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from starlette.types import Receive, Scope, Send

from services.common.listen import bind, listening
from services.common.tls import LiveContext

BODY = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the request, answer the same every time."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


async def serve(folder: Path, domain: str, ports: list[int]) -> None:
    """Serve for ever."""
    chain, key, roots = ((folder / f"{part}.pem").read_text() for part in ("chain", "key", "roots"))
    contexts = [None, *(LiveContext(server_side=True) for _ in range(2))]
    for context, protocol in zip(contexts[1:], ("http/1.1", "h2"), strict=True):
        assert context is not None
        context.protocols = (protocol,)
        context.renew(chain=chain, key=key, roots=roots, domains=frozenset({domain}))
    async with AsyncExitStack() as stack:
        for context, port in zip(contexts, ports, strict=True):
            await stack.enter_async_context(listening(answer, bind("127.0.0.1", port), context))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], [int(port) for port in sys.argv[3:]]))
