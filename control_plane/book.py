"""The book of policy: reads it, and writes each change with its revision and record, fenced, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from control_plane import staged
from control_plane.delivery import Delivery
from control_plane.errors import Conflict, NotInitialised, Refused, Unavailable
from control_plane.history import HISTORY_PREFIX, History, history_key, record_writes
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
from control_plane.resources import VERSIONED
from control_plane.signed import table_sum
from control_plane.staged import REVISION_KEY

__all__ = ["DOCUMENTS", "HISTORY_PREFIX", "REVISION_KEY", "Book", "Edit", "Held", "Page", "Place"]

MOST_DOCUMENT_BYTES = 64_000
log = logging.getLogger(__name__)

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
        self.history = History(store)

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
            number=0,
            epoch=epoch,
            at=at_s,
            author="control-plane",
            verb="init",
            reason="first start",
            changes=(),
            tables=revision.tables,
        )
        writes = [Write(REVISION_KEY, revision.to_bytes(), 0), Write(history_key(epoch, 0), record.to_bytes())]
        await self._store.commit(writes, fence)
        return revision

    async def write(
        self, page: Page, edit: Edit, fence: Fence, *, at_s: float, beside: Beside = nothing
    ) -> tuple[Revision, bool]:
        """Write a change, its revision and its record, all or nothing; see :func:`control_plane.staged.carry_out`.

        Args:
            page: The whole page the change was decided on; its index guards the write.
            edit: The change.
            fence: Proves that we lead.
            at_s: Seconds since the epoch, for the record.
            beside: What else belongs into the transaction, given the revision that holds the wish.

        Returns:
            The revision that holds the wish, and whether the policy had to be changed for it.

        Raises:
            Refused: The change is more than the store can take; nothing was written.
            Conflict: Somebody else wrote in the meantime.
            Fenced: We do not lead any more.
            Unavailable: The store did not answer; the change may or may not be written.
        """
        changed = _changed(page, edit)
        if not changed:
            if others := beside(page.revision):
                await self._store.commit(others, fence)
            return page.revision, False
        following = _turn(page, changed)
        documents = [
            Write(table.prefix + key, document.to_bytes() if document else None)
            for (table, key), document in changed.items()
        ]
        record = _record(edit, following, _changes(page, changed), at_s)
        await self._commit(page, documents, following, record, fence, beside(following))
        await self._keep_history(following, page, changed, fence)
        return following, True

    async def _commit(
        self,
        page: Page,
        documents: Sequence[Write],
        following: Revision,
        record: HistoryRecord,
        fence: Fence,
        beside: Sequence[Write] = (),
    ) -> None:
        stored, parts = record_writes(record)
        closing = staged.Closing(following, page.index, stored, tuple(beside))
        await staged.carry_out(self._store, [*documents, *parts], page.revision, closing, fence)

    async def _keep_history(
        self, following: Revision, page: Page, changed: Mapping[Place, Stored | None], fence: Fence
    ) -> None:
        tables = {table: dict(documents) for table, documents in page.tables.items()}
        for (table, key), document in changed.items():
            if document is None:
                tables[table].pop(key, None)
            else:
                tables[table][key] = document.to_bytes()
        try:
            await self.history.keep_in_bounds(following, tables, fence)
        except (Unavailable, Refused) as error:
            # The change itself is written; what is left undone is done at the next snapshot.
            log.warning("history.not_kept_in_bounds", extra={"why": str(error)})

    @staticmethod
    def preview(page: Page, edit: Edit) -> tuple[Change, ...]:
        """What a change would write.

        Raises:
            Refused: It would be refused.
        """
        changed = _changed(page, edit)
        if changed:
            _turn(page, changed)
        return tuple(_changes(page, changed))

    async def finish(self, fence: Fence) -> Revision | None:
        """End a change that was begun and not ended, ours or an earlier leader's; see :mod:`control_plane.staged`."""
        return await staged.finish(self._store, fence)

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
        await self._finish_or_give_up(fence)
        page = await self.page()
        page.policy()
        page.all(Table.DELIVERY, Delivery)
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
        await self._commit(page, documents, following, _record(edit, following, changes, at_s), fence)
        return following, True

    async def _finish_or_give_up(self, fence: Fence) -> None:
        try:
            await self.finish(fence)
        except Conflict as error:
            log.warning("change.given_up", extra={"why": str(error)})
            await staged.give_up(self._store, fence)

    async def drift(self, page: Page) -> tuple[Change, ...]:
        """What another hand has changed: from what the last revision says to what lies there, keys left out."""
        return tuple(await self._changed_by_hand(page, page.changed_by_another_hand()))

    async def _changed_by_hand(self, page: Page, odd: Sequence[Table]) -> list[Change]:
        """What the records do not know of: the evidence of a repair."""
        said = await self.history.last_said(page.revision) if odd else None
        changes = []
        for table in odd:
            if table not in VERSIONED or said is None:
                continue
            before, after = said[table], page.tables[table]
            changes += [
                _change(table, table.prefix + key, _text(before.get(key)), _text(after.get(key)))
                for key in sorted(before.keys() | after.keys())
                if before.get(key) != after.get(key)
            ]
        return changes

    async def restore(self, edit: Edit, fence: Fence, *, at_s: float) -> tuple[Revision, bool]:
        """Put back what the last revision says, over what another hand has changed; keys stay as they lie there.

        Returns:
            The revision, and whether there was anything to put back.

        Raises:
            Refused: The history does not hold what the last revision says.
        """
        await self.finish(fence)
        page = await self.page()
        odd = [table for table in page.changed_by_another_hand() if table in VERSIONED]
        if not odd:
            return page.revision, False
        said = await self.history.last_said(page.revision)
        if said is None:
            raise Refused(
                f"the history in Consul does not hold what revision {page.revision.number} says; restore a backup,"
                " or accept what lies there with `tekup state repair`"
            )
        by_hand = await self._changed_by_hand(page, odd)
        back = [Change(key=one.key, before=one.after, after=one.before) for one in by_hand]
        following = page.revision.model_copy(update={"number": page.revision.number + 1})
        documents = [Write(one.key, None if one.after is None else one.after.encode()) for one in back]
        await self._commit(page, documents, following, _record(edit, following, back, at_s), fence)
        return following, True


def _revoked_again(page: Page, revoked: Mapping[str, int]) -> dict[str, bytes]:
    """Keys that a store from before their revocation shows as good, revoked."""
    known = page.all(Table.KEYS, Key)
    return {
        key: known[key].model_copy(update={"revoked": since}).to_bytes()
        for key, since in sorted(revoked.items())
        if key in known and not known[key].revoked
    }


def _changed(page: Page, edit: Edit) -> dict[Place, Stored | None]:
    """The documents of an edit that are not so already.

    Raises:
        Refused: There are too many, or one is too large.
    """
    changed = {
        place: document
        for place, document in edit.documents.items()
        if page.tables[place[0]].get(place[1]) != (document.to_bytes() if document else None)
    }
    if len(changed) > staged.MOST_CHANGED:
        raise Refused(
            f"{edit.verb} would change {len(changed)} documents; at most {staged.MOST_CHANGED} go in one change, so"
            " make several"
        )
    for (table, key), document in changed.items():
        if document and (size := len(document.to_bytes())) > MOST_DOCUMENT_BYTES:
            raise Refused(
                f"{table.prefix}{key} would take {size} bytes, more than {MOST_DOCUMENT_BYTES}; make it smaller"
            )
    return changed


def _text(raw: bytes | None) -> str | None:
    # What another hand wrote need not be text.
    return None if raw is None else raw.decode(errors="replace")


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
        touched=len(changes),
        tables=revision.tables,
    )
