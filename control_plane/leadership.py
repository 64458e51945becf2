"""Who may write: one replica holds the leader's key by a Consul session, and every write is fenced by it.

Losing the session never has to be noticed in time: a deposed leader's transaction fails as a whole at Consul.
"""

from __future__ import annotations

import asyncio
import logging

from control_plane.errors import NotLeader, Unavailable
from control_plane.ports import Fence, Sessions

log = logging.getLogger(__name__)

LEADER_KEY = "tekup/leader"


class Leadership:
    """Elects this replica when nobody else leads, and keeps it elected.

    Args:
        sessions: Where the lock lives.
        name: This replica, shown to the others.
        ttl_s: Consul lets the lock go between one and two of these after our last sign of life.
    """

    def __init__(self, sessions: Sessions, name: str, *, ttl_s: int = 5) -> None:
        self._sessions = sessions
        self._name = name
        self._ttl_s = ttl_s
        self._session = ""
        self._held = asyncio.Event()

    @property
    def leading(self) -> bool:
        """Whether this replica believes it leads."""
        return self._held.is_set()

    def fence(self) -> Fence:
        """What every write carries.

        Raises:
            NotLeader: This replica does not lead.
        """
        if not self.leading:
            raise NotLeader(f"{self._name} is not the leader now; ask again in some seconds, or ask the leader")
        return Fence(LEADER_KEY, self._session)

    async def held(self) -> None:
        """Wait until this replica leads."""
        await self._held.wait()

    async def run(self) -> None:
        """Campaign for ever; on cancellation give the lock back at once."""
        try:
            while True:
                try:
                    await self._campaign()
                except Unavailable as error:
                    log.warning("leadership.unavailable", extra={"why": str(error)})
                self._held.clear()
                await asyncio.sleep(self._ttl_s / 10)
        finally:
            self._held.clear()
            await self._resign()

    async def _campaign(self) -> None:
        self._session = await self._sessions.open_session(f"control-plane {self._name}", self._ttl_s)
        while not await self._sessions.lock(LEADER_KEY, self._name.encode(), self._session):
            if not await self._sessions.renew_session(self._session):
                return
            await asyncio.sleep(self._ttl_s / 10)
        self._held.set()
        log.info("leadership.elected", extra={"replica": self._name})
        await self._keep()
        log.warning("leadership.lost", extra={"replica": self._name})

    async def _keep(self) -> None:
        # While Consul is away nobody else can be elected either, so we wait for it instead of stepping down:
        # the fence decides whether we still led.
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            try:
                if not await self._sessions.renew_session(self._session):
                    return
            except Unavailable as error:
                log.warning("leadership.unavailable", extra={"why": str(error)})

    async def _resign(self) -> None:
        if self._session:
            try:
                async with asyncio.timeout(1):
                    await self._sessions.close_session(self._session)
            except (Unavailable, TimeoutError):
                log.warning("leadership.not_released", extra={"replica": self._name})
