"""The proxy beside Chromium: one on loopback for each page, through which all of that page's traffic goes.

Invariants: nothing is connected but by the page's way, which checks; one connection carries one request, so nothing is
sent to a host it was not meant for. It looks into nothing but the first line and headers.
"""

import asyncio
import re
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape
from urllib.parse import urlsplit

from services.common.egress.streams import CHUNK_BYTES, HEAD_BYTES, TooMuchError, both, closed, relay
from services.common.egress.ways import Refused, RefusedError, Way

__all__ = ["Egress"]

_HEAD_S = 120.0  # Chromium opens connections before it needs them
_REMEMBERED = 50
_HOP_BY_HOP = {b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"upgrade"}
_HOST = re.compile(r"[\w.:%~-]{1,255}", re.ASCII)


@dataclass(frozen=True)
class _Request:
    method: str
    host: str
    port: int
    head: bytes  # what goes to the origin; empty for CONNECT
    body_bytes: int | None  # None: chunked

    @property
    def tunnel(self) -> bool:
        return self.method == "CONNECT"


class Egress:
    """One page's way out. Made by `Egress.open`.

    Args:
        way: How hosts are reached.
        answer_bytes: The most one connection may bring; then it is cut.
    """

    def __init__(self, way: Way, answer_bytes: int | None = None) -> None:
        self._way = way
        self._answer_bytes = answer_bytes
        self._refused: deque[Refused] = deque(maxlen=_REMEMBERED)
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, way: Way, answer_bytes: int | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> AsyncIterator["Egress"]:
        """Listening inside the block; every connection is cut after it.

        Args:
            way: How hosts are reached.
            answer_bytes: The most one connection may bring; then it is cut.
            host: Address to listen on.
            port: 0 for a free one.

        Raises:
            OSError: It cannot be listened on.
        """
        egress = cls(way, answer_bytes)
        server = await asyncio.start_server(egress._accept, host, port, limit=HEAD_BYTES)
        egress.port = server.sockets[0].getsockname()[1]
        try:
            yield egress
        finally:
            server.close()
            connections = list(egress._connections)
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            await server.wait_closed()

    def take_refused(self) -> list[Refused]:
        """What was not let out since the last time."""
        taken = list(self._refused)
        self._refused.clear()
        return taken

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # either side went away, or what came was no request: there is nobody to tell
        except asyncio.CancelledError:
            pass  # the page was closed; the streams' own machinery would report a cancelled handler
        finally:
            await closed(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_S):
            request = _parsed(await reader.readuntil(b"\r\n\r\n"))
        try:
            origin = await self._way.connected(request.host, request.port)
        except RefusedError as error:
            self._refused.append(error.refused)
            text = _refusal_page(error.refused).encode()
            head = f"HTTP/1.1 {error.status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(text)}"
            writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + text)
            await writer.drain()
            return
        most = self._answer_bytes
        try:
            if request.tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await both(relay(reader, origin[1]), relay(origin[0], writer, most))
            else:
                origin[1].write(request.head)
                await both(_send_body(reader, origin[1], request.body_bytes), _answer(origin[0], writer, most))
        except TooMuchError:
            reason = f"sent more than {(most or 0) >> 20} MiB in one connection, which was cut"
            self._refused.append(Refused(request.host, request.port, reason, cut=True))
            _reset(writer)
        finally:
            await closed(origin[1])


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that nobody takes what came for the whole."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _refusal_page(refused: Refused) -> str:
    # With an icon of its own: Chromium would ask for the host's, late, and the refusal be told with a later page.
    return f'<link rel="icon" href="data:,"><p>{escape(f"{refused.host} {refused.reason}")}</p>\n'


def _parsed(head: bytes) -> _Request:
    """The request a browser sent to its proxy (RFC 9112, 3.2.2 and 3.2.3).

    Raises:
        ValueError: It is not one.
    """
    first, *lines = head[:-4].split(b"\r\n")
    method, target, _ = first.decode("ascii").split(" ")
    url = urlsplit(f"//{target}" if method == "CONNECT" else target)
    if not _HOST.fullmatch(url.hostname or ""):
        raise ValueError("a proxy is asked for hosts only")
    if method == "CONNECT":
        return _Request(method, url.hostname or "", url.port or 443, b"", 0)
    if url.scheme != "http" or not url.hostname:
        raise ValueError("a proxy is asked for http URLs only")
    fields = [line for line in lines if line.partition(b":")[0].strip().lower() not in _HOP_BY_HOP]
    path = target[len("http://") + len(url.netloc) :] or "/"
    sent = b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *fields, b"Connection: close"])
    return _Request(method, url.hostname, url.port or 80, sent + b"\r\n\r\n", _body_bytes(fields))


def _body_bytes(fields: list[bytes]) -> int | None:
    values = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in fields)}
    if b"transfer-encoding" in values:
        return None
    return int(values.get(b"content-length", b"0"))


async def _send_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int | None) -> None:
    """Exactly one request's body, then wait for the browser to leave: what it sends after that belongs to nobody."""
    if size is None:
        await _send_chunked(reader, writer)
    left = size or 0
    while left > 0 and (chunk := await reader.read(min(left, CHUNK_BYTES))):
        left -= len(chunk)
        writer.write(chunk)
        await writer.drain()
    await reader.read(1)
    raise ConnectionAbortedError


async def _send_chunked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    size = -1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        writer.write(line + await reader.readexactly(size + 2))
        await writer.drain()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> None:
    """The origin's answer, told to be the last one on this connection whatever the origin thinks."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *fields = head[:-4].split(b"\r\n")
        if not first.partition(b" ")[2].startswith(b"1"):
            break  # not an interim answer
    kept = [line for line in fields if line.partition(b":")[0].strip().lower() not in _HOP_BY_HOP]
    writer.write(b"\r\n".join([first, *kept, b"Connection: close"]) + b"\r\n\r\n")
    await relay(reader, writer, most)
