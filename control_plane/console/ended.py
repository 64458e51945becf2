"""Sessions that were logged out, known to every replica.

They lie in Consul under a hash of their id until they would have ended by themselves; each replica follows them, so a
logout counts everywhere some milliseconds later, and costs no question at a click.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable

from control_plane.errors import TekupError
from control_plane.model import Document, Time
from control_plane.ports import Store, Write
from control_plane.watch import WATCH_S, follow

log = logging.getLogger(__name__)

ENDED_PREFIX = "tekup/state/console-ended/"
MOST = 5000
MOST_SWEPT = 50


class Until(Document):
    """When an ended session would have ended by itself."""

    until: Time


class Ended:
    """The sessions that were logged out.

    Args:
        store: Where they lie; None: they are known to this replica alone.
        now: Seconds since the epoch.
    """

    def __init__(self, store: Store | None = None, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._here: dict[str, int] = {}
        self._there: dict[str, int] = {}

    def has(self, session: str) -> bool:
        """Whether a session was logged out, here or at another replica."""
        name = _name(session)
        return name in self._here or name in self._there

    async def add(self, session: str, until_s: float) -> None:
        """Log a session out; here at once, and everywhere once Consul has it.

        Never raises: where Consul does not answer it counts here alone, and is logged.
        """
        now_s, name = self._now(), _name(session)
        self._here = {one: until for one, until in self._here.items() if until > now_s}
        while len(self._here) >= MOST:
            self._here.pop(next(iter(self._here)))
        self._here[name] = int(until_s)
        if self._store is None:
            return
        over = [one for one, until in self._there.items() if until <= now_s][:MOST_SWEPT]
        room = sorted(self._there, key=lambda one: self._there[one])[: max(0, len(self._there) - MOST)][:MOST_SWEPT]
        gone = {*over, *room} - {name}
        try:
            # As with the last uses of tokens, any replica writes this.
            wanted = Write(ENDED_PREFIX + name, Until(until=int(until_s)).to_bytes())
            await self._store.commit([wanted, *(Write(ENDED_PREFIX + one, None) for one in gone)])
        except TekupError as error:
            log.warning("console.logout_known_here_alone", extra={"why": str(error)})

    async def run(self) -> None:
        """Follow what other replicas say, for ever."""
        if self._store is not None:
            await follow(self._read, "sessions that were logged out")

    async def _read(self, after: int) -> int:
        if self._store is None:
            raise AssertionError("only what lies in a store is followed")
        listing = await self._store.read(ENDED_PREFIX, after=after, wait_s=WATCH_S)
        found = {}
        for name, entry in listing.entries.items():
            try:
                found[name] = Until.parse(entry.value, ENDED_PREFIX + name).until
            except TekupError as error:
                log.warning("console.ended_ignored", extra={"why": str(error)})
        self._there = found
        return listing.index


def _name(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()[:32]
