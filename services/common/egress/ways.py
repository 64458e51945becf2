"""Ways to a host: with the check here, or through the egress process that checks.

Invariant: a name is resolved once, its addresses are checked, and one of those is connected to; the name is not looked
at again, so one that changes its mind gains nothing.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Protocol

from services.common.addresses import Address, Policy
from services.common.egress.streams import HEAD_BYTES, Streams, closed

__all__ = ["REFUSED_HEADER", "Direct", "Refused", "RefusedError", "Resolver", "Through", "Way", "authority", "resolve"]

REFUSED_HEADER: Final = "x-tekup-refused"
FORBIDDEN: Final = "403 Forbidden"
UNREACHED: Final = "502 Bad Gateway"
_CONNECT_S = 10.0
_RESOLVE_S = 10.0
_ANSWER_S = 45.0  # the other side may resolve, and try several addresses
_TRIED_ADDRESSES = 3
# Names that hang keep a thread each until the system gives up: many, of its own, and few at once for each way, so that
# a page which asks for such names holds up nobody else.
_RESOLVING = ThreadPoolExecutor(64, thread_name_prefix="resolve")
_RESOLVED_AT_ONCE = 6

Resolver = Callable[[str, int], Awaitable[list[Address]]]


@dataclass(frozen=True)
class Refused:
    """A request that was not let out, or could not be.

    Args:
        host: Where it wanted to go.
        port: On which port.
        reason: Why it did not get there; reads on after the host.
        cut: It got there, and was cut off later.
    """

    host: str
    port: int
    reason: str
    cut: bool = False


class RefusedError(Exception):
    """There is no way to a host.

    Args:
        refused: What was refused.
        status: The answer's status line without its protocol.
    """

    def __init__(self, refused: Refused, status: str) -> None:
        super().__init__(refused.reason)
        self.refused = refused
        self.status = status


class Way(Protocol):
    """How a host is reached."""

    async def connected(self, host: str, port: int) -> Streams:
        """A connection to it, the caller's to close.

        Raises:
            RefusedError: It may not or cannot be reached.
        """
        ...


async def resolve(host: str, port: int) -> list[Address]:
    """Addresses of a host by the system's resolver, every numeric spelling included.

    Raises:
        OSError: The name does not resolve.
        TimeoutError: Nobody answers.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_RESOLVE_S):
        found = await loop.run_in_executor(_RESOLVING, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(ip_address(str(info[4][0]).partition("%")[0]) for info in found))


@dataclass(frozen=True)
class Direct:
    """Resolves, checks and connects here.

    Args:
        policy: What may be reached.
        resolver: Finds addresses.
    """

    policy: Policy
    resolver: Resolver = resolve
    _turn: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_RESOLVED_AT_ONCE), compare=False, repr=False
    )

    async def connected(self, host: str, port: int) -> Streams:
        """As `Way`."""
        problem = "could not be reached"
        for address in (await self._permitted(host, port))[:_TRIED_ADDRESSES]:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(str(address), port, limit=HEAD_BYTES)
            except TimeoutError:
                problem = f"did not answer within {_CONNECT_S:.0f} s"
            except OSError as error:
                problem = f"could not be reached: {os.strerror(error.errno or errno.ECONNREFUSED).lower()}"
        raise RefusedError(Refused(host, port, problem), UNREACHED)

    async def _permitted(self, host: str, port: int) -> list[Address]:
        try:
            async with self._turn:
                found = await self.resolver(host, port)
        except (OSError, UnicodeError):  # a time-out is an OSError, too
            found = []
        if not found:
            raise RefusedError(Refused(host, port, "has no address: the name does not resolve"), UNREACHED)
        reasons = [self.policy.refusal(host, port, address) for address in found]
        permitted = [address for address, reason in zip(found, reasons, strict=True) if reason is None]
        if not permitted:
            raise RefusedError(Refused(host, port, f"{reasons[0]}, which pages may not reach"), FORBIDDEN)
        return permitted


@dataclass(frozen=True)
class Through:
    """Through the egress process, which resolves, checks and connects.

    Args:
        proxy_host: Where it listens.
        proxy_port: On which port.
        make_pass: Makes a pass for one connection; it does not last.
    """

    proxy_host: str
    proxy_port: int
    make_pass: Callable[[], str]

    async def connected(self, host: str, port: int) -> Streams:
        """As `Way`."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                streams = await asyncio.open_connection(self.proxy_host, self.proxy_port, limit=HEAD_BYTES)
        except OSError as error:
            reason = f"could not be reached: the egress proxy {self.proxy_host}:{self.proxy_port} does not answer"
            raise RefusedError(Refused(host, port, reason), UNREACHED) from error
        try:
            await self._ask(streams, host, port)
        except BaseException:
            await closed(streams[1])
            raise
        return streams

    async def _ask(self, streams: Streams, host: str, port: int) -> None:
        reader, writer = streams
        target = authority(host, port)
        lines = (
            f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"Proxy-Authorization: Bearer {self.make_pass()}"
        )  # fmt: skip
        writer.write("\r\n".join((*lines, "", "")).encode("ascii"))
        try:
            async with asyncio.timeout(_ANSWER_S):
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            reason = "could not be reached: the egress proxy broke off"
            raise RefusedError(Refused(host, port, reason), UNREACHED) from error
        first, *fields = head.split("\r\n")
        status = first.partition(" ")[2]
        if status.startswith("200"):
            return
        said = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        reason = said.get(REFUSED_HEADER) or f"could not be reached: the egress proxy answered {status[:40]!r}"
        answered = FORBIDDEN if status.startswith("403") else UNREACHED
        raise RefusedError(Refused(host, port, reason), answered)


def authority(host: str, port: int) -> str:
    """Host and port as a request names them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
