"""The tables as the leader last read or wrote them, read anew only where the store says that they have moved.

To read 10,000 clients and their keys takes a third of a second of CPU, and verbs are about one of them. What another
hand has changed moves its table's index, so it is seen by the next verb. Only a write in the very moment of one of
ours is not: such a document is never overwritten, for writes are guarded by what was read (`Page.index_of`), and is
found when the table is next read whole, a minute later at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from control_plane.model import Table
from control_plane.ports import Entry, Store

# Far below the 15 minutes after which Consul forgets that something was deleted, and an index may come back.
WHOLE_EVERY_S = 60.0


@dataclass(frozen=True)
class KnownTable:
    """A table.

    Attributes:
        index: What the store says of all of it while it stays so.
        read_s: When it was read whole, monotonic.
        raws: Its documents.
        indexes: What the store says of each.
    """

    index: int
    read_s: float
    raws: Mapping[str, bytes]
    indexes: Mapping[str, int]

    def changed(self, changes: Mapping[str, bytes | None], index: int) -> KnownTable:
        """The table after a write of ours, which has the given index."""
        raws = {**self.raws, **{key: raw for key, raw in changes.items() if raw is not None}}
        indexes = {**self.indexes, **dict.fromkeys(changes, index)}
        for key in (key for key, raw in changes.items() if raw is None):
            raws.pop(key, None)
            indexes.pop(key, None)
        return KnownTable(index, self.read_s, raws, indexes)


Known = dict[Table, KnownTable]


class KnownTables:
    """Reads the tables of a store.

    Args:
        store: Where they lie.
        clock: Seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._known: Known = {}
        self._ours: tuple[bytes, Mapping[Table, Mapping[str, bytes | None]]] | None = None

    async def read(self, revision: Entry, *, afresh: bool) -> Known:
        """All tables, as they are now.

        Args:
            revision: The revision document that was just read.
            afresh: Read all of it, whatever is known.
        """
        known, ours = self._known, self._ours
        if ours and ours[0] == revision.value:
            # Written in one transaction with its revision, so under one index; if it was not, that does not fit.
            known |= {
                table: known[table].changed(what, revision.index) for table, what in ours[1].items() if table in known
            }
        # One after another: two of 3 MB at once would each take as long as both.
        self._known = {table: await self._read(table, None if afresh else known.get(table)) for table in Table}
        self._ours = None
        return self._known

    async def _read(self, table: Table, known: KnownTable | None) -> KnownTable:
        young = known and self._clock() - known.read_s < WHOLE_EVERY_S
        if known and young and await self._store.index(table.prefix) == known.index:
            return known
        began_s = self._clock()
        listing = await self._store.read(table.prefix)
        raws = {key: entry.value for key, entry in listing.entries.items()}
        indexes = {key: entry.index for key, entry in listing.entries.items()}
        return KnownTable(listing.index, began_s, raws, indexes)

    def let_go(self) -> Known:
        """Know nothing any more, until a write that has begun is known to have worked; returns what was known."""
        known, self._known, self._ours = self._known, {}, None
        return known

    def wrote(self, known: Known, revision: bytes, changes: Mapping[Table, Mapping[str, bytes | None]]) -> None:
        """A write has worked.

        Args:
            known: What was let go before it.
            revision: The revision document it has written.
            changes: The documents, None for those deleted.
        """
        self._known, self._ours = known, (revision, changes)
