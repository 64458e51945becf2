"""Over how many gates the clients' limits are divided."""

from __future__ import annotations

import time
from collections.abc import Callable

from control_plane.gates import Gates
from control_plane.ports import Store

# A Consul that was restarted, or an agent that is, looks for seconds as if gates were gone.
GONE_AFTER_S = 30.0


class Share:
    """Counts the gates that live; one that comes counts at once, one that goes only after a while.

    So for that while the gates together allow less than was decided, never more.

    Args:
        store: Where gates report.
        before: The count to begin with, as it was when the agent last ran.
        now_s: Seconds, monotonic.
    """

    def __init__(self, store: Store, before: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._gates = Gates(store)
        self._count = max(before, 1)
        self._now_s = now_s
        self._since_s = now_s()

    async def run(self) -> None:
        """Follow the reports for ever."""
        await self._gates.run()

    @property
    def gates(self) -> int:
        """How many there are; at least this one."""
        # None at all means that nothing is known: this gate itself would be among them.
        live = sum(gate.live for gate in self._gates.all.values()) or self._count
        if live >= self._count or self._now_s() - self._since_s > GONE_AFTER_S:
            self._count, self._since_s = live, self._now_s()
        return self._count
