"""Turns of what keeps the interpreter busy.

Walks through folders ask the system for something at each step, and each time another thread may take the interpreter:
sixteen at once took twice the processor time of sixteen one after another (docs/decisions/0049).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

__all__ = ["Turns"]

TURN_S: Final = 0.25


class Turns:
    """One at a time, in the order they came. What takes longer than a turn, as on a disk that hangs, is joined.

    Args:
        turn_s: After so many seconds the next may begin, whether or not this one has ended.
    """

    def __init__(self, turn_s: float = TURN_S) -> None:
        self.turn_s = turn_s
        self._free = asyncio.Semaphore(1)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; it ends with the block, or when it has lasted its time."""
        await self._free.acquire()
        over = False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self.turn_s, end)
        try:
            yield
        finally:
            timer.cancel()
            end()
