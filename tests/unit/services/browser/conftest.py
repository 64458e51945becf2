"""A web server that does what it is told, and the real browser."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest_asyncio

from services.browser.chromium import Chromium, Launch
from tests.support.programs import program

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def page_of(body: str) -> bytes:
    raw = f"<!doctype html><title>test</title>{body}".encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s" % (
        len(raw),
        raw,
    )


def redirect_to(url: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode()


@dataclass
class Web:
    """A web server on loopback.

    Args:
        port: Its port.
        pages: What it answers, by path; 404 for the rest.
        seen: The requests' first lines and bodies.
    """

    port: int = 0
    pages: dict[str, Answer] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    page_of: Callable[[str], bytes] = page_of
    redirect_to: Callable[[str], bytes] = redirect_to

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1].partition("?")[0]
            self.seen.append(head.partition("\r\n")[0])
            found = self.pages.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone")
            if isinstance(found, bytes):
                writer.write(found)
            else:
                await found(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def _serving() -> AsyncIterator[Web]:
    web = Web()
    server = await asyncio.start_server(web.answer, "127.0.0.1", 0)
    web.port = server.sockets[0].getsockname()[1]
    try:
        yield web
    finally:
        server.close()


@pytest_asyncio.fixture(loop_scope="module")
async def web() -> AsyncIterator[Web]:
    async with _serving() as web:
        yield web


@pytest_asyncio.fixture(loop_scope="module")
async def inner() -> AsyncIterator[Web]:
    """Another server, which no page is allowed to reach."""
    async with _serving() as web:
        web.pages["/"] = page_of("the inner secret")
        yield web
        assert web.seen == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Chromium]:
    async with Chromium.running(Launch(Path(program("chromium")), "nobody")) as running:
        yield running
