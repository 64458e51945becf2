"""Carries deployments: looks, lets `deploying` say where each goes, does what has to be done, and writes that, fenced.

What is done is idempotent and comes before what is written, so a turn may be repeated and may fail anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from control_plane import deploying, steer
from control_plane.deploying import DEPLOYMENTS_PREFIX, Act, Deployment, Seen, Stage
from control_plane.engine import Engine, Start
from control_plane.errors import NotFound, Overtaken, Refused, TekupError
from control_plane.keeper import KEEPER_KEY, SILENT_S, KeeperReport
from control_plane.model import HUB, ServicePolicy
from control_plane.outcome import Wish
from control_plane.ports import Write

log = logging.getLogger(__name__)

TURN_S = 1.0
NOBODY = (
    "nobody here can start containers; where an environment runs as local processes `tekup scale SERVICE=1 --version"
    " V` does it, and in containers the container `keeper` (docs/containers.md)"
)


@dataclass(frozen=True)
class Lying:
    """A deployment as the store holds it, and the index that guards the next write of it."""

    deployment: Deployment
    index: int


class Deployer:
    """The deployments of all services.

    Args:
        engine: Rolls out.
        now: Seconds since the epoch.
    """

    def __init__(self, engine: Engine, now: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._plane = engine.plane
        self._store = engine.store
        self._now = now

    async def last(self, service: str) -> Deployment:
        """A service's last deployment.

        Raises:
            NotFound: It has had none.
        """
        held = await self._lying(service)
        if held is None:
            await self._engine.shelf.policy(service)
            raise NotFound(f"{service} was never deployed by the control plane; `tekup deploy` does it")
        return held.deployment

    async def ask(self, asked: deploying.Wish, wish: Wish) -> Deployment:
        """Have a version of a service there, or go back to the one that was.

        Raises:
            NotFound: There is no such service.
            Refused: Nobody can start containers here, or a rollout of the version would make no sense.
            Conflict: Another version is being deployed.
        """
        if not wish.reason.strip():
            raise Refused("deploy: a reason is needed; say why in a few words")
        delivery = await self._engine.delivery(asked.service, asked.changes)
        report = await self.report()
        if report is None:
            raise Refused(f"deploy {asked.service}: {NOBODY}")
        held = await self._lying(asked.service)
        if held and (back := await self._back(held.deployment, asked, wish)):
            return back
        seen = await self._seen(asked.service, asked.version, report, delivery.keep_warm_s)
        after = deploying.begun(held.deployment if held else None, asked, seen)
        if wish.dry_run or (held and after == held.deployment):
            return after
        await self._write(after, held.index if held else 0)
        return after

    async def _back(self, held: Deployment, asked: deploying.Wish, wish: Wish) -> Deployment | None:
        """End the rollout of a deployment whose earlier version is asked for; None where that is not the case."""
        if held.stage is not Stage.SHIFTING or asked.version == held.version:
            return None
        if held.service == HUB:
            policy = await self._engine.shelf.policy(HUB)
            if policy.stable == held.version and not wish.dry_run:
                await self._plane.set_traffic(HUB, {asked.version: 100}, wish)
            return held
        last = await self._engine.shelf.one(held.service)
        if last.stable != asked.version:
            return None
        if not wish.dry_run:
            await self._engine.steer(held.service, "undo", wish, lambda one, by: steer.undo(one, by, drain=True))
        return held

    async def report(self) -> KeeperReport | None:
        """What whoever starts containers last said; None if it is silent."""
        entry = (await self._store.read(KEEPER_KEY)).entries.get("")
        if entry is None:
            return None
        try:
            report = KeeperReport.parse(entry.value, KEEPER_KEY)
        except Refused as error:
            log.warning("keeper.not_read", extra={"why": str(error)})
            return None
        return report if self._now() - report.at < SILENT_S else None

    async def run(self) -> None:
        """As the leader, carry deployments for ever."""
        while True:
            await self._plane.leadership.held()
            try:
                await self.turn()
            except TekupError as error:
                log.warning("deployments.turn_failed", extra={"why": str(error)})
            await asyncio.sleep(TURN_S)

    async def turn(self) -> None:
        """Take every deployment that has not ended one step further."""
        report = await self.report()
        self._plane.metrics.keeper.show(report.restarts if report and self._plane.leadership.leading else {})
        for name, entry in (await self._store.read(DEPLOYMENTS_PREFIX)).entries.items():
            try:
                held = Lying(Deployment.parse(entry.value, DEPLOYMENTS_PREFIX + name), entry.index)
                if not held.deployment.stage.ended:
                    await self._turn(held, report)
            except TekupError as error:
                log.warning("deployment.turn_failed", extra={"service": name, "why": str(error)})

    async def _turn(self, held: Lying, report: KeeperReport | None) -> None:
        before = held.deployment
        keep_warm_s = (await self._engine.delivery(before.service, before.changes)).keep_warm_s
        seen = await self._seen(before.service, before.version, report, keep_warm_s)
        after, act = deploying.turn(before, seen)
        try:
            await self._act(before, act)
        except Overtaken:
            raise
        except Refused as error:
            after = deploying.failed(before, seen, str(error))
        if after != before:
            await self._write(after, held.index)

    async def _act(self, deployment: Deployment, act: Act) -> None:
        wish = Wish(deployment.author, deployment.reason)
        if act is Act.ROLL_OUT:
            await self._engine.start(deployment.service, wish, Start(deployment.version, deployment.changes))
        elif act is Act.SHIFT:
            await self._plane.set_traffic(deployment.service, {deployment.version: 100}, wish)

    async def _seen(self, service: str, version: str, report: KeeperReport | None, keep_warm_s: float) -> Seen:
        policy = await self._engine.shelf.policy(service)
        held = await self._engine.shelf.held(service)
        mine = [one for one in self._plane.instances() if one.service == service]
        there: Mapping[str, int] = Counter(one.version for one in mine)
        running = report.containers.get(service, {}) if report else {}
        return Seen(
            stable=policy.stable,
            live=Counter(one.version for one in mine if one.live),
            there={name: max(there.get(name, 0), running.get(name, 0)) for name in {*there, *running}},
            rollout=held.rollout if held else None,
            problem=report.problems.get(f"{service} {version}", "") if report else "the container `keeper` is silent",
            keep_warm_s=keep_warm_s,
            now_s=self._now(),
            shares=_shares(policy),
        )

    async def _lying(self, service: str) -> Lying | None:
        entry = (await self._store.read(DEPLOYMENTS_PREFIX + service)).entries.get("")
        if entry is None:
            return None
        return Lying(Deployment.parse(entry.value, DEPLOYMENTS_PREFIX + service), entry.index)

    async def _write(self, after: Deployment, index: int) -> None:
        fence = self._plane.leadership.fence()
        await self._store.commit([Write(DEPLOYMENTS_PREFIX + after.service, after.to_bytes(), index)], fence)
        fields = {"service": after.service, "version": after.version, "stage": after.stage.value, "said": after.said}
        log.info("deployment", extra=fields)


def _shares(policy: ServicePolicy) -> frozenset[str]:
    lanes = [*policy.lanes, *(lane for rule in policy.rules for lane in rule.lanes)]
    return frozenset((policy.stable, *(lane.version for lane in lanes if lane.weight_pct > 0)))
