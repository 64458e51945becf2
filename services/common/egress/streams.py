"""Two streams and what flows between them."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

__all__ = ["HEAD_BYTES", "Streams", "TooMuchError", "both", "closed", "relay"]

HEAD_BYTES = 64 << 10
CHUNK_BYTES = 64 << 10
_CLOSE_S = 5.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TooMuchError(Exception):
    """More came than may; what came until then was passed on."""


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at_most: int | None = None) -> None:
    """Pass on what comes to its end.

    Args:
        reader: Where it comes from.
        writer: Where it goes.
        at_most: Bytes, None for no bound.

    Raises:
        TooMuchError: There was more.
    """
    passed = 0
    while chunk := await reader.read(CHUNK_BYTES):
        passed += len(chunk)
        if at_most is not None and passed > at_most:
            raise TooMuchError
        writer.write(chunk)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


async def both(one: Awaitable[None], other: Awaitable[None]) -> None:
    """Both directions to their ends; when one breaks, the other is cut.

    Raises:
        TooMuchError: One direction was cut for it.
    """
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ended:
        if isinstance(end, TooMuchError):
            raise end


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close, and cut off a side that does not take what is still to be sent."""
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.CancelledError):
        writer.transport.abort()
