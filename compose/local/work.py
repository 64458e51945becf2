"""What a source of a program is given to work with: somebody to report to, and other programs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .progress import Reporter

TICK_S = 1.0


@dataclass
class Doing:
    """What a piece of work is at; it changes the fields, a ticker reports them."""

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Work:
    """The surroundings of a source."""

    report: Reporter
    need: Callable[[str], Awaitable[Path]]
    """Resolves another program by name (a Go build needs `go`)."""

    @asynccontextmanager
    async def step(self, task: str, text: str) -> AsyncIterator[Doing]:
        """Report once a second what the block is doing, so that a silent tool does not look dead."""
        doing = Doing(text)
        ticker = asyncio.create_task(self._tick(task, doing))
        try:
            yield doing
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker

    async def _tick(self, task: str, doing: Doing) -> None:
        while True:
            self.report.update(task, doing.text, doing.done, doing.total)
            await asyncio.sleep(TICK_S)
