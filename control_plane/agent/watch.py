"""Follows the policy in Consul: four blocking reads, one picture."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from control_plane.book import REVISION_KEY
from control_plane.model import GATE_TABLES, Table
from control_plane.ports import Store
from control_plane.watch import WATCH_S, follow


class PolicyWatch:
    """The raw policy as Consul shows it.

    Services, clients and keys are read apart: with 10,000 clients a weight change must not fetch them all again.

    Args:
        store: Where policy lies.
        notify: Called after each answer.
    """

    def __init__(self, store: Store, notify: Callable[[], None]) -> None:
        self._store = store
        self._notify = notify
        self.revision: bytes | None = None
        self.tables: dict[Table, dict[str, bytes]] = {}
        self.answered_s: dict[str, float] = {}

    @property
    def complete(self) -> bool:
        """Whether every read has answered at least once."""
        return len(self.answered_s) == len(GATE_TABLES) + 1

    @property
    def age_s(self) -> float:
        """How long ago the read answered that has been waiting longest."""
        return time.monotonic() - min(self.answered_s.values())

    async def run(self) -> None:
        """Follow for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(self._read_revision, REVISION_KEY))
            for table in GATE_TABLES:
                tasks.create_task(follow(self._table_reader(table), table.prefix))

    async def _read_revision(self, after: int) -> int:
        listing = await self._store.read(REVISION_KEY, after=after, wait_s=WATCH_S)
        found = listing.entries.get("")
        self.revision = found.value if found else None
        self._answered(REVISION_KEY)
        return listing.index

    def _table_reader(self, table: Table) -> Callable[[int], Awaitable[int]]:
        async def read(after: int) -> int:
            listing = await self._store.read(table.prefix, after=after, wait_s=WATCH_S)
            # A read that nothing has ended but its time brings what is known; who follows tells news by identity.
            if listing.index != after or table not in self.tables:
                self.tables[table] = {key: entry.value for key, entry in listing.entries.items()}
            self._answered(table.prefix)
            return listing.index

        return read

    def _answered(self, what: str) -> None:
        self.answered_s[what] = time.monotonic()
        self._notify()
