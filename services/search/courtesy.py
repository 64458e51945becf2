"""Who builds an index steps aside while somebody is answered: both need the one interpreter."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Courtesy"]

_LATELY_S = 1.0


class Courtesy:
    """Knows whether a question is being answered."""

    def __init__(self) -> None:
        self._asking = 0
        self._answered: float | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A question is answered while the block lasts."""
        self._asking += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._asking -= 1
            self._answered = time.monotonic()
            if not self._asking:
                self._quiet.set()

    @property
    def lately(self) -> bool:
        """Whether somebody asks, or did a moment ago and so may go on."""
        ended = self._answered
        return self._asking > 0 or (ended is not None and time.monotonic() - ended < _LATELY_S)

    async def quiet(self, within_s: float) -> None:
        """Wait until nobody asks, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._quiet.wait()
