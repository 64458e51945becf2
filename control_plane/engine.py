"""Carries rollouts: observes, lets `course` say where each goes, and writes that, fenced, in one transaction.

A turn may be repeated and may fail anywhere: the next one begins with what the store holds. The document of a rollout,
the policy that follows from it and their record are one transaction, guarded by the document's index: a verb of an
operator that came in between wins, and the turn is taken again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from control_plane import course, steer
from control_plane.analysis import Verdict
from control_plane.book import Page
from control_plane.checks import Plan
from control_plane.contract import Waiver
from control_plane.delivery import Delivery, Strategy
from control_plane.errors import NotFound, Overtaken, Refused, TekupError, Unavailable
from control_plane.kept import REVISION_KEY
from control_plane.loop import ControlPlane, Documents, Outcome, Wish, Written
from control_plane.model import Revision, ServicePolicy, Table, compact_json, versions_of
from control_plane.observing import NO_METRICS, Observer
from control_plane.ports import Gateway, Metrics, Store, Write
from control_plane.readings import Missing
from control_plane.review import Review, Span, review
from control_plane.rollout import Phase, Place, Rollout, policy_of, range_check
from control_plane.shelf import NO_SERVICE, Held, Shelf
from observability.telemetry.traces import root_span

log = logging.getLogger(__name__)

TURN_S = 1.0
DOUBLINGS = 5
"""How often the pause after a turn that broke is doubled."""
MOST_ATTEMPTS = 10
"""How often a verb is asked of a rollout that moves on meanwhile."""


@dataclass(frozen=True)
class Start:
    """A wish for a rollout.

    Attributes:
        canary: The version that should become stable.
        changes: Fields of the service's delivery document that are otherwise for this rollout.
        waivers: Breaches of the contract that do not count.
        replace: End a rollout of another version that is under way.
    """

    canary: str
    changes: Mapping[str, object] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    replace: bool = False


class Engine:
    """The rollouts of all services.

    Args:
        plane: Writes policy, and knows gates and instances.
        store: Where rollouts lie.
        metrics: What calls were like; None where there is no such source.
        gateway: Calls through the gate; None where no gate can be asked.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        plane: ControlPlane,
        store: Store,
        *,
        metrics: Metrics | None = None,
        gateway: Gateway | None = None,
        now: Callable[[], float] = time.time,
        turn_s: float = TURN_S,
    ) -> None:
        self._plane = plane
        self._store = store
        self.shelf = Shelf(store)
        self._metrics = metrics
        self._observer = Observer(plane, metrics=metrics, gateway=gateway, now=now)
        self._shown = plane.metrics.rollouts
        self._now = now
        self._turn_s = turn_s

    @property
    def plane(self) -> ControlPlane:
        """Who writes policy."""
        return self._plane

    @property
    def store(self) -> Store:
        """Where rollouts lie."""
        return self._store

    async def run(self) -> None:
        """Carry rollouts for ever, as long as this replica leads."""
        while True:
            await self._plane.leadership.held()
            try:
                await self._lead()
            except Exception:  # the others of this replica's tasks go on, and it may lead again
                log.exception("rollouts.broke")
            # Elected, but not certain of it any more: whoever clears that up needs the loop as well.
            await asyncio.sleep(self._turn_s)

    async def _lead(self) -> None:
        carried: dict[str, asyncio.Task[None]] = {}
        try:
            while self._plane.leadership.leading:
                try:
                    running = await self._running()
                except Unavailable as error:
                    log.warning("rollouts.not_read", extra={"why": str(error)})
                    running = list(carried)
                for name in running:
                    if name not in carried or carried[name].done():
                        carried[name] = asyncio.create_task(self._carry(name))
                await asyncio.sleep(self._turn_s)
        finally:
            self._shown.resigned()
            for task in carried.values():
                task.cancel()
            await asyncio.gather(*carried.values(), return_exceptions=True)

    async def _running(self) -> list[str]:
        """Services whose rollout has not ended."""
        last = {name: held.rollout for name, held in (await self.shelf.all()).items()}
        phases = {name: rollout.phase for name, rollout in last.items()}
        for name, rollout in last.items():
            self._shown.shown(name, rollout.phase.value)
            moved_s = max(rollout.since, rollout.step_since)
            self._shown.moved(name, None if rollout.phase.ended else moved_s)
            self._shown.expect(name, (phase.value for phase in Phase if phase.ended))
        return [name for name, phase in phases.items() if not phase.ended]

    async def _carry(self, service: str) -> None:
        """Turn after turn until the rollout has ended."""
        broke = 0
        while True:
            held, waits = None, None
            try:
                held = await self.shelf.held(service)
                if held is None or held.rollout.phase.ended:
                    return
                waits = await self._turn(held)
                broke = 0
            except Exception as error:  # a fault of ours must not stop the rollout for good: what it met may pass
                broke = 0 if isinstance(error, TekupError) else min(broke + 1, DOUBLINGS)
                await self._failed(service, held, error)
            await self._pause(waits, self._turn_s * 2**broke)

    async def _failed(self, service: str, held: Held | None, error: Exception) -> None:
        """Log why a turn failed, and say it in the rollout itself where that does not pass by waiting."""
        if isinstance(error, TekupError):
            log.warning("rollout.turn_failed", extra={"service": service, "why": str(error)})
            if not isinstance(error, Refused):
                return
            why = str(error)
        else:
            log.error("rollout.turn_broke", extra={"service": service}, exc_info=error)
            why = f"{type(error).__name__}, a fault of ours; the log of {self._plane.leadership.me.replica} says more"
        if held is None or (after := course.stuck(held.rollout, why)) == held.rollout:
            return
        # Guarded by the index: to whoever has changed it since, this is no news.
        with contextlib.suppress(TekupError):
            await self._store.commit([self.shelf.document(after, held.index)], self._plane.leadership.fence())

    async def _pause(self, waits: Place | None, pause_s: float) -> None:
        """Until the next turn: at once when the gates have what is waited for."""
        if waits is None:
            await asyncio.sleep(pause_s)
            return
        await self._plane.gates.in_force((waits.epoch, waits.number), also_gone=False, timeout_s=pause_s)

    async def _turn(self, held: Held) -> Place | None:
        before = held.rollout
        if before.waits_for:
            await self._note_revision()
        seen = await self._observer.seen(before)
        after = course.turn(before, seen, self._now())
        if seen.look is not None and (judged := after.judged()):
            self._shown.looked(before.service, judged.verdict.value)
        elif isinstance(seen.look, Missing):
            self._shown.looked(before.service, Verdict.ERROR.value)
        current = await self.shelf.policy(before.service)
        if after == before and policy_of(after, current) == current:
            return before.waits_for if before.phase in _WAITING else None
        if policy_of(after, current) == current and after.phase is before.phase:
            await self._store.commit([self.shelf.document(after, held.index)], self._plane.leadership.fence())
            return after.waits_for if after.phase in _WAITING else None
        with root_span("rollout step", tekup_service=before.service, tekup_phase=after.phase.value):
            await self._write(held, after, Wish("control-plane", after.said), f"rollout.{after.phase}")
        return after.waits_for

    async def _note_revision(self) -> None:
        """A new leader has written nothing yet: gates that run what was written before it are not ahead of Consul."""
        entry = (await self._store.read(REVISION_KEY)).entries.get("")
        if entry is not None:
            self._plane.gates.written(Revision.parse(entry.value, REVISION_KEY))

    async def start(self, service: str, wish: Wish, asked: Start) -> tuple[Rollout, Outcome]:
        """Begin a rollout; see :func:`control_plane.steer.start`."""
        return await _again(lambda: self._start(service, wish, asked))

    async def _start(self, service: str, wish: Wish, asked: Start) -> tuple[Rollout, Outcome]:
        delivery = await self.delivery(service, asked.changes)
        versions = sorted(versions_of(self._plane.instances(), service))
        held, current = await self.shelf.held(service), await self.shelf.policy(service)
        last = held.rollout if held else None
        wanted = steer.Start(asked.canary, delivery, wish.author, wish.reason, asked.waivers, asked.replace)
        rollout, before = steer.start(last, current, wanted, versions, self._now())
        ended = [] if before is None else await self.shelf.into_history(before)
        written = await self._write(held, rollout, wish, "rollout.start", ended)
        if before and last and not last.phase.ended and before.phase.ended and not written.dry_run:
            self._shown.ended(service, before.phase.value)
        return rollout, await self._plane.ended(written, rights=False)

    async def delivery(self, service: str, changes: Mapping[str, object]) -> Delivery:
        """How a rollout of the service would go.

        Args:
            service: The service.
            changes: Fields that are otherwise than its delivery document says.

        Raises:
            NotFound: There is no such service.
            Refused: It makes no sense, or cannot be judged for want of metrics.
        """
        await self.shelf.policy(service)
        wanted = {**(await self.shelf.delivery(service)).model_dump(mode="json"), **changes}
        delivery = Delivery.parse(compact_json(wanted), f"rollout of {service}")
        await self._refuse_unmeasured(delivery)
        return delivery

    async def review(self, service: str, plan: Plan, span: Span) -> Review:
        """What the analysis would have said of two versions; see :func:`control_plane.review.review`.

        Args:
            service: The service.
            plan: The versions; the service's own checks are added to those it names.
            span: When.
        """
        if self._metrics is None:
            raise Refused(f"review of {service}: {NO_METRICS}")
        checks = (await self.delivery(service, {})).checks
        whole = replace(plan, checks=(*plan.checks, *(range_check(check) for check in checks)))
        return await review(self._metrics, service, whole, {check.name: check.query for check in checks}, span)

    async def _refuse_unmeasured(self, delivery: Delivery) -> None:
        judged = delivery.strategy is Strategy.CANARY and any(step.analysis for step in delivery.steps)
        if self._metrics is None:
            if judged or delivery.checks:
                raise Refused(f"{delivery.service}: steps with analysis need metrics, and {NO_METRICS}")
            return
        for check in delivery.checks:
            if problem := await self._metrics.problem_of(check.query):
                raise Refused(f"{delivery.service}: check {check.name}: the query is no PromQL: {problem}")

    async def retry(self, service: str, wish: Wish) -> tuple[Rollout, Outcome]:
        """Begin the last rollout once more, as it was.

        Raises:
            Refused: It has not ended, or has succeeded.
        """
        last = await self.shelf.one(service)
        if last.phase not in (Phase.ROLLED_BACK, Phase.FAILED):
            raise Refused(f"rollout {last.title} is {last.phase}; only one that was rolled back or failed is retried")
        changes = last.delivery.model_dump(mode="json", exclude={"service"})
        return await self.start(service, wish, Start(last.canary, changes, last.waivers))

    async def _steer(
        self, service: str, verb: str, wish: Wish, move: Callable[[Rollout, steer.By], Rollout]
    ) -> tuple[Rollout, Outcome]:
        held = await self.shelf.last(service)
        mine = (one for one in self._plane.instances() if one.live and one.service == service)
        serves = any(one.version == held.rollout.stable for one in mine)
        stable = (await self.shelf.policy(service)).stable
        after = move(held.rollout, steer.By(wish.author, wish.reason, self._now(), serves, stable))
        written = await self._write(held, after, wish, f"rollout.{verb}")
        return after, await self._plane.ended(written, rights=False)

    async def steer(
        self, service: str, verb: str, wish: Wish, move: Callable[[Rollout, steer.By], Rollout]
    ) -> tuple[Rollout, Outcome]:
        """Carry out a verb on the service's last rollout.

        Args:
            service: The service.
            verb: Its name, for the record.
            wish: Who and why.
            move: One of `control_plane.steer`.

        Raises:
            Conflict: The rollout, or the policy, was changed by another hand each time.
        """
        return await _again(lambda: self._steer(service, verb, wish, move))

    async def _write(
        self, held: Held | None, after: Rollout, wish: Wish, verb: str, others: Sequence[Write] = ()
    ) -> Written:
        """Write a rollout and the policy that follows from it; a wish that was true already writes nothing.

        Whatever is written is guarded by the rollout's index, a policy that is put right as well: what was read before
        an abort must not undo it.
        """
        before, index = (held.rollout, held.index) if held else (None, 0)
        differs = False

        def policy(page: Page) -> Documents:
            nonlocal differs
            current = page.find(Table.SERVICES, after.service, ServicePolicy)
            if current is None:
                raise NotFound(NO_SERVICE.format(service=after.service))
            wanted = current if after.phase.ended and after == before else policy_of(after, current)
            differs = wanted != current
            return {(Table.SERVICES, after.service): wanted}

        def beside(revision: Revision) -> Sequence[Write]:
            if after == before and not differs:
                return ()
            waits = Place(epoch=revision.epoch, number=revision.number) if after.phase in _WAITING else None
            return [*others, self.shelf.document(after.model_copy(update={"waits_for": waits}), index)]

        written = await self._plane.write(verb, wish, policy, beside)
        # What is written of the rollout alone is a change as well, though the policy's revision stays.
        written = replace(written, changed=written.changed or after != before)
        if after == before or written.dry_run:
            return written
        if after.phase.ended and (before is None or not before.phase.ended):
            self._shown.ended(after.service, after.phase.value)
        log.info(
            f"rollout.{after.phase}",
            extra={"service": after.service, "canary": after.canary, "step": after.step, "said": after.said},
        )
        return written


_WAITING = frozenset({Phase.SHIFTING, Phase.PROMOTING, Phase.ROLLING_BACK})


async def _again(attempt: Callable[[], Awaitable[tuple[Rollout, Outcome]]]) -> tuple[Rollout, Outcome]:
    """Carry out a wish, anew where a turn of the rollout or another verb came in between: an abort must not lose."""
    for _ in range(MOST_ATTEMPTS - 1):
        with contextlib.suppress(Overtaken):
            return await attempt()
    return await attempt()
