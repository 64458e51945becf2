"""Turns for what takes a processor whole: a page that opens or loads.

Twenty pages that load at once all miss their deadlines on two processors; a few at a time, each is there in time. A
turn ends by itself after a while, so that pages which wait for slow servers keep nobody from one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Turns"]


class Turns:
    """So many at a time.

    Args:
        at_once: How many.
        longest_s: After so long the next one gets the turn, whether or not its holder has finished.
    """

    def __init__(self, at_once: int, longest_s: float) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._longest_s = longest_s

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Has a turn inside the block, at least at its beginning."""
        await self._free.acquire()
        end = asyncio.get_running_loop().call_later(self._longest_s, self._free.release)
        try:
            yield
        finally:
            if not end.cancelled() and end.when() > asyncio.get_running_loop().time():
                end.cancel()
                self._free.release()
