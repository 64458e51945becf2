"""What an instance has done in all, for whoever decides how many there should be: counters, never rates.

Whoever looks twice knows what was between, whatever came and went meanwhile, and nobody has to watch all the time.
"""

from __future__ import annotations

import asyncio
import time

from services.common.activity import Activity
from services.common.usage import Usage

__all__ = ["Load"]

_EVERY_S = 0.1


class Load:
    """The counters of one instance.

    Args:
        activity: Knows its requests.
        usage: Knows its processor time, and that of what it started.
    """

    def __init__(self, activity: Activity, usage: Usage) -> None:
        self._activity = activity
        self._usage = usage
        self._late_s = 0.0
        self._turns = 0

    async def watch(self) -> None:
        """Note how late a task gets its turn, for ever: so long waits a request before anybody looks at it."""
        while True:
            due_s = time.monotonic() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self._late_s += max(0.0, time.monotonic() - due_s)
            self._turns += 1

    async def shown(self) -> dict[str, float]:
        """The counters as they are now; `at_s` is a clock of the instance's own."""
        await self._usage.refresh()
        return {
            "at_s": round(time.monotonic(), 4),
            "in_flight_seconds": round(self._activity.busy_s, 4),
            "cpu_seconds": round(self._usage.cpu_seconds, 4),
            "late_seconds": round(self._late_s, 4),
            "turns": self._turns,
        }
