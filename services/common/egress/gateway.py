"""The egress process's server: connections for those who have a pass, to addresses that were checked.

Invariants: only CONNECT, so it looks into nothing; without a pass of the service's keys nothing is resolved and nothing
connected; which private hosts may be reached says the pass, and metadata services of clouds none.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from services.common.egress.passes import Pass, PassError, read_pass
from services.common.egress.streams import HEAD_BYTES, both, closed, relay
from services.common.egress.ways import REFUSED_HEADER, Direct, RefusedError, Resolver, resolve
from services.common.signing import Keyring

__all__ = ["Gateway"]

logger = logging.getLogger(__name__)

_HEAD_S = 10.0
_AT_ONCE = 2000


class Gateway:
    """Made by `Gateway.open`.

    Args:
        keyring: The browser service's keys.
        resolver: Finds addresses.
        clock: Unix seconds.
    """

    def __init__(self, keyring: Keyring, resolver: Resolver = resolve, clock: Callable[[], float] = time.time) -> None:
        self._keyring = keyring
        self._resolver = resolver
        self._clock = clock
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def open(self, host: str, port: int) -> AsyncIterator[None]:
        """Listening inside the block; every connection is cut after it.

        Args:
            host: Address to listen on.
            port: 0 for a free one.

        Raises:
            OSError: It cannot be listened on.
        """
        server = await asyncio.start_server(self._accept, host, port, limit=HEAD_BYTES, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            connections = list(self._connections)
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            if len(self._connections) > _AT_ONCE:
                return await _say(writer, "503 Service Unavailable", "has to wait: the egress proxy is at its limit")
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # either side went away, or what came was no request: there is nobody to tell
        except asyncio.CancelledError:
            pass  # the process stops; the streams' own machinery would report a cancelled handler
        finally:
            await closed(writer)
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *fields = head.split("\r\n")
        method, target, _ = first.split(" ")
        if method == "GET" and target == "/health":
            return await _say(writer, "200 OK", "")
        if method != "CONNECT":
            return await _say(writer, "405 Method Not Allowed", "")
        try:
            found = read_pass(self._keyring.keys, _given(fields), self._clock())
        except PassError as error:
            logger.warning("egress.no_pass", extra={"target": target[:200], "reason": str(error)})
            return await _say(writer, "407 Proxy Authentication Required", "")
        await self._connect(reader, writer, target, found)
        return None

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, found: Pass
    ) -> None:
        place = urlsplit(f"//{target}")
        host, port = place.hostname or "", place.port or 443
        about = {"client": found.client, "host": host[:200], "port_number": port}
        try:
            origin = await Direct(found.policy, self._resolver).connected(host, port)
        except RefusedError as error:
            logger.info("egress.refused", extra={**about, "reason": error.refused.reason})
            return await _say(writer, error.status, error.refused.reason)
        logger.debug("egress.connected", extra=about)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await both(relay(reader, origin[1]), relay(origin[0], writer))
        finally:
            await closed(origin[1])
        return None


def _given(fields: list[str]) -> str:
    for line in fields:
        name, _, value = line.partition(":")
        if name.strip().lower() == "proxy-authorization":
            scheme, _, given = value.strip().partition(" ")
            return given.strip() if scheme.lower() == "bearer" else ""
    return ""


async def _say(writer: asyncio.StreamWriter, status: str, reason: str) -> None:
    said = f"{REFUSED_HEADER}: {reason}\r\n" if reason else ""
    writer.write(f"HTTP/1.1 {status}\r\n{said}Content-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1"))
    await writer.drain()
