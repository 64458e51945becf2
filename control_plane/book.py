"""The book of policy: reads it, and writes each change as one fenced transaction with its revision and record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from control_plane.delivery import Delivery
from control_plane.errors import Conflict, NotInitialised, Refused
from control_plane.model import (
    Change,
    ClientPolicy,
    HistoryRecord,
    Key,
    Policy,
    Revision,
    ServicePolicy,
    Stored,
    Table,
)
from control_plane.ports import Fence, Store, Write
from control_plane.signed import table_sum

REVISION_KEY = "tekup/policy/revision"
HISTORY_PREFIX = "tekup/state/history/"

D = TypeVar("D", bound=Stored)
Place = tuple[Table, str]
DOCUMENTS: Mapping[Table, type[Stored]] = {
    Table.SERVICES: ServicePolicy,
    Table.CLIENTS: ClientPolicy,
    Table.KEYS: Key,
    Table.DELIVERY: Delivery,
}


@dataclass(frozen=True)
class Page:
    """All policy documents as raw bytes, with the index that guards the next write."""

    revision: Revision
    index: int
    tables: Mapping[Table, Mapping[str, bytes]]

    def find(self, table: Table, key: str, kind: type[D]) -> D | None:
        """One document, parsed; None if there is none."""
        raw = self.tables[table].get(key)
        return None if raw is None else kind.stored(raw, table.prefix, key)

    def all(self, table: Table, kind: type[D]) -> dict[str, D]:
        """A whole table, parsed, in key order."""
        documents = sorted(self.tables[table].items())
        return {key: kind.stored(raw, table.prefix, key) for key, raw in documents}

    def changed_by_another_hand(self) -> tuple[Table, ...]:
        """Tables that do not fit the revision."""
        none = table_sum({})  # as a table counts that is younger than the revision
        return tuple(table for table in Table if table_sum(self.tables[table]) != self.revision.tables.get(table, none))

    def policy(self) -> Policy:
        """Everything, parsed."""
        return Policy(
            self.revision,
            self.all(Table.SERVICES, ServicePolicy),
            self.all(Table.CLIENTS, ClientPolicy),
            self.all(Table.KEYS, Key),
        )


@dataclass(frozen=True)
class Edit:
    """What a verb wants written: documents by table and key (None removes), and what the record says of it."""

    verb: str
    author: str
    reason: str
    documents: Mapping[Place, Stored | None] = field(default_factory=dict)


Beside = Callable[[Revision], Sequence[Write]]


def nothing(_: Revision) -> Sequence[Write]:
    """No other writes."""
    return ()


@dataclass(frozen=True)
class Held:
    """What the gates hold on to, whatever the store says.

    Attributes:
        running: Epoch and number of the newest revision they run.
        revoked: Keys they refuse as revoked, and since when.
    """

    running: tuple[int, int]
    revoked: Mapping[str, int] = field(default_factory=dict)


class Book:
    """Reads and writes the policy in a store. Not safe for two writers in one process: the leader serialises.

    Nothing is kept between verbs: what another hand has changed in the store must be seen, not overwritten.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self) -> Page:
        """The present page.

        Raises:
            NotInitialised: There is no revision.
            Unavailable: The store did not answer.
        """
        found = (await self._store.read(REVISION_KEY)).entries.get("")
        if found is None:
            raise NotInitialised(
                "Consul holds no TekUp state. On a first start run `tekup state init`;"
                " if there was one before, its data is lost: restore a backup"
            )
        tables = {}
        for table in Table:
            listing = await self._store.read(table.prefix)
            tables[table] = {key: entry.value for key, entry in listing.entries.items()}
        return Page(Revision.parse(found.value, REVISION_KEY), found.index, tables)

    async def whole(self) -> Page:
        """The present page, every table as its revision says.

        Raises:
            Conflict: A table was changed by another hand; naming it.
        """
        page = await self.page()
        if odd := page.changed_by_another_hand():
            names = ", ".join(table.prefix for table in odd)
            raise Conflict(
                f"{names} does not fit revision {page.revision.number}: it was changed by another hand."
                " No gate takes it up. Put it back as it was, or accept it as it is with `tekup state repair`"
            )
        return page

    async def begin(self, epoch: int, fence: Fence, *, at_s: float) -> Revision:
        """Write an empty policy where there is none.

        Raises:
            Conflict: There is one.
        """
        empty = table_sum({})
        revision = Revision(epoch=epoch, number=0, tables=dict.fromkeys(Table, empty))
        record = HistoryRecord(
            number=0, epoch=epoch, at=at_s, author="control-plane", verb="init", reason="first start", changes=()
        )
        writes = [Write(REVISION_KEY, revision.to_bytes(), 0), Write(history_key(epoch, 0), record.to_bytes())]
        await self._store.commit(writes, fence)
        return revision

    async def write(
        self, page: Page, edit: Edit, fence: Fence, *, at_s: float, beside: Beside = nothing
    ) -> tuple[Revision, bool]:
        """Write a change, its revision and its record, all or nothing.

        Args:
            page: The whole page the change was decided on; its index guards the write.
            edit: The change.
            fence: Proves that we lead.
            at_s: Seconds since the epoch, for the record.
            beside: What else belongs into the transaction, given the revision that holds the wish.

        Returns:
            The revision that holds the wish, and whether the policy had to be changed for it.

        Raises:
            Conflict: Somebody else wrote in the meantime.
            Fenced: We do not lead any more.
            Unavailable: The store did not answer; the change may or may not be written.
        """
        changed = {
            place: document
            for place, document in edit.documents.items()
            if page.tables[place[0]].get(place[1]) != (document.to_bytes() if document else None)
        }
        if not changed:
            if others := beside(page.revision):
                await self._store.commit(others, fence)
            return page.revision, False
        following = _turn(page, changed)
        record = _record(edit, following, _changes(page, changed), at_s)
        documents = [
            Write(table.prefix + key, document.to_bytes() if document else None)
            for (table, key), document in changed.items()
        ]
        await self._store.commit([*documents, *beside(following), *_closing(page, following, record)], fence)
        return following, True

    async def repair(self, edit: Edit, fence: Fence, *, at_s: float, gates: Held) -> tuple[Revision, bool]:
        """Accept what lies in the store: tables that another hand has changed, or an older state that was restored.

        Args:
            edit: Who and why.
            fence: Proves that we lead.
            at_s: Seconds since the epoch, for the record.
            gates: What they hold on to. If they run a newer revision, only a new epoch makes them go back; what they
                know to be revoked is written down again.

        Returns:
            The revision, and whether there was anything to repair.

        Raises:
            Refused: A document makes no sense; nothing was written.
        """
        page = await self.page()
        page.policy()
        odd, held = page.changed_by_another_hand(), page.revision
        back = held.place < gates.running
        revoked = _revoked_again(page, gates.revoked)
        if not odd and not back and not revoked:
            return held, False
        tables = {**page.tables, Table.KEYS: {**page.tables[Table.KEYS], **revoked}}
        sums = {table: table_sum(tables[table]) for table in Table}
        epoch = gates.running[0] + 1 if back else held.epoch
        following = Revision(epoch=epoch, number=held.number + 1, tables=sums)
        changes = await self._changed_by_hand(page, odd)
        changes += [_change(Table.KEYS, Table.KEYS.prefix + key, None, None) for key in revoked]
        documents = [Write(Table.KEYS.prefix + key, raw) for key, raw in revoked.items()]
        closing = _closing(page, following, _record(edit, following, changes, at_s))
        await self._store.commit([*documents, *closing], fence)
        return following, True

    async def _changed_by_hand(self, page: Page, odd: Sequence[Table]) -> list[Change]:
        """What the records do not know of: the evidence of a repair."""
        recorded: dict[str, str | None] = {}
        for name, entry in sorted((await self._store.read(HISTORY_PREFIX)).entries.items()):
            recorded |= {change.key: change.after for change in HistoryRecord.parse(entry.value, name).changes}
        changes = []
        for table in odd:
            before = {key: text for key, text in recorded.items() if key.startswith(table.prefix) and text is not None}
            after = {table.prefix + key: raw.decode() for key, raw in page.tables[table].items()}
            changes += [
                _change(table, key, before.get(key), after.get(key))
                for key in sorted(before.keys() | after.keys())
                if before.get(key) != after.get(key)
            ]
        return changes


def _revoked_again(page: Page, revoked: Mapping[str, int]) -> dict[str, bytes]:
    """Keys that a store from before their revocation shows as good, revoked."""
    known = page.all(Table.KEYS, Key)
    return {
        key: known[key].model_copy(update={"revoked": since}).to_bytes()
        for key, since in sorted(revoked.items())
        if key in known and not known[key].revoked
    }


def _closing(page: Page, following: Revision, record: HistoryRecord) -> list[Write]:
    return [
        Write(REVISION_KEY, following.to_bytes(), page.index),
        Write(history_key(following.epoch, following.number), record.to_bytes(), 0),
    ]


def history_key(epoch: int, number: int) -> str:
    """Where the record of a change lies; sorted by epoch, then number."""
    return f"{HISTORY_PREFIX}{epoch:06d}-{number:010d}"


def _turn(page: Page, changed: Mapping[Place, Stored | None]) -> Revision:
    sums = dict(page.revision.tables)
    for touched in {table for table, _ in changed}:
        documents = dict(page.tables[touched])
        for (table, key), document in changed.items():
            if table is touched and document is None:
                documents.pop(key, None)
            elif table is touched and document is not None:
                documents[key] = document.to_bytes()
        if touched is Table.SERVICES and not documents:
            raise Refused("the change would leave no service at all; nothing was written")
        sums[touched] = table_sum(documents)
    return Revision(epoch=page.revision.epoch, number=page.revision.number + 1, tables=sums)


def _changes(page: Page, changed: Mapping[Place, Stored | None]) -> list[Change]:
    changes = []
    for (table, key), document in changed.items():
        before = page.tables[table].get(key)
        after = document.to_bytes().decode() if document else None
        changes.append(_change(table, table.prefix + key, None if before is None else before.decode(), after))
    return changes


def _change(table: Table, key: str, before: str | None, after: str | None) -> Change:
    # Keys are not versioned and never come back by a rollback: the record names them without their content.
    secret = table is Table.KEYS
    return Change(key=key, before=None if secret else before, after=None if secret else after)


def _record(edit: Edit, revision: Revision, changes: Sequence[Change], at_s: float) -> HistoryRecord:
    return HistoryRecord(
        number=revision.number,
        epoch=revision.epoch,
        at=at_s,
        author=edit.author,
        verb=edit.verb,
        reason=edit.reason,
        changes=tuple(changes),
    )
