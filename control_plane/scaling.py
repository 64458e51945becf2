"""Autoscaling at work: asks instances what they did, lets `autoscale` decide, and writes how many there should be.

It starts and stops nothing: who can reads `tekup/state/autoscale/<service>` and acts (docs/contracts.md,
"Autoscaling"). What the leader remembers of the past is in memory: another one watches for a cool-down before it lets
anybody be stopped. Where nobody tells anything, the last decision stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from control_plane.autoscale import Autoscale, Bounds, Counters, Look, Scaled, bounds_of, decide, look
from control_plane.book import Page
from control_plane.delivery import Strategy
from control_plane.errors import NotFound, Refused, TekupError
from control_plane.leadership import Leadership
from control_plane.metrics import ScalingMetrics
from control_plane.model import Document, Instance, ServiceName, ServicePolicy, Stored, Table
from control_plane.outcome import Outcome, Wish
from control_plane.ports import Gateway, Store, Write
from control_plane.rollout import Rollout
from control_plane.shelf import NO_SERVICE, Shelf
from control_plane.told import counted

log = logging.getLogger(__name__)

SCALED_PREFIX = "tekup/state/autoscale/"
LOOK_EVERY_S = 2.0
MARGIN_S = 10.0
"""Looks are kept for so much longer than a cool-down: one that comes late must not make it look uncovered."""
TELL_EVERY_S = 10.0
"""So often the reason is written anew while the number stays."""
Version = tuple[str, str]
"""A service and one of its versions."""


class Scaling(Document):
    """What there should be of one service, for whoever can start and stop instances.

    Attributes:
        service: The service.
        dry_run: Nobody is to act on it.
        most: Most instances each version may have.
        at: When it was written, in seconds since the epoch.
        versions: Each version that has a share.
    """

    service: ServiceName
    dry_run: bool
    most: int
    at: float
    versions: tuple[Scaled, ...]

    @property
    def numbers(self) -> object:
        """What of it somebody acts on."""
        return self.dry_run, self.most, [(one.version, one.wanted) for one in self.versions]


@dataclass(frozen=True)
class Around:
    """What scaling needs of the control plane.

    Attributes:
        page: Reads the present page.
        carry_out: Makes a change, as for every verb.
        instances: All registered ones.
        now: Seconds since the epoch.
    """

    page: Callable[[], Awaitable[Page]]
    carry_out: Callable[[str, Wish, Callable[[Page], dict[tuple[Table, str], Stored | None]]], Awaitable[Outcome]]
    instances: Callable[[], Sequence[Instance]]
    now: Callable[[], float]


@dataclass
class _Watched:
    """What is remembered of a version."""

    looks: list[Look] = field(default_factory=list)
    counters: dict[str, Counters] = field(default_factory=dict)


class Autoscaling:
    """How many instances services should have.

    Args:
        store: Where decisions lie.
        leadership: Who leads decides.
        around: The rest of the control plane.
        shown: Metrics.
        gateway: Leads to instances, which are asked what they did. None: nobody is, and nothing is decided.
    """

    def __init__(
        self,
        store: Store,
        leadership: Leadership,
        around: Around,
        shown: ScalingMetrics,
        gateway: Gateway | None = None,
    ) -> None:
        self._store = store
        self._leadership = leadership
        self._around = around
        self._shown = shown
        self._gateway = gateway
        self._shelf = Shelf(store)
        self._watched: dict[Version, _Watched] = defaultdict(_Watched)
        self._turning = asyncio.Lock()

    async def set(self, wanted: Autoscale, wish: Wish) -> Outcome:
        """Let a service's instances follow its load.

        Raises:
            NotFound: There is no such service.
        """

        def change(page: Page) -> dict[tuple[Table, str], Stored | None]:
            if page.find(Table.SERVICES, wanted.service, ServicePolicy) is None:
                raise NotFound(NO_SERVICE.format(service=wanted.service))
            return {(Table.AUTOSCALE, wanted.service): wanted}

        return await self._around.carry_out("autoscale.set", wish, change)

    async def off(self, service: str, wish: Wish) -> Outcome:
        """Leave a service's instances as many as they are; ends when nothing in the store asks for a number of them.

        Raises:
            NotFound: They do not follow its load.
        """

        def change(page: Page) -> dict[tuple[Table, str], Stored | None]:
            if page.find(Table.AUTOSCALE, service, Autoscale) is None:
                raise NotFound(f"{service} is not autoscaled; `tekup autoscale show` lists who is")
            return {(Table.AUTOSCALE, service): None}

        async with self._turning:  # a look under way would decide once more
            outcome = await self._around.carry_out("autoscale.off", wish, change)
            if not outcome.dry_run:
                await self._store.commit([Write(SCALED_PREFIX + service, None)], self._leadership.fence())
        return outcome

    async def policies(self) -> dict[str, Autoscale]:
        """What operators said, by service."""
        return (await self._around.page()).all(Table.AUTOSCALE, Autoscale)

    async def decided(self) -> dict[str, Scaling]:
        """What was decided last, by service; a document that makes no sense is passed over."""
        found = {}
        for name, entry in (await self._store.read(SCALED_PREFIX)).entries.items():
            try:
                found[name] = Scaling.parse(entry.value, SCALED_PREFIX + name)
            except Refused as error:
                log.warning("autoscale.ignored", extra={"why": str(error)})
        return found

    async def run(self) -> None:
        """As the leader, look and decide, for ever."""
        said = ""
        while True:
            await self._leadership.held()
            try:
                await self.turn()
                said = ""
            except TekupError as error:
                if str(error) != said:
                    log.warning("autoscale.not_decided", extra={"why": str(error)})
                said = str(error)
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._leadership.leading:
                self._watched.clear()
                self._shown.show({})

    async def turn(self) -> None:
        """Look once at everything that is autoscaled, and decide."""
        if self._gateway is not None:
            async with self._turning:
                await self._turn(self._gateway)

    async def _turn(self, gateway: Gateway) -> None:
        page = await self._around.page()
        policies, services = page.all(Table.AUTOSCALE, Autoscale), page.all(Table.SERVICES, ServicePolicy)
        before = await self.decided()
        after = {
            name: await self._service(gateway, policy, services[name], before.get(name))
            for name, policy in policies.items()
            if name in services
        }
        mine = {(name, one.version) for name, scaling in after.items() for one in scaling.versions}
        for gone in self._watched.keys() - mine:
            del self._watched[gone]
        writes = [Write(SCALED_PREFIX + name, None) for name in before.keys() - after.keys()]
        writes += [
            Write(SCALED_PREFIX + name, scaling.to_bytes())
            for name, scaling in after.items()
            if _is_news(before.get(name), scaling)
        ]
        if writes:
            await self._store.commit(writes, self._leadership.fence())
        self._shown.show({(name, one.version): (one.wanted, one.needed, scaling.most)
                          for name, scaling in after.items() for one in scaling.versions})  # fmt: skip
        _log(before, after)

    async def _service(
        self, gateway: Gateway, policy: Autoscale, decided: ServicePolicy, before: Scaling | None
    ) -> Scaling:
        known = {one.version: one for one in before.versions} if before else {}
        held = await self._shelf.held(policy.service)
        rollout = held.rollout if held and not held.rollout.phase.ended else None
        scaled: dict[str, Scaled] = {}
        for version in _versions(decided, rollout):
            watched = await self._look(gateway, policy, version)
            bounds = _bounds(policy, decided, rollout, version, scaled, known)
            scaled[version] = decide(policy, bounds, watched, known.get(version), version)
        return Scaling(service=policy.service, dry_run=policy.dry_run, most=policy.max,
                       at=self._around.now(), versions=tuple(scaled.values()))  # fmt: skip

    async def _look(self, gateway: Gateway, policy: Autoscale, version: str) -> Sequence[Look]:
        """Ask a version's instances once more; the looks of a cool-down, the oldest first."""
        watched = self._watched[policy.service, version]
        live = [
            one
            for one in self._around.instances()
            if one.service == policy.service and one.version == version and one.live
        ]
        asked = await asyncio.gather(*(counted(gateway, one) for one in live))
        answers = dict(zip((one.id for one in live), asked, strict=True))
        told = {name: answer for name, answer in answers.items() if answer is not None}
        pairs = [(watched.counters[name], now) for name, now in told.items() if name in watched.counters]
        now_s = self._around.now()
        watched.looks.append(look(now_s, len(live), pairs))
        watched.looks = [one for one in watched.looks if one.at_s >= now_s - policy.down_cooldown_s - MARGIN_S]
        watched.counters = {name: counters for name, counters in watched.counters.items() if name in answers} | told
        return watched.looks


def _versions(decided: ServicePolicy, rollout: Rollout | None) -> list[str]:
    """Who gets calls, or is about to: stable first."""
    lanes = [*decided.lanes, *(lane for rule in decided.rules for lane in rule.lanes)]
    shares = [lane.version for lane in lanes if lane.weight_pct > 0]
    coming = [rollout.canary] if rollout else []
    return [one for one in dict.fromkeys((decided.stable, *shares, *coming)) if one not in decided.closed]


def _bounds(
    policy: Autoscale,
    decided: ServicePolicy,
    rollout: Rollout | None,
    version: str,
    scaled: Mapping[str, Scaled],
    known: Mapping[str, Scaled],
) -> Bounds:
    """A rollout may go back at any moment, so it stops nobody; and who will get everything at once is made ready."""
    stable = version == decided.stable
    flips = rollout is not None and rollout.canary == version and rollout.delivery.strategy is not Strategy.CANARY
    at_least = scaled[decided.stable].wanted if flips and decided.stable in scaled else 1
    wanted = known[version].wanted if version in known else 1
    return bounds_of(policy, stable=stable, at_least=at_least, holds=rollout is not None, wanted=wanted)


def _is_news(before: Scaling | None, after: Scaling) -> bool:
    if before is None or before.numbers != after.numbers:
        return True
    return after.at - before.at >= TELL_EVERY_S and before.versions != after.versions


def _log(before: Mapping[str, Scaling], after: Mapping[str, Scaling]) -> None:
    for name, scaling in after.items():
        known = {one.version: one.wanted for one in before[name].versions} if name in before else {}
        for one in scaling.versions:
            if one.wanted != known.get(one.version):
                fields = {"service": name, "version": one.version, "wanted": one.wanted, "why": one.why}
                log.info("autoscale.decided", extra=fields | {"dry_run": scaling.dry_run})


def unlike(scalings: Iterable[Scaling]) -> tuple[str, ...]:
    """Where there are others than there should be, a sentence each."""
    return tuple(
        f"autoscale: {scaling.service} {one.version} should have {one.wanted} instances and has {one.live}"
        f"{' (only recommended)' if scaling.dry_run else ''}: {one.why}"
        for scaling in scalings
        for one in scaling.versions
        if one.wanted != one.live
    )
