"""The gates as the leader sees them, and when a change is in force on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from control_plane.errors import Refused
from control_plane.model import Gate, GateReport, Revision
from control_plane.ports import Listing, Store
from control_plane.watch import WATCH_S, follow

log = logging.getLogger(__name__)

GATES_PREFIX = "tekup/gates/"
NO_GATE = "(no gate has ever reported)"


class Gates:
    """Follows what every gate reports, and wakes those who wait for a revision."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Condition()
        self._gates: Mapping[str, Gate] = {}
        self._newest = (0, 0)
        self._ran = (0, 0)

    @property
    def all(self) -> Mapping[str, Gate]:
        """Every gate that has ever reported and was not forgotten, by id."""
        return self._gates

    async def run(self) -> None:
        """Follow the reports for ever."""
        await follow(self._read, "gates")

    async def _read(self, after: int) -> int:
        listing = await self._store.read(GATES_PREFIX, after=after, wait_s=WATCH_S)
        async with self._changed:
            self._gates = _parse(listing)
            self._ran = max(self._ran, *(gate.report.place for gate in self._gates.values()), (0, 0))
            self._changed.notify_all()
        return listing.index

    @property
    def running(self) -> tuple[int, int]:
        """Epoch and number of the newest revision that any gate was ever seen to run.

        A store that was restored shows the gates' reports of then, too, until they are made again.
        """
        return self._ran

    @property
    def revoked(self) -> dict[str, int]:
        """Keys that gates refuse although the store has forgotten their revocation."""
        return {key: since for gate in self._gates.values() for key, since in gate.report.revoked.items()}

    def written(self, revision: Revision) -> None:
        """Note the newest revision the store holds: a gate that runs a newer one holds on to a state that was lost.

        The store can go back, to a backup, so the last one written or read counts and not the greatest.
        """
        self._newest = revision.place

    def lagging(self, place: tuple[int, int], *, also_gone: bool) -> tuple[str, ...]:
        """Gates that do not have a revision in force.

        Args:
            place: Epoch and number of what they should have.
            also_gone: Count gates whose agent is gone as well: for keys and rights, which such a gate still serves.
        """
        if not self._gates:
            return (NO_GATE,)
        also_gone = also_gone or not any(gate.live for gate in self._gates.values())
        counted = [gate.report for gate in self._gates.values() if gate.live or also_gone]
        newest = max(self._newest, place)
        return tuple(report.id for report in counted if not place <= report.place <= newest)

    async def in_force(self, place: tuple[int, int], *, also_gone: bool, timeout_s: float) -> tuple[str, ...]:
        """Wait until every gate that counts reports a revision; arguments as of `lagging`.

        Returns:
            The gates that did not within the time; empty when it is in force.
        """
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: not self.lagging(place, also_gone=also_gone))
        except TimeoutError:
            return self.lagging(place, also_gone=also_gone)
        return ()


def _parse(listing: Listing) -> dict[str, Gate]:
    gates = {}
    for gate_id, entry in sorted(listing.entries.items()):
        try:
            report = GateReport.parse(entry.value, f"report of gate {gate_id}")
        except Refused as error:
            log.warning("gates.report_ignored", extra={"why": str(error)})
            continue
        gates[gate_id] = Gate(report, live=bool(entry.session))
    return gates
