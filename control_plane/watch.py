"""How every blocking read of Consul is repeated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from control_plane.errors import Unavailable

log = logging.getLogger(__name__)

# A silently dead watch once kept a revoked key alive for 69 s: no read waits longer than this.
WATCH_S = 10.0
RETRY_S = 0.25


async def follow(read: Callable[[int], Awaitable[int]], what: str) -> None:
    """Repeat a blocking read for ever, starting anew after any error or decrease of the index.

    Args:
        read: Takes the index to wait beyond, handles the answer, returns the new index.
        what: For the log.
    """
    after = 0
    while True:
        try:
            index = await read(after)
            after = index if index >= after else 0
        except Unavailable as error:
            log.warning("watch.unavailable", extra={"what": what, "why": str(error)})
            after = 0
            await asyncio.sleep(RETRY_S)
