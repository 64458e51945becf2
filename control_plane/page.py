"""A page of the policy, and what a change makes of it. Pure: no store, no clock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from control_plane.alert_rules import RuleGroup
from control_plane.autoscale import Autoscale
from control_plane.delivery import Delivery
from control_plane.errors import NotFound, Refused
from control_plane.model import (
    SECRET_TABLES,
    Change,
    ClientPolicy,
    HistoryRecord,
    Key,
    Policy,
    Revision,
    ServicePolicy,
    Stored,
    Table,
    TableSum,
)
from control_plane.receivers import Receiver
from control_plane.roles import OperatorDocument
from control_plane.signed import TableDigests, table_sum

MOST_CHANGED = 10_000
MOST_DOCUMENT_BYTES = 64_000

D = TypeVar("D", bound=Stored)
T = TypeVar("T")
Place = tuple[Table, str]
DOCUMENTS: Mapping[Table, type[Stored]] = {
    Table.SERVICES: ServicePolicy,
    Table.CLIENTS: ClientPolicy,
    Table.KEYS: Key,
    Table.DELIVERY: Delivery,
    Table.OPERATORS: OperatorDocument,
    Table.RULES: RuleGroup,
    Table.AUTOSCALE: Autoscale,
    Table.RECEIVERS: Receiver,
}


@dataclass(frozen=True)
class Page:
    """All policy documents as raw bytes.

    Attributes:
        revision: What was written last.
        index: Guards the next write.
        tables: The documents.
        indexes: Guard each of them; none where they are not known.
        digests: Takes the tables' digests.
    """

    revision: Revision
    index: int
    tables: Mapping[Table, Mapping[str, bytes]]
    indexes: Mapping[Table, Mapping[str, int]] = field(default_factory=dict)
    digests: TableDigests = field(default_factory=TableDigests)

    def index_of(self, table: Table, key: str) -> int | None:
        """What a write of a document has to find there: 0 = nothing, None = whatever it is."""
        return self.indexes[table].get(key, 0) if table in self.indexes else None

    def find(self, table: Table, key: str, kind: type[D]) -> D | None:
        """One document, parsed; None if there is none."""
        raw = self.tables[table].get(key)
        return None if raw is None else kind.stored(raw, table.prefix, key)

    def tag(self, table: Table, key: str) -> str:
        """Tells this state of a document from every other; that it is not there is a state, too."""
        raw = self.tables[table].get(key)
        return "none" if raw is None else hashlib.sha256(raw).hexdigest()[:16]

    def all(self, table: Table, kind: type[D]) -> dict[str, D]:
        """A whole table, parsed, in key order."""
        documents = sorted(self.tables[table].items())
        return {key: kind.stored(raw, table.prefix, key) for key, raw in documents}

    def changed_by_another_hand(self) -> tuple[Table, ...]:
        """Tables that do not fit the revision."""
        none = table_sum({})  # as a table counts that is younger than the revision
        return tuple(table for table in Table if self._sum(table) != self.revision.tables.get(table, none))

    def _sum(self, table: Table) -> TableSum:
        return self.digests.sum(table, self.tables[table])

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
    trace: str = ""
    asked: str = ""


@dataclass(frozen=True)
class Held:
    """What the gates hold on to, whatever the store says.

    Attributes:
        running: Epoch and number of the newest revision they run.
        revoked: Keys they refuse as revoked, and since when.
    """

    running: tuple[int, int]
    revoked: Mapping[str, int] = field(default_factory=dict)


def revoked_again(page: Page, revoked: Mapping[str, int]) -> dict[str, bytes]:
    """Keys that a store from before their revocation shows as good, revoked."""
    known = page.all(Table.KEYS, Key)
    return {
        key: known[key].model_copy(update={"revoked": since}).to_bytes()
        for key, since in sorted(revoked.items())
        if key in known and not known[key].revoked
    }


def changed_by(page: Page, edit: Edit) -> dict[Place, Stored | None]:
    """The documents of an edit that are not so already.

    Raises:
        Refused: There are too many, or one is too large.
    """
    changed = {
        place: document
        for place, document in edit.documents.items()
        if page.tables[place[0]].get(place[1]) != (document.to_bytes() if document else None)
    }
    if len(changed) > MOST_CHANGED:
        raise Refused(
            f"{edit.verb} would change {len(changed)} documents; at most {MOST_CHANGED} go in one change, so"
            " make several"
        )
    for (table, key), document in changed.items():
        if document and (size := len(document.to_bytes())) > MOST_DOCUMENT_BYTES:
            raise Refused(
                f"{table.prefix}{key} would take {size} bytes, more than {MOST_DOCUMENT_BYTES}; make it smaller"
            )
    return changed


def by_table(changed: Mapping[Place, Stored | None]) -> dict[Table, dict[str, bytes | None]]:
    """A change as raw documents, table by table."""
    lots: dict[Table, dict[str, bytes | None]] = {}
    for (table, key), document in changed.items():
        lots.setdefault(table, {})[key] = document.to_bytes() if document else None
    return lots


def text_of(raw: bytes | None) -> str | None:
    """A raw document as text."""
    # What another hand wrote need not be text.
    return None if raw is None else raw.decode(errors="replace")


def turned(page: Page, changed: Mapping[Place, Stored | None]) -> Revision:
    """The revision after a change.

    Raises:
        Refused: It would leave no service.
    """
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
        sums[touched] = page.digests.sum(touched, documents)
    return page.revision.following((table.prefix + key for table, key in changed), sums)


def changes_of(page: Page, changed: Mapping[Place, Stored | None]) -> list[Change]:
    """A change as its record has it."""
    changes = []
    for (table, key), document in changed.items():
        before = page.tables[table].get(key)
        after = document.to_bytes().decode() if document else None
        changes.append(change_of(table, table.prefix + key, None if before is None else before.decode(), after))
    return changes


def change_of(table: Table, key: str, before: str | None, after: str | None) -> Change:
    """One document before and after."""
    # Keys and tokens are not versioned and never come back by a rollback: the record names them without their content.
    secret = table in SECRET_TABLES
    return Change(key=key, before=None if secret else before, after=None if secret else after)


def record_of(edit: Edit, revision: Revision, changes: Sequence[Change], at_s: float) -> HistoryRecord:
    """The record of a change that leads to a revision."""
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
        trace=edit.trace,
        asked=edit.asked,
    )


def found(value: T | None, what: str) -> T:
    """What was looked for.

    Args:
        value: What there was.
        what: Its name, for the message.

    Raises:
        NotFound: There was nothing.
    """
    if value is None:
        raise NotFound(f"{what} does not exist")
    return value
