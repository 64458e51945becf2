"""A control plane in the test's own process, over any store, with gates that report whatever is written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from control_plane.consul import Consul
from control_plane.gates import GATES_PREFIX
from control_plane.kept import REVISION_KEY
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane
from control_plane.model import GateReport, Revision
from tests.support.memory import Memory
from tests.support.wait import eventually


class ObedientGate:
    """Reports each revision as soon as it is written, as an agent does; can be told to stop."""

    def __init__(self, store: Memory | Consul, gate: str) -> None:
        self._store = store
        self._gate = gate
        self.session = ""
        self.obeys = True

    async def run(self) -> None:
        """Report for ever."""
        self.session = await self._store.open_session(self._gate, 5)
        try:
            await self._follow()
        finally:
            await self._store.close_session(self.session)

    async def _follow(self) -> None:
        await self._report(0, 0)
        after, reported = 0, (0, 0)
        while True:
            # Not for longer: one that is told to obey again does so at once, whether anything was written or not.
            listing = await self._store.read(REVISION_KEY, after=after, wait_s=0.1)
            after = listing.index
            if "" in listing.entries and self.obeys:
                revision = Revision.parse(listing.entries[""].value, "revision")
                if revision.place != reported:
                    reported = revision.place
                    await self._report(*reported)

    async def _report(self, epoch: int, number: int) -> None:
        report = GateReport(id=self._gate, epoch=epoch, number=number, at=0)
        await self._store.lock(GATES_PREFIX + self._gate, report.to_bytes(), self.session)


@contextlib.asynccontextmanager
async def running(plane: ControlPlane, *gates: ObedientGate) -> AsyncIterator[ControlPlane]:
    """Run a control plane and gates for the length of a block, led and ready."""
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(gate.run()) for gate in gates]
        work.append(tasks.create_task(plane.run()))
        async with asyncio.timeout(5):
            await plane.leadership.held()
        try:
            yield plane
        finally:
            for task in work:
                task.cancel()


@contextlib.asynccontextmanager
async def standing_by(plane: ControlPlane) -> AsyncIterator[ControlPlane]:
    """Run a further replica for the length of a block, shown to the others."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(plane.run())

        async def shown() -> bool:
            return plane.leadership.me in (await plane.replicas.cast()).replicas

        await eventually(shown, f"{plane.leadership.me.replica} among the replicas", 20)
        try:
            yield plane
        finally:
            work.cancel()


def control_plane(store: Memory, name: str = "one") -> ControlPlane:
    """A replica over a store in memory, on a clock that stands still."""
    return ControlPlane(
        store, store, Leadership(store, name, url=f"http://{name}"), in_force_timeout_s=1, now=lambda: 1000.0
    )
