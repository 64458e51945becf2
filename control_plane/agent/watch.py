"""Follows the policy in Consul: the revision, and of the tables what it says has changed.

With 10,000 clients a table has 3 MB, which to read for each change takes Consul and agent a fifth of a second of CPU
each. So a table is read whole only at first, where the named changes do not make what the revision says, where it
moves without a revision (another hand), and now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from control_plane.errors import Refused
from control_plane.kept import REVISION_KEY
from control_plane.model import GATE_TABLES, Revision, Table, TableSum
from control_plane.ports import Entry, Store
from control_plane.watch import WATCH_S, follow

EXPLAINED_WITHIN_S = 0.5
"""How long a table that moves waits for its revision, which comes by another read of the same moment."""
WHOLE_EVERY_S = 60.0
"""Another hand that writes in the very moment of a change is found out so."""


class PolicyWatch:
    """The raw policy as Consul shows it.

    Args:
        store: Where policy lies.
        notify: Called after news.
        sum_of: Takes the digest of a table.
    """

    def __init__(
        self, store: Store, notify: Callable[[], None], sum_of: Callable[[Table, Mapping[str, bytes]], TableSum]
    ) -> None:
        self._store = store
        self._notify = notify
        self._sum_of = sum_of
        self.revision: bytes | None = None
        self.tables: dict[Table, dict[str, bytes]] = {}
        self.answered_s: dict[str, float] = {}
        self._place = (0, 0)
        self._known_to: dict[Table, int] = {}
        self._whole_s: dict[Table, float] = {}
        self._reading = asyncio.Condition()

    @property
    def complete(self) -> bool:
        """Whether everything was read at least once."""
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
                tasks.create_task(follow(self._table_looker(table), table.prefix))

    async def _read_revision(self, after: int) -> int:
        listing = await self._store.read(REVISION_KEY, after=after, wait_s=WATCH_S)
        found = listing.entries.get("")
        if found and found.value != self.revision:
            found = await self._bring_to(found)
        news = (found.value if found else None) != self.revision or REVISION_KEY not in self.answered_s
        self.revision = found.value if found else None
        self._answered(REVISION_KEY, news=news)
        return listing.index

    async def _bring_to(self, found: Entry) -> Entry | None:
        """Make the tables what a revision says, or a newer one that comes meanwhile; returns it."""
        async with self._reading:
            while True:
                try:
                    revision = Revision.parse(found.value, REVISION_KEY)
                except Refused:
                    return found  # whoever judges it says why
                await self._read_named(revision.changed_since(self._place))
                if not (unfit := self._unfit(revision)):
                    break
                newer = (await self._store.read(REVISION_KEY)).entries.get("")
                if newer is None or newer.value == found.value:
                    for table in unfit:
                        await self._read_whole(table)
                    break
                found = newer
            self._place = revision.place
            for table in self.tables.keys() - set(self._unfit(revision)):
                self._known_to[table] = max(self._known_to[table], found.index)
            self._reading.notify_all()
        return found

    def _unfit(self, revision: Revision) -> list[Table]:
        return [table for table, raws in self.tables.items() if self._sum_of(table, raws) != revision.tables.get(table)]

    async def _read_named(self, names: Iterable[str]) -> None:
        named = [(table, name) for name in names for table in self.tables if name.startswith(table.prefix)]
        listings = await asyncio.gather(*(self._store.read(name) for _, name in named))
        # Whoever follows tells news by identity.
        changed = {table: dict(self.tables[table]) for table, _ in named}
        for (table, name), listing in zip(named, listings, strict=True):
            key, entry = name.removeprefix(table.prefix), listing.entries.get("")
            if entry:
                changed[table][key] = entry.value
            else:
                changed[table].pop(key, None)
        self.tables.update(changed)

    async def _read_whole(self, table: Table) -> None:
        listing = await self._store.read(table.prefix)
        self.tables[table] = {key: entry.value for key, entry in listing.entries.items()}
        self._known_to[table], self._whole_s[table] = listing.index, time.monotonic()

    def _table_looker(self, table: Table) -> Callable[[int], Awaitable[int]]:
        async def look(after: int) -> int:
            index = await self._store.index(table.prefix, after=after, wait_s=WATCH_S) if after else 0
            overdue = time.monotonic() - self._whole_s.get(table, 0) > WHOLE_EVERY_S
            whole = not after or overdue or (index != after and not await self._explained(table, index))
            if whole:
                async with self._reading:
                    await self._read_whole(table)
                    index = index or self._known_to[table]
            self._answered(table.prefix, news=whole)
            return index

        return look

    async def _explained(self, table: Table, index: int) -> bool:
        """Whether a revision is behind a table's move, and the table what that says."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXPLAINED_WITHIN_S), self._reading:
                await self._reading.wait_for(lambda: self._known_to[table] >= index)
        return self._known_to[table] >= index

    def _answered(self, what: str, *, news: bool) -> None:
        self.answered_s[what] = time.monotonic()
        if news:
            self._notify()
