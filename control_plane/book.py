"""The book of policy: reads it, and writes each change with its revision and record, fenced, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from control_plane import staged
from control_plane.errors import Conflict, NotInitialised, Refused, Unavailable
from control_plane.history import History, record_writes
from control_plane.kept import REVISION_KEY, history_key
from control_plane.known import KnownTables
from control_plane.model import Change, HistoryRecord, Revision, Stored, Table
from control_plane.page import (
    DOCUMENTS,
    Edit,
    Held,
    Page,
    Place,
    by_table,
    change_of,
    changed_by,
    changes_of,
    record_of,
    revoked_again,
    text_of,
    turned,
)
from control_plane.ports import Fence, Store, Write
from control_plane.resources import VERSIONED
from control_plane.signed import TableDigests, table_sum

__all__ = ["DOCUMENTS", "Book", "Edit", "Held", "Page", "Place"]

log = logging.getLogger(__name__)

Beside = Callable[[Revision], Sequence[Write]]


def nothing(_: Revision) -> Sequence[Write]:
    """No other writes."""
    return ()


class Book:
    """Reads and writes the policy in a store. Not safe for two writers in one process: the leader serialises.

    What another hand has changed in the store must be seen, not overwritten: what is kept between verbs is asked after
    each time; see :mod:`control_plane.known`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = KnownTables(store)
        self._digests = TableDigests()
        self.history = History(store)

    async def page(self, *, afresh: bool = True) -> Page:
        """The present page.

        Args:
            afresh: Read all of it; if not, what has not moved is taken as it was read.

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
        known = await self._known.read(found, afresh=afresh)
        return Page(
            Revision.parse(found.value, REVISION_KEY),
            found.index,
            {table: one.raws for table, one in known.items()},
            {table: one.indexes for table, one in known.items()},
            self._digests,
        )

    async def whole(self) -> Page:
        """The present page, every table as its revision says.

        Raises:
            Conflict: A table was changed by another hand; naming it.
        """
        page = await self.page(afresh=False)
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
        changed = changed_by(page, edit)
        if not changed:
            if others := beside(page.revision):
                await self._store.commit(others, fence)
            return page.revision, False
        following = turned(page, changed)
        documents = [
            Write(table.prefix + key, document.to_bytes() if document else None, page.index_of(table, key))
            for (table, key), document in changed.items()
        ]
        record = record_of(edit, following, changes_of(page, changed), at_s)
        known = self._known.let_go()
        await self._commit(page, documents, following, record, fence, beside(following))
        self._known.wrote(known, following.to_bytes(), by_table(changed))
        await self._keep_history(following, page, changed, fence)
        return following, True

    async def note(
        self, page: Page, edit: Edit, fence: Fence, *, at_s: float, beside: Sequence[Write] = ()
    ) -> Revision:
        """Write a record of what changes no document, as a revision of its own.

        Args:
            page: The whole page; its index guards the write.
            edit: Who and why, and no documents.
            fence: Proves that we lead.
            at_s: Seconds since the epoch, for the record.
            beside: What else belongs into the transaction.

        Returns:
            The revision.
        """
        following = page.revision.following(())
        await self._commit(page, (), following, record_of(edit, following, [], at_s), fence, beside)
        await self._keep_history(following, page, {}, fence)
        return following

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
        changed = changed_by(page, edit)
        if changed:
            turned(page, changed)
        return tuple(changes_of(page, changed))

    async def finish(self, fence: Fence) -> Revision | None:
        """End a change that was begun and not ended, ours or an earlier leader's; see :mod:`control_plane.staged`."""
        return await staged.finish(self._store, fence)

    async def repair(
        self,
        edit: Edit,
        fence: Fence,
        *,
        at_s: float,
        gates: Held,
        later_than: int = 0,
        beside: Sequence[Write] = (),
    ) -> tuple[Revision, bool]:
        """Accept what lies in the store: tables that another hand has changed, or an older state that was restored.

        Args:
            edit: Who and why.
            fence: Proves that we lead.
            at_s: Seconds since the epoch, for the record.
            gates: What they hold on to. If they run a newer revision, only a new epoch makes them go back; what they
                know to be revoked is written down again.
            later_than: Begin an epoch later than this one, whether there is anything to repair or not; 0: only if
                there is need.
            beside: What else belongs into the transaction.

        Returns:
            The revision, and whether there was anything to repair.

        Raises:
            Refused: A document makes no sense; nothing was written.
        """
        await self._finish_or_give_up(fence)
        page = await self.page()
        page.policy()
        for table in (Table.DELIVERY, Table.OPERATORS, Table.RULES, Table.AUTOSCALE, Table.RECEIVERS):
            page.all(table, DOCUMENTS[table])
        odd, held = page.changed_by_another_hand(), page.revision
        back = held.place < gates.running or later_than > 0
        revoked = revoked_again(page, gates.revoked)
        if not odd and not back and not revoked:
            return held, False
        tables = {**page.tables, Table.KEYS: {**page.tables[Table.KEYS], **revoked}}
        sums = {table: table_sum(tables[table]) for table in Table}
        epoch = max(gates.running[0], later_than, held.epoch if later_than else 0) + 1 if back else held.epoch
        following = Revision(epoch=epoch, number=held.number + 1, tables=sums)
        changes = await self._changed_by_hand(page, odd)
        changes += [change_of(Table.KEYS, Table.KEYS.prefix + key, None, None) for key in revoked]
        documents = [Write(Table.KEYS.prefix + key, raw) for key, raw in revoked.items()]
        await self._commit(page, documents, following, record_of(edit, following, changes, at_s), fence, beside)
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
                change_of(table, table.prefix + key, text_of(before.get(key)), text_of(after.get(key)))
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
        following = page.revision.following(one.key for one in back)
        documents = [Write(one.key, None if one.after is None else one.after.encode()) for one in back]
        await self._commit(page, documents, following, record_of(edit, following, back, at_s), fence)
        return following, True
