"""The way out: a forward proxy on loopback through which all of a page's traffic goes.

Invariants: a name is resolved once, the address is checked, and that very address is connected to, so neither a
redirect, a WebSocket, a frame nor a name that changes its mind gets around the check; one connection carries one
request, so nothing is sent to a host it was not meant for. It looks into nothing but the first line and headers.
"""

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from html import escape
from ipaddress import ip_address
from urllib.parse import urlsplit

from services.browser.addresses import Address, Policy

__all__ = ["Egress", "Refused", "Resolver", "resolve"]

_HEAD_BYTES = 64 << 10
_CHUNK_BYTES = 64 << 10
_CONNECT_S = 10.0
_CLOSE_S = 5.0
_HEAD_S = 120.0  # Chromium opens connections before it needs them
_TRIED_ADDRESSES = 3
_REMEMBERED = 50
_HOP_BY_HOP = {b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"upgrade"}

Resolver = Callable[[str, int], Awaitable[list[Address]]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Refused:
    """A request that was not let out, or could not be.

    Args:
        host: Where it wanted to go.
        port: On which port.
        reason: Why it did not get there; reads on after the host.
    """

    host: str
    port: int
    reason: str


class _RefusedError(Exception):
    def __init__(self, refused: Refused, status: str) -> None:
        super().__init__(refused.reason)
        self.refused = refused
        self.status = status


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


async def resolve(host: str, port: int) -> list[Address]:
    """Addresses of a host by the system's resolver, every numeric spelling included."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(info[4][0]).partition("%")[0]) for info in found))


class Egress:
    """One page's way out. Made by `Egress.open`.

    Args:
        policy: What may be reached.
        resolver: Finds addresses.
    """

    def __init__(self, policy: Policy, resolver: Resolver = resolve) -> None:
        self._policy = policy
        self._resolver = resolver
        self._refused: deque[Refused] = deque(maxlen=_REMEMBERED)
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, policy: Policy, resolver: Resolver = resolve) -> AsyncIterator["Egress"]:
        """Listening on a free port of loopback inside the block; every connection is cut after it."""
        egress = cls(policy, resolver)
        server = await asyncio.start_server(egress._accept, "127.0.0.1", 0, limit=_HEAD_BYTES)
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
            await _closed(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_S):
            request = _parsed(await reader.readuntil(b"\r\n\r\n"))
        try:
            origin = await self._connected(request)
        except _RefusedError as error:
            self._refused.append(error.refused)
            text = _refusal_page(error.refused).encode()
            head = f"HTTP/1.1 {error.status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(text)}"
            writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + text)
            await writer.drain()
            return
        try:
            if request.tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _both((_relay(reader, origin[1]), _relay(origin[0], writer)))
            else:
                origin[1].write(request.head)
                await _both((_send_body(reader, origin[1], request.body_bytes), _answer(origin[0], writer)))
        finally:
            await _closed(origin[1])

    async def _connected(self, request: _Request) -> Streams:
        """A connection to an address that was checked; the name is not looked at again."""
        addresses = await self._permitted(request.host, request.port)
        problem = "could not be reached"
        for address in addresses[:_TRIED_ADDRESSES]:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(str(address), request.port, limit=_HEAD_BYTES)
            except TimeoutError:
                problem = f"did not answer within {_CONNECT_S:.0f} s"
            except OSError as error:
                problem = f"could not be reached: {os.strerror(error.errno or errno.ECONNREFUSED).lower()}"
        raise _RefusedError(Refused(request.host, request.port, problem), "502 Bad Gateway")

    async def _permitted(self, host: str, port: int) -> list[Address]:
        try:
            found = await self._resolver(host, port)
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise _RefusedError(Refused(host, port, "has no address: the name does not resolve"), "502 Bad Gateway")
        reasons = [self._policy.refusal(host, port, address) for address in found]
        permitted = [address for address, reason in zip(found, reasons, strict=True) if reason is None]
        if not permitted:
            reason = f"{reasons[0]}, which pages may not reach"
            raise _RefusedError(Refused(host, port, reason), "403 Forbidden")
        return permitted


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
    while left > 0 and (chunk := await reader.read(min(left, _CHUNK_BYTES))):
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


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The origin's answer, told to be the last one on this connection whatever the origin thinks."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *fields = head[:-4].split(b"\r\n")
        if not first.partition(b" ")[2].startswith(b"1"):
            break  # not an interim answer
    kept = [line for line in fields if line.partition(b":")[0].strip().lower() not in _HOP_BY_HOP]
    writer.write(b"\r\n".join([first, *kept, b"Connection: close"]) + b"\r\n\r\n")
    await _relay(reader, writer)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


async def _both(directions: tuple[Awaitable[None], Awaitable[None]]) -> None:
    """Both directions to their ends; when one breaks, the other is cut."""
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.CancelledError):
        writer.transport.abort()  # the other side does not take what is still to be sent
