"""The connections of one bridge: one for all, or one for each client; started, kept, started anew, ended when idle.

Starting has a deadline and a back-off. While a server is down its callers are told so at once, with the reason; nobody
waits for a start that has failed a moment ago.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from services.bridge.child import Usage
from services.bridge.declaration import Declaration, Mode
from services.bridge.peer import Lost, Peer

__all__ = ["Down", "Pool", "Slot"]

logger = logging.getLogger(__name__)

FIRST_BACK_OFF_S: Final = 0.2
LONGEST_BACK_OFF_S: Final = 30.0
LONGEST_AFTER_USE_S: Final = 1.0
STEADY_S: Final = 10.0
"""Whoever ran so long has recovered: the next back-off is short again."""
LOOK_EVERY_S: Final = 0.5
WAITED_FOR_S: Final = 1.0
"""A caller waits for a start that is so near."""
BASE: Final = ""
"""Whose connection lists and signs of life go over; with a shared child all calls too."""


class Down(Exception):
    """There is no connection now; the message says why and when it is tried again."""


@dataclass
class Slot:
    """A place for one connection.

    Attributes:
        client: Whose, `BASE` for everybody's.
        peer: What is in it.
        calls: How many use it.
    """

    client: str
    peer: Peer | None = None
    starting: asyncio.Task[None] | None = None
    calls: int = 0
    used_at: float = 0.0
    began_at: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    problem: str = ""

    @property
    def alive(self) -> bool:
        """Whether it holds a connection that can be asked."""
        return self.peer is not None and self.peer.alive

    def note_end(self, problem: str, now: float) -> None:
        """Its connection is over: until when to wait before the next.

        One that could be used ended by a call, or by chance: whoever makes such calls shall not keep others waiting.
        """
        steady = self.began_at and now - self.began_at >= STEADY_S
        self.failures = 1 if steady else self.failures + 1
        self.problem = problem
        longest_s = LONGEST_AFTER_USE_S if self.began_at else LONGEST_BACK_OFF_S
        self.retry_at = now + min(FIRST_BACK_OFF_S * 2 ** min(self.failures - 1, 20), longest_s)
        self.began_at = 0.0


class Pool:
    """All connections of a bridge.

    Args:
        declaration: How many, and for how long.
        make_peer: Makes one that is not connected yet.
        on_base: Called with each new connection of `BASE`, before anybody else uses it.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        declaration: Declaration,
        make_peer: Callable[[], Peer],
        on_base: Callable[[Peer], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._declaration = declaration
        self._make_peer = make_peer
        self._on_base = on_base
        self._clock = clock
        self._slots: dict[str, Slot] = {BASE: Slot(BASE)}
        self._spare: list[Peer] = []
        self._living: set[asyncio.Task[None]] = set()
        self._peers: set[Peer] = set()
        self._suspected: set[Peer] = set()
        self.started: Callable[[], None] = lambda: None
        self.failed: Callable[[], None] = lambda: None
        self.idled: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return sum(peer.alive for peer in self._peers)

    @property
    def base(self) -> Slot:
        """The place that is always filled."""
        return self._slots[BASE]

    def usage(self) -> Usage:
        """What all children use."""
        used = [peer.usage for peer in self._peers]
        return Usage(sum(one.processes for one in used), sum(one.memory_bytes for one in used))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps `BASE` connected inside the block; after it no connection is left."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            for peer in self._peers:
                peer.close("the bridge stops")
            if self._living:
                await asyncio.wait(self._living)

    @asynccontextmanager
    async def use(self, client: str) -> AsyncIterator[Peer]:
        """A connection for a client's request.

        Raises:
            Down: There is none, and why.
        """
        slot = self._slot(client if self._declaration.mode is Mode.PER_CLIENT else BASE)
        slot.calls += 1
        try:
            yield (peer := await self._filled(slot))
        except Lost:
            if peer.alive:
                self._suspect(peer)
            raise
        finally:
            slot.calls -= 1
            slot.used_at = self._clock()

    def _slot(self, client: str) -> Slot:
        if (slot := self._slots.get(client)) is None:
            if len(self._slots) > self._declaration.children:
                self._make_room()
            slot = self._slots[client] = Slot(client, used_at=self._clock())
        return slot

    def _make_room(self) -> None:
        idle = [slot for slot in self._slots.values() if slot.client != BASE and not slot.calls]
        if not idle:
            raise Down(f"all {self._declaration.children} children of other clients are busy; call again later")
        self._leave(min(idle, key=lambda slot: slot.used_at))

    def _leave(self, slot: Slot) -> None:
        if slot.peer is not None:
            slot.peer.close("nobody needs it any more")
        self._slots.pop(slot.client, None)
        self.idled()

    async def _filled(self, slot: Slot) -> Peer:
        if slot.peer is not None and slot.peer.alive:
            return slot.peer
        self._note_end(slot)
        if slot.starting is None or slot.starting.done():
            wait_s = slot.retry_at - self._clock()
            if wait_s > WAITED_FOR_S:
                raise Down(f"{slot.problem}; it is started again within {wait_s:.0f} s")
            slot.starting = asyncio.create_task(self._start(slot, max(wait_s, 0)))
        await asyncio.wait([slot.starting], timeout=self._declaration.start_s)
        if slot.peer is not None and slot.peer.alive:
            return slot.peer
        raise Down(slot.problem or "it is still starting; call again later")

    async def _start(self, slot: Slot, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        peer = self._taken_spare() if slot.client != BASE else None
        if peer is None:
            peer = self._begin()
            await self._until_connected(peer)
        if peer.alive and slot.client == BASE:
            await self._on_base(peer)
        if peer.alive:
            slot.peer, slot.began_at, slot.problem = peer, self._clock(), ""
        else:
            slot.note_end(peer.problem or "it ended at once", self._clock())
            logger.warning("bridge.not_started", extra={"client": slot.client, "reason": slot.problem})

    def _begin(self) -> Peer:
        peer = self._make_peer()
        self._peers.add(peer)
        self.started()
        task = asyncio.create_task(peer.live())
        self._living.add(task)

        def over(ended: asyncio.Task[None]) -> None:
            self._living.discard(ended)
            self._peers.discard(peer)
            if not ended.cancelled() and (error := ended.exception()) is not None:
                logger.error("bridge.broke", exc_info=error)

        task.add_done_callback(over)
        return peer

    @staticmethod
    async def _until_connected(peer: Peer) -> None:
        waits = [asyncio.create_task(peer.connected.wait()), asyncio.create_task(peer.ended.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _taken_spare(self) -> Peer | None:
        self._spare = [peer for peer in self._spare if not peer.ended.is_set()]
        ready = next((peer for peer in self._spare if peer.alive), None)
        if ready is not None:
            self._spare.remove(ready)
        return ready

    async def _keep(self) -> None:
        while True:
            for slot in list(self._slots.values()):
                self._note_end(slot)
            base = self.base
            if not base.alive and (base.starting is None or base.starting.done()) and base.retry_at <= self._clock():
                base.starting = asyncio.create_task(self._start(base))
            self._end_hung()
            self._end_idle()
            self._fill_spare()
            await self._until_something()

    async def _until_something(self) -> None:
        """Until it is time to look again, or the connection of `BASE` has ended."""
        peer = self.base.peer
        if peer is None:
            await asyncio.sleep(min(LOOK_EVERY_S, FIRST_BACK_OFF_S))
            return
        ended = asyncio.create_task(peer.ended.wait())
        await asyncio.wait([ended], timeout=LOOK_EVERY_S)
        ended.cancel()

    def _note_end(self, slot: Slot) -> None:
        peer = slot.peer
        if peer is None or peer.alive:
            return
        slot.peer = None
        slot.note_end(peer.problem or "it ended", self._clock())
        if peer.expired:  # which is no fault
            slot.failures, slot.retry_at = 0, self._clock()
        self.failed()
        fields = {"client": slot.client, "reason": slot.problem, "failures": slot.failures}
        logger.warning("bridge.ended", extra=fields)

    def _end_hung(self) -> None:
        """A child that was asked and has not said anything for long is asked once more."""
        for slot in self._slots.values():
            if slot.peer is not None and slot.peer.overdue(self._declaration.hang_s):
                self._suspect(slot.peer)

    def _suspect(self, peer: Peer) -> None:
        """End it unless it gives a sign of life."""
        if peer in self._suspected:
            return

        async def check() -> None:
            try:
                if await peer.sign_of_life(self._declaration.answer_s) is not None:
                    peer.close("it did not answer, nor give a sign of life")
            finally:
                self._suspected.discard(peer)

        self._suspected.add(peer)
        task = asyncio.create_task(check())
        self._living.add(task)
        task.add_done_callback(self._living.discard)

    def _end_idle(self) -> None:
        now = self._clock()
        for slot in list(self._slots.values()):
            starting = slot.starting is not None and not slot.starting.done()
            if slot.client == BASE or slot.calls or starting:
                continue
            if now - slot.used_at >= self._declaration.idle_s:
                self._leave(slot)

    def _fill_spare(self) -> None:
        if self._declaration.mode is Mode.SHARED or not self.base.alive:
            return
        self._spare = [peer for peer in self._spare if not peer.ended.is_set()]
        while len(self._spare) < self._declaration.spare:
            self._spare.append(self._begin())
