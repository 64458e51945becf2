"""Desired state at work: plan and apply a set of resources, go back to an earlier revision, find and undo drift.

Each is one change of the book's, as every other verb; the checks are in :mod:`control_plane.desired`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from control_plane import decide, desired
from control_plane.book import DOCUMENTS, Book, Page
from control_plane.desired import Documents, Present
from control_plane.errors import Refused
from control_plane.history import Tables
from control_plane.model import Change, Gate, HistoryRecord, Instance, Key, Revision, ServicePolicy, Stored, Table
from control_plane.outcome import Outcome, Wish
from control_plane.resources import KIND_OF, VERSIONED, Resource
from control_plane.rollout import settled

MOST_LISTED = 1000


class CarryOut(Protocol):
    """How the control plane makes a change; see ``ControlPlane``."""

    def __call__(
        self, verb: str, wish: Wish, change: Callable[[Page], Documents], *, rights: bool | None, guarded: bool = False
    ) -> Awaitable[Outcome]: ...


@dataclass(frozen=True)
class Planned:
    """What a set would change.

    Attributes:
        revision: The present one, to name in `apply` as the one expected.
        changes: Document by document.
        kept: Documents that the set leaves out and that stay, as ``Client ci``.
        settled: Services that were at a step of a rollout then, and come back without it.
    """

    revision: Revision
    changes: tuple[Change, ...]
    kept: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drift:
    """How Consul and the gates differ from the last revision.

    Attributes:
        revision: The last one.
        changes: From what it says to what lies in Consul.
        tables: Tables another hand has changed, also where the history does not tell what they were.
        gates: What is wrong at gates, a sentence each.
    """

    revision: Revision
    changes: tuple[Change, ...]
    tables: tuple[Table, ...]
    gates: tuple[str, ...]


class State:
    """The state as a whole.

    Args:
        book: Where it lies.
        read: Reads the present page.
        carry_out: Makes a change.
        instances: All registered instances.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        book: Book,
        read: Callable[[], Awaitable[Page]],
        carry_out: CarryOut,
        instances: Callable[[], Sequence[Instance]],
        now: Callable[[], float],
    ) -> None:
        self._book = book
        self._read = read
        self._carry_out = carry_out
        self._instances = instances
        self._now = now

    async def export(self, number: int | None = None) -> tuple[int, Mapping[tuple[Table, str], Stored]]:
        """All resources, now or at a revision, and its number.

        Raises:
            NotFound: There is no such revision, or it was compacted.
        """
        page = await self._read()
        if number is None or number == page.revision.number:
            return page.revision.number, present(page)
        return number, _parsed(await self._book.history.content(page.revision, number))

    async def diff(self, wanted: Sequence[Resource], *, prune: bool = False) -> Planned:
        """How a set differs from the present, whether it could be applied or not."""
        page = await self._read()
        there = present(page)
        documents: Documents = {resource.place: resource.document for resource in wanted}
        if prune:
            documents |= dict.fromkeys(desired.left_out(there, wanted))
        return Planned(page.revision, changes_between(there, documents), _kept(there, wanted, prune=prune))

    async def apply(self, wanted: Sequence[Resource], wish: Wish, *, prune: bool = False) -> tuple[Outcome, Planned]:
        """Make the present as a set wants it, in one revision; with a wish for a dry run, say only what would change.

        Raises:
            Refused: Anything in the set does not fit the present state; nothing was written.
            Conflict: The wish expected another revision.
        """
        planned: list[Planned] = []

        def change(page: Page) -> Documents:
            there = present(page)
            documents = desired.wanted_documents(there, wanted, prune=prune)
            desired.check(there, documents, self._instances())
            kept = _kept(there, wanted, prune=prune)
            planned.append(Planned(page.revision, changes_between(there, documents), kept))
            return documents | self._revoked(page, documents)

        outcome = await self._carry_out("state.apply", wish, change, rights=None, guarded=True)
        return outcome, planned[0]

    def _revoked(self, page: Page, documents: Documents) -> Documents:
        """Keys of clients that go, revoked: so `clients remove` has it."""
        gone = {key for (table, key), document in documents.items() if table is Table.CLIENTS and document is None}
        keys = page.all(Table.KEYS, Key).values() if gone else ()
        return {(Table.KEYS, key.id): decide.revoke(key, self._now()) for key in keys if key.client in gone}

    async def rollback(self, number: int, wish: Wish) -> tuple[Outcome, Planned]:
        """Make a new revision with the services, clients and deliveries of an earlier one.

        Keys and revocations stay as they are. A service that is there and was not then stays: it would be first seen
        again at once. A service that was at a step of a rollout then gets everything to its stable version of then:
        nobody would end that step.

        Raises:
            NotFound: There is no such revision, or it was compacted.
            Refused: A version of then has no instance now, or a rollout runs.
        """
        revision = (await self._read()).revision
        recorded = _parsed(await self._book.history.content(revision, number))
        then = {place: settled(one) if isinstance(one, ServicePolicy) else one for place, one in recorded.items()}
        stepless = tuple(key for (table, key), one in then.items() if one != recorded[table, key])
        planned: list[Planned] = []

        def change(page: Page) -> Documents:
            there = present(page)
            kept = _served_since(there, then, self._instances())
            gone = [place for place in there if place not in then and place not in kept]
            documents: Documents = {**then, **dict.fromkeys(gone)}
            desired.check(there, documents, self._instances(), back=True)
            names = tuple(f"Service {key}" for _, key in sorted(kept))
            planned.append(Planned(page.revision, changes_between(there, documents), names, stepless))
            return documents

        outcome = await self._carry_out("state.rollback", wish, change, rights=None, guarded=True)
        return outcome, planned[0]

    async def history(self, *, below: int | None = None, limit: int = 20) -> list[HistoryRecord]:
        """The last records, newest first.

        Raises:
            Refused: More than can be listed at once are asked for.
        """
        if not 1 <= limit <= MOST_LISTED:
            raise Refused(f"limit {limit} does not lie between 1 and {MOST_LISTED}; page with `before`")
        return await self._book.history.page((await self._read()).revision, below=below, limit=limit)

    async def record(self, number: int) -> HistoryRecord:
        """One record with all its changes.

        Raises:
            NotFound: There is no such revision, or it was compacted.
        """
        return await self._book.history.record((await self._read()).revision, number)

    async def drift(self, gates: Mapping[str, Gate]) -> Drift:
        """How Consul and the gates differ from the last revision."""
        page = await self._read()
        changes = await self._book.drift(page)
        said = tuple(line for gate in gates.values() for line in _gate_lines(gate, page.revision))
        return Drift(page.revision, changes, page.changed_by_another_hand(), said)


def present(page: Page) -> dict[tuple[Table, str], Stored]:
    """All versioned documents of a page, parsed.

    Raises:
        Refused: A document makes no sense.
    """
    return _parsed(page.tables)


def _parsed(tables: Mapping[Table, Mapping[str, bytes]] | Tables) -> dict[tuple[Table, str], Stored]:
    return {
        (table, key): DOCUMENTS[table].stored(raw, table.prefix, key)
        for table in VERSIONED
        for key, raw in tables[table].items()
    }


def changes_between(there: Present, documents: Documents) -> tuple[Change, ...]:
    """The documents that differ, before and after."""
    return tuple(
        Change(key=place[0].prefix + place[1], before=_raw(there.get(place)), after=_raw(document))
        for place, document in sorted(documents.items())
        if document != there.get(place)
    )


def _raw(document: Stored | None) -> str | None:
    return None if document is None else document.to_bytes().decode()


def _kept(there: Present, wanted: Sequence[Resource], *, prune: bool) -> tuple[str, ...]:
    left = () if prune else desired.left_out(there, wanted)
    return tuple(f"{KIND_OF[table]} {key}" for table, key in left)


def _served_since(there: Present, then: Present, instances: Sequence[Instance]) -> set[tuple[Table, str]]:
    served = {one.service for one in instances}
    return {
        place
        for place, one in there.items()
        if isinstance(one, ServicePolicy) and place not in then and one.name in served
    }


def _gate_lines(gate: Gate, revision: Revision) -> list[str]:
    report = gate.report
    lines = [f"gate {report.id}: {problem}" for problem in report.problems]
    if not gate.live:
        lines.append(f"gate {report.id}: its agent is gone; it runs {report.epoch}/{report.number} as long as it lives")
    elif report.place != revision.place:
        lines.append(f"gate {report.id}: runs {report.epoch}/{report.number}, not {revision.epoch}/{revision.number}")
    if report.revoked:
        lines.append(f"gate {report.id}: refuses {len(report.revoked)} keys that Consul shows as good")
    return lines
