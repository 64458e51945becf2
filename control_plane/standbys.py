"""How old the standby replica of the workspace is, as whoever keeps it has told: what losing the machine would cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated

from pydantic import Field, StringConstraints

from control_plane.errors import TekupError
from control_plane.leadership import Leadership
from control_plane.metrics import StandbyMetrics
from control_plane.model import ONE_LINE, Document
from control_plane.ports import Store, Write

log = logging.getLogger(__name__)

STANDBY_KEY = "tekup/state/standby"
LOOK_EVERY_S = 5.0
Seconds = Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)]


class Standby(Document):
    """The last round that was carried to its end.

    Attributes:
        target: Where the replica lies, as rsync names it.
        at: When the round began, in seconds since the epoch: everything written before is there.
        seconds: How long it took.
        every_s: How long after its end the next begins.
    """

    target: Annotated[str, StringConstraints(pattern=ONE_LINE, min_length=1, max_length=512)]
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    seconds: Seconds
    every_s: Seconds

    @property
    def bound_s(self) -> float:
        """What a loss of the machine costs at most, in seconds, where rounds go on as the last one did."""
        return self.every_s + 2 * self.seconds


class Standbys:
    """What is known of the replica.

    Args:
        store: Where it is written down.
        leadership: Who leads writes, and shows the age.
        shown: The metrics.
        now: Seconds since the epoch.
    """

    def __init__(self, store: Store, leadership: Leadership, shown: StandbyMetrics, now: Callable[[], float]) -> None:
        self._store = store
        self._leadership = leadership
        self._shown = shown
        self._now = now

    async def last(self) -> Standby | None:
        """The last round; None if there was none."""
        entry = (await self._store.read(STANDBY_KEY)).entries.get("")
        return None if entry is None else Standby.parse(entry.value, STANDBY_KEY)

    async def told(self, standby: Standby) -> Standby:
        """Write down a round; an older one than the last changes nothing.

        Returns:
            The last one.
        """
        last = await self.last()
        if last is not None and last.at > standby.at:
            return last
        await self._store.commit([Write(STANDBY_KEY, standby.to_bytes())], self._leadership.own_fence())
        return standby

    async def run(self) -> None:
        """As the leader, show how old it is, for ever."""
        while True:
            try:
                last = await self.last() if self._leadership.elected else None
                self._shown.show(None if last is None else (max(0.0, self._now() - last.at), last.bound_s))
            except TekupError as error:
                log.debug("standby.not_read", extra={"why": str(error)})
            await asyncio.sleep(LOOK_EVERY_S)
