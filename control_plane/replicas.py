"""The replicas of the control plane as any of them sees them: who lives, and who leads."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from control_plane.errors import NotLeader, Refused, Unavailable
from control_plane.leadership import LEADER_KEY, REPLICAS_PREFIX, Leadership
from control_plane.model import Replica
from control_plane.ports import Entry, Store

log = logging.getLogger(__name__)

LEADER_WAIT_S = 12.0
"""A session of the default TTL outlives its replica by 10 s at most."""
LOOK_S = 0.2


@dataclass(frozen=True)
class Cast:
    """Everybody at one moment.

    Attributes:
        leader: Who leads, None during an election.
        replicas: All that live, by name.
    """

    leader: Replica | None
    replicas: tuple[Replica, ...]


class Replicas:
    """Reads who is there afresh each time: a change of leader is rare, and an old answer would be a wrong one.

    Args:
        store: Where they show themselves.
        leadership: This replica's own.
    """

    def __init__(self, store: Store, leadership: Leadership) -> None:
        self._store = store
        self._leadership = leadership

    async def cast(self) -> Cast:
        """Who is there.

        Raises:
            Unavailable: The store did not answer.
        """
        listing = await self._store.read(REPLICAS_PREFIX)
        shown = (_replica(entry, REPLICAS_PREFIX + name) for name, entry in sorted(listing.entries.items()))
        return Cast(await self.leader(), tuple(replica for replica in shown if replica))

    async def leader(self) -> Replica | None:
        """Who leads, None during an election.

        Raises:
            Unavailable: The store did not answer.
        """
        entry = (await self._store.read(LEADER_KEY)).entries.get("")
        return _replica(entry, LEADER_KEY) if entry else None

    async def to_ask(self, until_s: float) -> Replica:
        """The replica to send a change to; waits while there is none, as during an election.

        Args:
            until_s: The moment to give up, by the monotonic clock.

        Raises:
            NotLeader: There was none in time, or the store does not tell. The change was sent to nobody.
        """
        while True:
            if self._leadership.elected:
                return self._leadership.me
            try:
                found = await self.leader()
            except Unavailable as error:
                raise NotLeader(
                    f"{self._leadership.me.replica} is not the leader now and cannot learn who is: {error};"
                    " nothing was changed"
                ) from error
            # Our own name there means that we are on the way to lead, or from it.
            if found and found != self._leadership.me:
                return found
            if time.monotonic() > until_s:
                raise NotLeader("no replica leads now; nothing was changed, ask again in some seconds")
            await asyncio.sleep(LOOK_S)


def _replica(entry: Entry, key: str) -> Replica | None:
    if not entry.session:
        return None
    try:
        return Replica.parse(entry.value, key)
    except Refused as error:
        log.warning("replicas.ignored", extra={"why": str(error)})
        return None
