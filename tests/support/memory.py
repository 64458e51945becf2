"""Store, sessions and catalog in memory, for unit tests; the contract tests run over it and a real Consul alike."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence

from control_plane.errors import Fenced, Overtaken, Unavailable
from control_plane.model import Instance
from control_plane.ports import Entry, Fence, Listing, Write


class Memory:
    """Everything :mod:`control_plane.ports` names, on dictionaries."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._deleted: dict[str, int] = {}
        self._sessions: set[str] = set()
        self._taking_keys: set[str] = set()
        self._ids = itertools.count(1)
        self._index = 1
        self._changed = asyncio.Condition()
        self.registered: tuple[Instance, ...] = ()
        self.gate_addresses: dict[str, str] = {}
        self.away = False

    async def read(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> Listing:
        self._answer()
        if after:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s), self._changed:
                    await self._changed.wait_for(lambda: self._index_of(prefix) > after)
        async with self._changed:
            self._answer()
            found = {key[len(prefix) :]: entry for key, entry in self._entries.items() if key.startswith(prefix)}
            return Listing(self._index_of(prefix), found)

    def _index_of(self, prefix: str) -> int:
        """As Consul has it: of what lies or lay under the prefix, or where nothing ever did, of everything."""
        indexes = [entry.index for key, entry in self._entries.items() if key.startswith(prefix)]
        indexes += [index for key, index in self._deleted.items() if key.startswith(prefix)]
        return max(indexes, default=self._index) if prefix else self._index

    async def index(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> int:
        return (await self.read(prefix, after=after, wait_s=wait_s)).index

    async def commit(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
        self._answer()
        async with self._changed:
            if fence and self._entries.get(fence.key, Entry(b"", 0)).session != fence.session:
                raise Fenced(f"the session that holds {fence.key} is gone, nothing was written")
            for write in writes:
                present = self._entries.get(write.key)
                if write.expected_index not in (None, present.index if present else 0):
                    raise Overtaken(f"{write.key} was changed by somebody else in the meantime, nothing was written")
            self._index += 1
            for write in writes:
                self._put(write.key, write.value)
            self._changed.notify_all()

    def put(self, key: str, value: bytes | None, session: str = "") -> None:
        """Write at once, as another hand would; nobody who waits is woken."""
        self._index += 1
        self._put(key, value, session)

    def _put(self, key: str, value: bytes | None, session: str = "") -> None:
        if value is None:
            self._entries.pop(key, None)
            self._deleted[key] = self._index
        else:
            self._entries[key] = Entry(value, self._index, session or self._held_by(key))

    def _held_by(self, key: str) -> str:
        return self._entries[key].session if key in self._entries else ""

    async def open_session(self, name: str, ttl_s: int, *, keys_go_too: bool = False) -> str:
        self._answer()
        session = f"{name}-{next(self._ids)}"
        self._sessions.add(session)
        if keys_go_too:
            self._taking_keys.add(session)
        return session

    async def renew_session(self, session: str) -> bool:
        self._answer()
        return session in self._sessions

    async def close_session(self, session: str) -> None:
        self._answer()
        async with self._changed:
            self._sessions.discard(session)
            for key, entry in list(self._entries.items()):
                if entry.session != session:
                    continue
                self._index += 1
                if session in self._taking_keys:
                    self._put(key, None)
                else:
                    self._entries[key] = Entry(entry.value, self._index)
            self._changed.notify_all()

    async def lock(self, key: str, value: bytes, session: str) -> bool:
        self._answer()
        async with self._changed:
            if session not in self._sessions or self._held_by(key) not in ("", session):
                return False
            self.put(key, value, session)
            self._changed.notify_all()
            return True

    async def service_names(self, *, after: int = 0, wait_s: float = 0) -> tuple[int, frozenset[str]]:
        listing = await self.read("", after=after, wait_s=wait_s)
        return listing.index, frozenset(one.service for one in self.registered)

    async def instances(self, service: str, *, after: int = 0, wait_s: float = 0) -> tuple[int, tuple[Instance, ...]]:
        listing = await self.read("", after=after, wait_s=wait_s)
        return listing.index, tuple(one for one in self.registered if one.service == service)

    async def gate_urls(self) -> dict[str, str]:
        self._answer()
        return dict(self.gate_addresses)

    async def register(self, *instances: Instance) -> None:
        """Show exactly these instances in the catalog."""
        async with self._changed:
            self.registered = instances
            self._index += 1
            self._changed.notify_all()

    async def lose_everything(self) -> None:
        """Come back empty, as Consul does without its data directory."""
        async with self._changed:
            self._entries.clear()
            self._deleted.clear()
            self._sessions.clear()
            self.registered = ()
            self._index += 1
            self._changed.notify_all()

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("the store in memory plays dead")
