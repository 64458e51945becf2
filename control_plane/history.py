"""The history of policy: a record per revision, and now and then a snapshot to count from.

The content of an earlier revision is the nearest snapshot below it and the records since. Keys are in no snapshot:
they never come back. Lists read ranges of numbers by the digits these share, never the whole history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from control_plane.errors import NotFound, Refused
from control_plane.kept import (
    PARTS_PREFIX,
    SNAPSHOT_PARTS_PREFIX,
    SNAPSHOT_PREFIX,
    history_key,
    place_name,
)
from control_plane.model import Change, Document, HistoryRecord, Revision, Table, TableSum
from control_plane.ports import Fence, Store, Write
from control_plane.resources import VERSIONED
from control_plane.signed import table_sum
from control_plane.staged import batched

SNAPSHOT_EVERY = 1000
KEEP = 10_000
"""Revisions that can be gone back to, at least; up to ``SNAPSHOT_EVERY`` more."""
MOST_PART_BYTES = 150_000
READS_AT_ONCE = 4

Tables = dict[Table, dict[str, bytes]]


class Snapshot(Document):
    """That a snapshot is whole: written after its parts."""

    epoch: int
    number: int
    parts: int
    tables: dict[Table, TableSum]


class Part(Document):
    """Some documents of a snapshot, by their key in the store."""

    documents: dict[str, str]


class ChangesPart(Document):
    """Some changes of a record."""

    changes: tuple[Change, ...]


def record_writes(record: HistoryRecord) -> tuple[Write, list[Write]]:
    """A record as it is stored: the record itself, which must be new, and its parts if it is large."""
    key, raw = history_key(record.epoch, record.number), record.to_bytes()
    if len(raw) <= MOST_PART_BYTES:
        return Write(key, raw, 0), []
    name = place_name(record.epoch, record.number)
    lots = _lots([(change, len(change.to_bytes())) for change in record.changes])
    parts = [
        Write(f"{PARTS_PREFIX}{name}/{n:06d}", ChangesPart(changes=tuple(lot)).to_bytes()) for n, lot in enumerate(lots)
    ]
    return Write(key, record.model_copy(update={"changes": (), "parts": len(parts)}).to_bytes(), 0), parts


def _keys(record: HistoryRecord) -> Iterator[str]:
    """Everything that is stored of a record, itself last."""
    name = place_name(record.epoch, record.number)
    yield from (f"{PARTS_PREFIX}{name}/{n:06d}" for n in range(record.parts))
    yield history_key(record.epoch, record.number)


def _lots(sized: Iterable[tuple[Change, int]]) -> list[list[Change]]:
    lots: list[list[Change]] = []
    size = 0
    for change, bytes_ in sized:
        size += bytes_
        if not lots or size > MOST_PART_BYTES:
            lots.append([])
            size = bytes_
        lots[-1].append(change)
    return lots


class History:
    """Reads what was, and keeps it in bounds.

    Args:
        store: Where it lies.
        snapshot_every: Revisions from one snapshot to the next.
        keep: Revisions that stay reachable.
    """

    def __init__(self, store: Store, *, snapshot_every: int = SNAPSHOT_EVERY, keep: int = KEEP) -> None:
        self._store = store
        self._every = snapshot_every
        self._keep = keep

    async def page(self, newest: Revision, *, below: int | None = None, limit: int = 20) -> list[HistoryRecord]:
        """The last records, newest first; changes of large ones are left in their parts.

        Args:
            newest: The present revision.
            below: Only revisions of a smaller number.
            limit: How many at most.
        """
        high = newest.number if below is None else min(newest.number, below - 1)
        found = await self._span(newest.epoch, max(0, high - limit + 1), high)
        return [found[number] for number in sorted(found, reverse=True)]

    async def record(self, newest: Revision, number: int) -> HistoryRecord:
        """One record, with all its changes.

        Raises:
            NotFound: There is no such revision, or it was compacted.
        """
        found = (await self._span(newest.epoch, number, number)).get(number) if 0 <= number <= newest.number else None
        if found is None:
            raise NotFound(await self._missing(newest, number))
        return await self._whole(found)

    async def content(self, newest: Revision, number: int) -> Tables:
        """Services, clients and deliveries as they were at a revision.

        Raises:
            NotFound: There is no such revision, or it was compacted.
            Refused: What is kept does not add up to that revision: another hand has changed the history.
        """
        record = await self.record(newest, number)
        tables, base = await self._base(number)
        tables = await self._replayed(newest, tables, base, number)
        _check(tables, record)
        return tables

    async def oldest(self) -> int:
        """The oldest revision that can be made out of what is kept."""
        return await self._oldest()

    async def last_said(self, newest: Revision) -> Tables | None:
        """What the present revision says lies in its tables; None if the history does not hold it."""
        try:
            tables, base = await self._base(newest.number)
            tables = await self._replayed(newest, tables, base, newest.number)
        except Refused:
            return None
        none = table_sum({})
        fits = all(table_sum(tables[table]) == newest.tables.get(table, none) for table in VERSIONED)
        return tables if fits else None

    async def keep_in_bounds(
        self, revision: Revision, tables: Mapping[Table, Mapping[str, bytes]], fence: Fence
    ) -> None:
        """After a change: take a snapshot when one is due, and delete what lies beyond the bound.

        Dying in between costs nothing: a snapshot counts once it is whole, and the next one deletes what this one left.
        """
        if revision.number == 0 or revision.number % self._every:
            return
        await self._snapshot(revision, tables, fence)
        await self._compact(revision, fence)

    async def _snapshot(self, revision: Revision, tables: Mapping[Table, Mapping[str, bytes]], fence: Fence) -> None:
        name = place_name(revision.epoch, revision.number)
        documents = [(table.prefix + key, raw) for table in VERSIONED for key, raw in sorted(tables[table].items())]
        lots = batched(Write(key, raw) for key, raw in documents)
        for n, lot in enumerate(lots):
            part = Part(documents={write.key: (write.value or b"").decode() for write in lot})
            await self._store.commit([Write(f"{SNAPSHOT_PARTS_PREFIX}{name}/{n:06d}", part.to_bytes())], fence)
        sums = {table: table_sum(tables[table]) for table in VERSIONED}
        snapshot = Snapshot(epoch=revision.epoch, number=revision.number, parts=len(lots), tables=sums)
        await self._store.commit([Write(SNAPSHOT_PREFIX + name, snapshot.to_bytes())], fence)

    async def _compact(self, revision: Revision, fence: Fence) -> None:
        snapshots = await self._snapshots()
        bound = max((one.number for one in snapshots if one.number <= revision.number - self._keep), default=0)
        for old in (one for one in snapshots if one.number < bound):
            name = place_name(old.epoch, old.number)
            await self._store.commit([Write(SNAPSHOT_PREFIX + name, None)], fence)
            await self._delete(SNAPSHOT_PARTS_PREFIX + name + "/", fence)
        # Oldest first, so that what a crash leaves still hangs together and is found the next time.
        records = await self._below(revision.epoch, bound)
        for lot in batched(Write(key, None) for record in records for key in _keys(record)):
            await self._store.commit(lot, fence)

    async def _below(self, epoch: int, bound: int) -> list[HistoryRecord]:
        """Every record under a number, oldest first."""
        found: dict[int, HistoryRecord] = {}
        high = bound - 1
        while high >= 0:
            low = high - high % 100
            block = await self._span(epoch, low, high)
            if not block:
                break
            found |= block
            high = low - 1
        return [found[number] for number in sorted(found)]

    async def _delete(self, prefix: str, fence: Fence) -> None:
        listing = await self._store.read(prefix)
        for lot in batched(Write(prefix + name, None) for name in sorted(listing.entries)):
            await self._store.commit(lot, fence)

    async def _snapshots(self) -> list[Snapshot]:
        listing = await self._store.read(SNAPSHOT_PREFIX)
        found = (Snapshot.parse(entry.value, SNAPSHOT_PREFIX + name) for name, entry in listing.entries.items())
        return sorted(found, key=lambda one: (one.number, one.epoch))

    async def _base(self, number: int) -> tuple[Tables, int]:
        """The nearest snapshot at or below, and its number; nothing at all and -1 where there is none."""
        near = [one for one in await self._snapshots() if one.number <= number]
        tables: Tables = {table: {} for table in VERSIONED}
        if not near:
            return tables, -1
        name = place_name(near[-1].epoch, near[-1].number)
        for key, entry in sorted((await self._store.read(f"{SNAPSHOT_PARTS_PREFIX}{name}/")).entries.items()):
            for document, text in Part.parse(entry.value, f"{SNAPSHOT_PARTS_PREFIX}{name}/{key}").documents.items():
                _put(tables, document, text)
        return tables, near[-1].number

    async def _replayed(self, newest: Revision, tables: Tables, base: int, number: int) -> Tables:
        records = await self._span(newest.epoch, base + 1, number)
        for step in range(base + 1, number + 1):
            if step not in records and base < 0 and number < await self._oldest():
                raise NotFound(await self._missing(newest, number))
            if step not in records:
                raise Refused(f"the record of revision {step} is missing in Consul; {number} cannot be made out of it")
            for change in (await self._whole(records[step])).changes:
                _put(tables, change.key, change.after)
        return tables

    async def _whole(self, record: HistoryRecord) -> HistoryRecord:
        if not record.parts:
            return record
        prefix = f"{PARTS_PREFIX}{place_name(record.epoch, record.number)}/"
        listing = await self._store.read(prefix)
        if len(listing.entries) < record.parts:
            raise Refused(f"parts of the record of revision {record.number} are missing under {prefix} in Consul")
        parts = [ChangesPart.parse(entry.value, prefix + name) for name, entry in sorted(listing.entries.items())]
        return record.model_copy(update={"changes": tuple(change for part in parts for change in part.changes)})

    async def _span(self, epoch: int, low: int, high: int) -> dict[int, HistoryRecord]:
        """Records by number, both ends included; of two epochs with the same number, the newer one's."""
        found: dict[int, HistoryRecord] = {}
        for of in range(epoch, 0, -1):
            if len(found) >= high - low + 1:
                break
            for record in await self._read_span(of, low, high):
                found.setdefault(record.number, record)
        return found

    async def _read_span(self, epoch: int, low: int, high: int) -> list[HistoryRecord]:
        at_once = asyncio.Semaphore(READS_AT_ONCE)

        async def read(prefix: str) -> list[HistoryRecord]:
            async with at_once:
                listing = await self._store.read(prefix)
            return [HistoryRecord.parse(entry.value, prefix + name) for name, entry in sorted(listing.entries.items())]

        blocks = await asyncio.gather(*(read(prefix) for prefix in spanning(epoch, low, high)))
        return [record for block in blocks for record in block if low <= record.number <= high]

    async def _oldest(self) -> int:
        return min((one.number for one in await self._snapshots()), default=0)

    async def _missing(self, newest: Revision, number: int) -> str:
        oldest = await self._oldest()
        if 0 <= number < min(oldest, newest.number):
            return f"revision {number} was compacted; the oldest that is kept is {oldest}"
        return f"revision {number} does not exist; the last one is {newest.number}"


def spanning(epoch: int, low: int, high: int) -> Iterator[str]:
    """Prefixes that hold all records of a span of numbers, and few others: one, ten or a hundred numbers each."""
    if high < low:
        return
    digits = min(len(str(high - low + 1)) - 1, 2)
    for block in range(low // 10**digits, high // 10**digits + 1):
        yield history_key(epoch, block * 10**digits)[: -digits or None]


def _put(tables: Tables, key: str, text: str | None) -> None:
    for table in tables:
        if key.startswith(table.prefix):
            name = key.removeprefix(table.prefix)
            if text is None:
                tables[table].pop(name, None)
            else:
                tables[table][name] = text.encode()


def _check(tables: Tables, record: HistoryRecord) -> None:
    none = table_sum({})
    for table in VERSIONED if record.tables else ():
        if table_sum(tables[table]) != record.tables.get(table, none):
            raise Refused(
                f"the history in Consul does not add up to {table.value} of revision {record.number}: another hand has"
                " changed it; go back to another revision, or restore a backup"
            )
