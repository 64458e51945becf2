"""The agent's loop: look at everything, believe what may be believed, apply, report, remember."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import replace

from control_plane.agent.apply import Applied, Applier
from control_plane.agent.believe import Accepted, Kept, Memory, believed, forgotten, judge, suspected
from control_plane.agent.beside import LARGE
from control_plane.agent.disk import GateFolder, Remembered
from control_plane.agent.papers import Standing
from control_plane.agent.reading import Reading
from control_plane.agent.report import Report, Reporter
from control_plane.agent.share import Share
from control_plane.agent.watch import PolicyWatch
from control_plane.consul import Consul
from control_plane.errors import Refused, Unavailable
from control_plane.model import Instance, Policy, Table
from control_plane.peers import Papers
from control_plane.registry import Registry
from control_plane.sealed import RingFile
from control_plane.traefik import Checks, Traefik
from observability.telemetry.traces import root_span

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
COMPARE_AT_LEAST_EVERY_S = 5.0
SETTLE_S = 2.0
RETRY_S = 0.25
KEEP_WITHIN_S = 5.0


class Agent:
    """The agent of one gate.

    Args:
        consul: Where policy and catalog lie and reports go.
        traefik: The gate's Traefik.
        folder: The gate's files.
        gate: The gate's id.
        ttl_s: How long after its last sign of life Consul gives this gate up.
        sealing_keys: Open the hashes of keys that lie sealed in Consul.
        standing: With mutual TLS, what the gate shows.
        fixed: Instances that stand in no catalog.
    """

    def __init__(
        self,
        consul: Consul,
        traefik: Traefik,
        folder: GateFolder,
        *,
        gate: str,
        ttl_s: int,
        sealing_keys: RingFile | None = None,
        standing: Standing | None = None,
        fixed: Iterable[Instance] = (),
    ) -> None:
        self._standing = standing
        self._traefik = traefik
        self._folder = folder
        self._news = asyncio.Event()
        if standing:
            standing.authority.on_change(self._news.set)
        self._registry = Registry(consul, fixed=fixed)
        self._reading = Reading()
        self._watch = PolicyWatch(consul, self._news.set, self._reading.sum)
        self._reporter = Reporter(consul, gate, ttl_s)
        self._applier = Applier(folder, traefik)
        self._share = Share(consul, self._applier.gates)
        self._sealing_keys = sealing_keys or RingFile(None)
        self._remembered = folder.recall()
        self._memory = self._remembered.memory
        self._unsettled_s = 0.0
        self._compared_s = time.monotonic()
        self._news_came = True
        self._said: tuple[str, ...] = ()
        self._accepted: tuple[tuple[object, ...], tuple[str, ...]] | None = None
        self._unkept_s = 0.0
        held = self._memory.policy
        self._in_force = held.revision.place if held else (0, 0)

    async def run(self) -> None:
        """Work for ever."""
        log.info("agent.began", extra={"epoch": self._in_force[0], "revision": self._in_force[1]})
        for stray in self._folder.sweep():
            log.warning("gate.stray_file_removed", extra={"file": stray})
        if self._memory.policy:
            self._applier.begin(self._memory.policy, self._remembered.instances, self._papers())
        async with asyncio.TaskGroup() as tasks:
            if self._standing:
                tasks.create_task(self._standing.authority.run())
            tasks.create_task(self._registry.run())
            tasks.create_task(self._watch.run())
            tasks.create_task(self._reporter.run())
            tasks.create_task(self._share.run())
            tasks.create_task(self._hear_registry())
            tasks.create_task(self._work())

    async def _hear_registry(self) -> None:
        while True:
            await self._registry.next_change().wait()
            self._news.set()

    async def _work(self) -> None:
        # Writing before every watch has answered would put a partial picture in force; the files serve until then.
        while not (self._watch.complete and self._registry.complete and self._has_papers()):
            if self._standing and not self._has_papers() and (problem := self._standing.problem(time.time())):
                self._tell((problem,))
            await self._wait(LOOK_EVERY_S)
        try:
            while True:
                again_in_s = LOOK_EVERY_S
                try:
                    again_in_s = await self._turn()
                except (Unavailable, Refused) as error:
                    self._tell((str(error),))
                    again_in_s = RETRY_S
                await self._wait(again_in_s)
        finally:
            if self._unkept_s:
                self._folder.remember(self._remembered)

    async def _wait(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        self._news_came = self._news.is_set()
        self._news.clear()

    async def _turn(self) -> float:
        for name in self._applier.put_back():
            log.warning("gate.file_put_back", extra={"file": name})
        problems, again_in_s = self._take_policy()
        if self._standing and (problem := self._standing.problem(time.time())):
            problems = (*problems, problem)
        instances = await self._believe()
        if self._memory.policy is None:
            # With nothing in force it says so: who begins a policy must know that no gate runs one.
            self._tell(problems)
            return again_in_s
        if await self._drifted():
            log.warning("gate.drifted")
        applied = await self._applied(self._memory.policy, instances)
        self._report(applied, problems)
        if applied.in_force and self._accepted:
            self._folder.confirm(time.time() - self._watch.age_s)
        self._keep(instances)
        return min(again_in_s if applied.in_force else RETRY_S, applied.again_in_s or LOOK_EVERY_S)

    async def _applied(self, policy: Policy, instances: tuple[Instance, ...]) -> Applied:
        """Apply it; of a revision that is not in force yet each turn is a span."""
        epoch, number = policy.revision.place
        if (epoch, number) == self._in_force:
            return await self._apply(policy, instances)
        with root_span("apply revision", tekup_revision=number, tekup_epoch=epoch) as applying:
            applied = await self._apply(policy, instances)
            applying.note(tekup_force=applied.in_force, tekup_problems=len(applied.problems))
            return applied

    async def _apply(self, policy: Policy, instances: tuple[Instance, ...]) -> Applied:
        return await self._applier.apply(policy, instances, gates=self._share.gates, papers=self._papers())

    def _papers(self) -> Papers | None:
        return self._standing.papers() if self._standing else None

    def _has_papers(self) -> bool:
        return self._standing is None or self._papers() is not None

    async def _drifted(self) -> bool:
        # It asks Traefik twice, and changes should be in force in milliseconds: so when nothing is new, or overdue.
        if self._news_came and time.monotonic() - self._compared_s < COMPARE_AT_LEAST_EVERY_S:
            return False
        self._compared_s = time.monotonic()
        return await self._applier.drifted()

    def _take_policy(self) -> tuple[tuple[str, ...], float]:
        ring = self._sealing_keys.ring()
        shown = (ring, self._sealing_keys.problem, self._watch.revision, *self._watch.tables.values())
        if self._accepted and all(one is other for one, other in zip(shown, self._accepted[0], strict=True)):
            return self._accepted[1], LOOK_EVERY_S  # to judge 10,000 clients takes longer than a turn
        self._reading.ring = ring
        judged = judge(self._watch.revision, self._watch.tables, self._memory, self._reading)
        if isinstance(judged, Accepted) and self._sealing_keys.problem:
            judged = replace(judged, problems=(*judged.problems, self._sealing_keys.problem))
        self._accepted = (shown, judged.problems) if isinstance(judged, Accepted) else None
        if isinstance(judged, Accepted):
            self._unsettled_s = 0.0
            revoked = {key.id: key.revoked for key in judged.policy.keys.values() if key.revoked}
            self._memory = Memory(judged.policy, {**self._memory.revoked, **revoked})
            return judged.problems, LOOK_EVERY_S
        return self._kept(judged)

    def _kept(self, kept: Kept) -> tuple[tuple[str, ...], float]:
        # The reads of one change arrive within milliseconds of each other; only what lasts is a problem.
        if kept.passing:
            self._unsettled_s = self._unsettled_s or time.monotonic()
            if time.monotonic() - self._unsettled_s < SETTLE_S:
                return (), RETRY_S
        return (kept.problem,), LOOK_EVERY_S

    async def _believe(self) -> tuple[Instance, ...]:
        seen = self._registry.instances
        checks = await self._traefik.checks() if suspected(self._remembered.instances, seen) else Checks()
        return believed(self._remembered.instances, seen, checks)

    def _keep(self, instances: tuple[Instance, ...]) -> None:
        remembered = Remembered(self._memory, instances)
        if remembered != self._remembered or not self._folder.remembers():
            self._unkept_s = self._unkept_s or time.monotonic()
            self._remembered = remembered
        if self._unkept_s and not self._keeps_later():
            self._folder.remember(remembered)
            self._unkept_s = 0.0

    def _keeps_later(self) -> bool:
        # Written beside the tables, which hold revision and revocations as well (`GateFolder.recall`): to dump 10,000
        # clients takes as long as all else of a change, so it waits until nothing is new, but not for ever.
        policy = self._memory.policy
        many = policy is not None and len(policy.clients) + len(policy.keys) >= LARGE
        return many and self._news_came and time.monotonic() - self._unkept_s < KEEP_WITHIN_S

    def _report(self, applied: Applied, problems: tuple[str, ...]) -> None:
        everything = (*problems, *applied.problems)
        if applied.in_force and self._memory.policy:
            place = self._memory.policy.revision.place
            if place != self._in_force:
                log.info("gate.in_force", extra={"epoch": place[0], "revision": place[1]})
            self._in_force = place
        self._tell(everything)

    def _tell(self, problems: tuple[str, ...]) -> None:
        self._say(problems)
        revoked = forgotten(self._watch.tables.get(Table.KEYS, {}), self._memory.revoked)
        self._reporter.say(Report(*self._in_force, problems, revoked))

    def _say(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._said:
                log.error("gate.problem", extra={"problem": problem})
        self._said = problems
