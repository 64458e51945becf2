"""Who may write: one replica holds the leader's key by a Consul session, and every write is fenced by it.

Losing the session never has to be noticed in time: a deposed leader's transaction fails as a whole at Consul. What is
not a write must not outlive the session either, so a leader believes in itself only for as long as Consul has promised.

In a region that follows another, a replica is elected as anywhere, and keeps what is that region's own; but nobody
there leads: policy is written elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from control_plane.errors import Elsewhere, NotLeader, Refused, Unavailable
from control_plane.form import form_of, too_new
from control_plane.model import Replica
from control_plane.ports import Desk, Fence

log = logging.getLogger(__name__)

LEADER_KEY = "tekup/leader"
REPLICAS_PREFIX = "tekup/replicas/"


class Leadership:
    """Shows this replica to the others, elects it when nobody else leads, and keeps it elected.

    Args:
        consul: Where the lock lies.
        name: This replica, shown to the others.
        url: Where its API is reached.
        ttl_s: Consul lets the lock go between one and two of these after our last sign of life.
        clock: Seconds that go on while this process is frozen.
    """

    def __init__(
        self,
        consul: Desk,
        name: str,
        *,
        url: str = "http://127.0.0.1:3010",
        ttl_s: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.me = Replica(replica=name, url=url)
        self._consul = consul
        self._ttl_s = ttl_s
        self._clock = clock
        self._session = ""
        self._sure_until_s = 0.0
        self._held = asyncio.Event()
        self.problem = ""
        """Why this replica may not lead; "" if it may."""
        self.look_first: Callable[[], Awaitable[None]] | None = None
        """Asked before each election: it says whether policy is written here, by :meth:`written_elsewhere`."""
        self.elsewhere = ""
        """Why policy is not written in this region; "" if it is."""
        self._here = asyncio.Event()
        self._here.set()

    @property
    def elected(self) -> bool:
        """Whether this replica was elected for certain: its session cannot have run out since."""
        # A process that was frozen looks here before its own timers have run.
        return self._held.is_set() and self._clock() < self._sure_until_s

    @property
    def leading(self) -> bool:
        """Whether this replica leads for certain: it was elected, and policy is written in this region."""
        return self.elected and not self.elsewhere

    def written_elsewhere(self, why: str) -> None:
        """Say why policy is not written in this region; "" if it is."""
        self.elsewhere = why
        (self._here.clear if why else self._here.set)()

    def refuse_elsewhere(self) -> None:
        """Refuse what only the home region does.

        Raises:
            Elsewhere: This region is not it.
        """
        if self.elsewhere:
            raise Elsewhere(f"nothing was changed: {self.elsewhere}")

    def fence(self) -> Fence:
        """What every write of policy carries.

        Raises:
            NotLeader: This replica does not lead.
            Elsewhere: This region follows another.
        """
        fence = self.own_fence()
        self.refuse_elsewhere()
        return fence

    def own_fence(self) -> Fence:
        """What a write carries that is this region's own, whoever writes policy.

        Raises:
            NotLeader: This replica was not elected.
        """
        if not self.elected:
            if self.problem:
                raise NotLeader(f"{self.me.replica} does not lead: {self.problem}")
            raise NotLeader(f"{self.me.replica} is not the leader now; ask again in some seconds, or ask the leader")
        return Fence(LEADER_KEY, self._session)

    async def held(self) -> None:
        """Wait until this replica leads."""
        while not (self._held.is_set() and self._here.is_set()):
            await self._held.wait()
            await self._here.wait()

    async def chosen(self) -> None:
        """Wait until this replica is elected, whoever writes policy."""
        await self._held.wait()

    async def run(self) -> None:
        """Campaign for ever; on cancellation give the lock back at once."""
        try:
            while True:
                try:
                    await self._campaign()
                except Unavailable as error:
                    log.warning("leadership.unavailable", extra={"why": str(error)})
                await asyncio.sleep(self._ttl_s / 10)
        finally:
            self._held.clear()
            await self._resign()

    async def _campaign(self) -> None:
        if not await self._renewed():
            await self._open()
        if await self._elected():
            self._held.set()
            log.info("leadership.elected", extra={"replica": self.me.replica})
            try:
                await self._keep()
            finally:
                self._held.clear()
            log.warning("leadership.lost", extra={"replica": self.me.replica})

    async def _open(self) -> None:
        asked_s = self._clock()
        name = f"control-plane {self.me.replica}"
        self._session = await self._consul.open_session(name, self._ttl_s, keys_go_too=True)
        self._sure_until_s = asked_s + self._ttl_s

    async def _renewed(self) -> bool:
        """Whether our session lives, and for a further TTL from when we asked."""
        if not self._session:
            return False
        asked_s = self._clock()
        if not await self._consul.renew_session(self._session):
            self._session = ""
            return False
        self._sure_until_s = asked_s + self._ttl_s
        return True

    async def _elected(self) -> bool:
        """Stand by until nobody leads and we were the first to ask; False if our session is gone."""
        after = 0
        while True:
            await self._show()
            listing = await self._consul.read(LEADER_KEY, after=after, wait_s=self._ttl_s / 3)
            after = listing.index if listing.index >= after else 0
            entry = listing.entries.get("")
            # Ours already: the answer to an earlier lock was lost.
            free = entry is None or entry.session in ("", self._session)
            if free and await self._fits() and await self._consul.lock(LEADER_KEY, self.me.to_bytes(), self._session):
                return True
            if not await self._renewed():
                return False

    async def _fits(self) -> bool:
        """Whether we know the form of what lies there; else somebody newer has to lead."""
        try:
            problem = too_new((await form_of(self._consul))[0])
        except Refused as error:
            problem = str(error)
        if problem and problem != self.problem:
            log.error("leadership.refused", extra={"replica": self.me.replica, "why": problem})
        self.problem = problem
        if not problem and self.look_first:
            await self.look_first()
        return not problem

    async def _show(self) -> None:
        """Stand among the replicas; while a predecessor of the same name has not run out there, it stands for us."""
        key = REPLICAS_PREFIX + self.me.replica
        entry = (await self._consul.read(key)).entries.get("")
        if entry is None or not entry.session:
            await self._consul.lock(key, self.me.to_bytes(), self._session)

    async def _keep(self) -> None:
        # While Consul is away nobody else can be elected either, and if only we are cut off, the fence decides: so we
        # wait with our session, but do not act as leader beyond what it was promised.
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            try:
                if not await self._renewed() or not await self._holds():
                    return
                await self._show()
            except Unavailable as error:
                log.warning("leadership.unavailable", extra={"why": str(error)})
            if self.elected:
                continue
            if self._clock() < self._sure_until_s:
                self._held.set()
                log.info("leadership.certain_again", extra={"replica": self.me.replica})
            elif self._held.is_set():
                self._held.clear()
                log.warning("leadership.uncertain", extra={"replica": self.me.replica})

    async def _holds(self) -> bool:
        """Whether the key is still ours: another hand may have deleted it, or restored an older state of Consul."""
        entry = (await self._consul.read(LEADER_KEY)).entries.get("")
        return entry is not None and entry.session == self._session

    async def _resign(self) -> None:
        if self._session:
            try:
                async with asyncio.timeout(1):
                    await self._consul.close_session(self._session)
            except (Unavailable, TimeoutError):
                log.warning("leadership.not_released", extra={"replica": self.me.replica})
