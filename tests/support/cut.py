"""A loopback TCP proxy that can go dark: what is on its way then arrives late, once it is light again; or be slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

CHUNK = 65536


class Cut:
    """One proxy. A side that hangs up is not told to the other, as on a line that is cut.

    Args:
        url: Where it leads, `http://host:port`.
    """

    def __init__(self, url: str) -> None:
        to = urlsplit(url)
        self._target = (to.hostname or "", to.port or 0)
        self._light = asyncio.Event()
        self._light.set()
        self._trigger = b""
        self._delay_s = 0.0
        self._lines: set[asyncio.Task[None]] = set()
        self.url = ""
        self.late = b""
        """What was answered to those whose question went in while it was dark."""

    def cut(self) -> None:
        """Let nothing through from now on."""
        self._light.clear()

    def cut_at(self, words: bytes) -> None:
        """Go dark as soon as somebody sends these words, which are kept back."""
        self._trigger = words

    def delay(self, seconds: float) -> None:
        """Carry everything so much later from now on, each way."""
        self._delay_s = seconds

    async def dark(self) -> bool:
        """Whether it is dark now."""
        return not self._light.is_set()

    def heal(self) -> None:
        """Let everything through, what was kept back first."""
        self._trigger = b""
        self._light.set()

    async def line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until the proxy ends."""
        task = asyncio.current_task()
        assert task
        self._lines.add(task)
        kept_back = asyncio.Event()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, onward = await asyncio.open_connection(*self._target)
            up = asyncio.create_task(self._up(reader, onward, kept_back))
            try:
                await self._down(there, writer, kept_back)
            finally:
                up.cancel()
                onward.close()
        writer.close()
        self._lines.discard(task)

    async def _up(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter, kept_back: asyncio.Event) -> None:
        while chunk := await reader.read(CHUNK):
            if self._trigger and self._trigger in chunk:
                self.cut()
            if not self._light.is_set():
                kept_back.set()
                await self._light.wait()
            await asyncio.sleep(self._delay_s)
            onward.write(chunk)

    async def _down(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, kept_back: asyncio.Event) -> None:
        while chunk := await there.read(CHUNK):
            await self._light.wait()
            await asyncio.sleep(self._delay_s)
            if kept_back.is_set():
                self.late += chunk
            if not writer.is_closing():
                writer.write(chunk)

    def end(self) -> None:
        """End every connection."""
        for line in self._lines:
            line.cancel()


@contextlib.asynccontextmanager
async def cut_proxy(url: str) -> AsyncIterator[Cut]:
    """Run a proxy in this loop while the block lasts."""
    proxy = Cut(url)
    server = await asyncio.start_server(proxy.line, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.end()
