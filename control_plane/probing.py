"""Health that means a tool call works: every live instance and version is called through the gate, all the time.

The leader does it, its calls spread evenly over time. What it finds it keeps in memory only: it is shown, counted and
logged, and routing follows none of it; an instance that finds itself sick says so in `/ready`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from control_plane.contract import Offer
from control_plane.delivery import ProbeCall
from control_plane.errors import NotInitialised, TekupError, Unavailable
from control_plane.leadership import Leadership
from control_plane.metrics import PlaneMetrics
from control_plane.model import HUB, Instance, problems_of, version_target
from control_plane.ports import Gateway

log = logging.getLogger(__name__)

SICK_AFTER = 3
AGAIN = 5
SLOT_S = 1.0


@dataclass(frozen=True)
class Pace:
    """How much is probed.

    Attributes:
        every_s: Each target once in so many seconds; one that failed `AGAIN` times as often.
        at_most: Probes that run at one time.
    """

    every_s: float = 15.0
    at_most: int = 8

    def after_s(self, state: ProbeState) -> float:
        """How long after its last probe a target is probed again, so that a fault and its end are soon known."""
        return self.every_s / AGAIN if state.problem else self.every_s


@dataclass(frozen=True)
class Wishes:
    """What the policy says of probes.

    Attributes:
        calls: The operator's probe calls by service, which count instead of the service's own.
        closed: Services and versions that no gate leads to, so that nothing can be known of them.
    """

    calls: Mapping[str, tuple[ProbeCall, ...]] = field(default_factory=dict)
    closed: frozenset[tuple[str, str]] = frozenset()


Declared = Callable[[], Awaitable[Wishes]]


@dataclass(frozen=True)
class Target:
    """Something to probe: an instance, or a version as a whole with an empty `instance`."""

    service: str
    version: str
    instance: str = ""

    @property
    def name(self) -> str:
        """As the gate knows it."""
        version = version_target(self.service, self.version)
        return f"{version}_{self.instance}" if self.instance else version

    @property
    def labels(self) -> tuple[str, str, str]:
        """As metrics know it."""
        return self.service, self.version, self.instance


@dataclass(frozen=True)
class ProbeState:
    """What the probes of a target have found.

    Attributes:
        target: The target.
        ok_at_s: When one last worked, in seconds since the epoch; 0 for never.
        failures: How many have failed in a row.
        problem: Why the last one failed, "" if it worked.
        probed: Whether there was anything to call.
    """

    target: Target
    ok_at_s: float = 0.0
    failures: int = 0
    problem: str = ""
    probed: bool = False

    @property
    def sick(self) -> bool:
        """Whether it is alive and fails every call."""
        return self.failures >= SICK_AFTER

    @property
    def shown(self) -> str:
        """`ok`, `failing: …` or `unknown`."""
        if self.problem:
            return f"failing: {self.problem}"
        return "ok" if self.probed else "unknown"

    def after(self, problem: str, now_s: float) -> ProbeState:
        """With one more result."""
        if problem:
            return replace(self, failures=self.failures + 1, problem=problem, probed=True)
        return replace(self, ok_at_s=now_s, failures=0, problem="", probed=True)


def targets_of(instances: Iterable[Instance]) -> tuple[Target, ...]:
    """Every live instance of every service but the hub, and each of their versions, in a lasting order."""
    live = [one for one in instances if one.live and one.service != HUB]
    each = {Target(one.service, one.version, one.id) for one in live}
    versions = {Target(one.service, one.version) for one in live}
    return tuple(sorted(each | versions, key=lambda target: target.labels))


def calls_of(offer: Offer, wished: Sequence[ProbeCall] = ()) -> tuple[ProbeCall, ...]:
    """The calls that have to work: the operator's if there are any, else those that the service itself declares.

    Raises:
        Unavailable: A declared one is of a tool that cannot be called.
    """
    if wished:
        return tuple(wished)
    try:
        return tuple(ProbeCall(tool=tool, arguments=dict(found)) for tool, found in sorted(offer.probes.items()))
    except ValidationError as error:
        raise Unavailable(f"a probe declared by {offer.version} cannot be made: {problems_of(error)}") from error


async def prove(gateway: Gateway, service: str, target: str, calls: Sequence[ProbeCall], times: int = 3) -> str:
    """Whether calls work on a target, again and again.

    Args:
        gateway: Leads there.
        service: The service.
        target: A version's or an instance's.
        calls: What has to work; without any, nothing is proven and nothing is wrong.
        times: How often each is made.

    Returns:
        "" if all of them did, else what is wrong, in one sentence.

    Raises:
        Unavailable: The gate did not answer, which says nothing about the target.
    """
    for attempt in range(1, times + 1):
        for call in calls:
            answered = await gateway.call(service, target, call.tool, call.arguments)
            if answered.problem:
                return f"probe {call.tool} of {target}, {attempt} of {times}: {answered.problem}"
    return ""


class Probing:
    """Probes everything that is live, as long as this replica leads.

    Args:
        instances: All registered instances, now.
        gateway: Leads to them.
        declared: What the policy says of probes.
        leadership: Whether we lead.
        metrics: Count what is found.
        pace: How much is probed.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        instances: Callable[[], Iterable[Instance]],
        gateway: Gateway,
        declared: Declared,
        leadership: Leadership,
        metrics: PlaneMetrics,
        pace: Pace,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._instances = instances
        self._gateway = gateway
        self._declared = declared
        self._leadership = leadership
        self._metrics = metrics
        self._pace = pace
        self._now = now
        self._states: dict[Target, ProbeState] = {}
        self._own: dict[Target, tuple[ProbeCall, ...]] = {}
        self._places = asyncio.Semaphore(pace.at_most)
        self._busy: set[Target] = set()
        self._begun_s: dict[Target, float] = {}
        self._wished = Wishes()
        self._looked_up_s = -math.inf

    def state(self, service: str, version: str, instance: str = "") -> ProbeState:
        """What is known of an instance, or of a version as a whole."""
        target = Target(service, version, instance)
        return self._states.get(target, ProbeState(target))

    async def run(self) -> None:
        """Probe for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                if not self._leadership.elected:
                    self._forget_all_but(())
                    await self._leadership.chosen()
                await self._slot(tasks)

    async def _slot(self, tasks: asyncio.TaskGroup) -> None:
        """Begin the probes of a short while: of what is due, first what has waited longest, new ones before all."""
        slot_s, now_s = min(SLOT_S, self._pace.every_s), asyncio.get_running_loop().time()
        if now_s >= self._looked_up_s + self._pace.every_s:
            await self._look_up_wishes()
        targets = [one for one in targets_of(self._instances()) if not self._closed(one)]
        self._forget_all_but(targets)
        waited = {target: self._begun_s.get(target, -math.inf) for target in targets if target not in self._busy}
        due = sorted((one for one in waited if self._due_s(one) <= now_s), key=waited.__getitem__)
        share = due[: math.ceil(len(targets) * slot_s / self._pace.every_s)]
        for target in share:
            await self._places.acquire()  # a full house makes everybody wait longer, and the crowd no larger
            self._busy.add(target)
            self._begun_s[target] = now_s
            tasks.create_task(self._probe(target, self._wished.calls.get(target.service, ())))
            await asyncio.sleep(slot_s / len(share))
        if not share:
            await asyncio.sleep(slot_s)

    def _due_s(self, target: Target) -> float:
        return self._begun_s.get(target, -math.inf) + self._pace.after_s(self.state(*target.labels))

    def _forget_all_but(self, targets: Iterable[Target]) -> None:
        kept = set(targets)
        self._states = {target: state for target, state in self._states.items() if target in kept}
        self._own = {target: calls for target, calls in self._own.items() if target in kept}
        self._begun_s = {target: begun_s for target, begun_s in self._begun_s.items() if target in kept}
        self._metrics.keep_only({target.labels for target in kept})

    def _closed(self, target: Target) -> bool:
        return (target.service, target.version) in self._wished.closed

    async def _closed_meanwhile(self, target: Target) -> bool:
        """Whether that is why a probe failed; asked afresh until a failure would be told."""
        if self.state(*target.labels).failures < SICK_AFTER:
            await self._look_up_wishes()
        return self._closed(target)

    async def _look_up_wishes(self) -> None:
        self._looked_up_s = asyncio.get_running_loop().time()
        try:
            self._wished = await self._declared()
        except NotInitialised:
            self._wished = Wishes()
        except TekupError as error:  # those of before go on
            log.warning("probe.declared_unknown", extra={"why": str(error)})

    async def _probe(self, target: Target, wished: tuple[ProbeCall, ...]) -> None:
        problem: str | None
        try:
            problem = await self._problem(target, wished)
        except Unavailable as error:
            problem = str(error)
        except Exception as error:  # whatever a stranger's service says, the others are probed on
            log.exception("probe.broke", extra={"target": target.name})
            problem = f"the probe itself failed ({type(error).__name__})"
        finally:
            self._places.release()
            self._busy.discard(target)
        if problem and await self._closed_meanwhile(target):
            return
        if problem is not None:
            self._note(target, problem)

    async def _problem(self, target: Target, wished: tuple[ProbeCall, ...]) -> str | None:
        """What is wrong, "" for nothing, None if there is nothing to call."""
        calls = wished or await self._calls(target)
        for call in calls:
            answered = await self._gateway.call(target.service, target.name, call.tool, call.arguments)
            if answered.problem:
                self._own.pop(target, None)  # it may have been started anew, with other probes
                return f"{call.tool}: {answered.problem}"
        return "" if calls else None

    async def _calls(self, target: Target) -> tuple[ProbeCall, ...]:
        if target not in self._own:
            self._own[target] = calls_of(await self._gateway.offer(target.service, target.name))
        return self._own[target]

    def _note(self, target: Target, problem: str) -> None:
        before = self.state(*target.labels)
        after = before.after(problem, self._now())
        self._states[target] = after
        self._metrics.probed(target.labels, ok=not problem)
        about = {"service": target.service, "version": target.version, "instance": target.instance}
        if after.failures == SICK_AFTER and target in targets_of(self._instances()):
            log.warning("probe.failing", extra={**about, "failures": after.failures, "problem": problem})
        if before.sick and not after.sick:
            log.info("probe.recovered", extra={**about, "failures": before.failures})
