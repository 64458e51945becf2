"""Looks at what a rollout wants to know: instances, gates, metrics, copies, contract and probes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from control_plane import course
from control_plane.contract import Breach, Offer, breaches, waived
from control_plane.errors import Unavailable
from control_plane.loop import ControlPlane
from control_plane.model import InstanceState, version_target
from control_plane.ports import Gateway, Metrics
from control_plane.probing import calls_of, prove
from control_plane.readings import Look, Missing
from control_plane.rollout import Rollout
from control_plane.shadow import Comparison, compare
from control_plane.told import shadowed

PROBE_ROUNDS = 3
NO_METRICS = "no metrics source is set (MCP_PROMETHEUS_URL)"
NO_GATEWAY = "no gate is set to ask by (MCP_GATE_INTERNAL_URL)"


class Observer:
    """What turns are decided on.

    Args:
        plane: Knows gates and instances.
        metrics: What calls were like; None where there is no such source.
        gateway: Calls through the gate; None where no gate can be asked.
        now: Seconds since the epoch.
    """

    def __init__(
        self, plane: ControlPlane, *, metrics: Metrics | None, gateway: Gateway | None, now: Callable[[], float]
    ) -> None:
        self._plane = plane
        self._metrics = metrics
        self._gateway = gateway
        self._now = now
        self._pairs: dict[str, tuple[int, Comparison]] = {}

    async def seen(self, rollout: Rollout) -> course.Seen:
        """What the next turn of a rollout wants to know."""
        wanted = course.needs(rollout, self._now())
        look, judged = await asyncio.gather(
            self._look(rollout, wanted=wanted.look), self._asked(rollout, wanted)
        )  # side by side: each may take seconds
        mine = [one for one in self._plane.instances() if one.service == rollout.service]
        waits = rollout.waits_for
        return replace(
            judged,
            stable_serves=any(one.live and one.version == rollout.stable for one in mine),
            canary_ids=frozenset(one.id for one in mine if one.live and one.version == rollout.canary),
            leaving=frozenset(one.id for one in mine if one.state is InstanceState.DRAINING),
            waiting_for=self._plane.gates.lagging((waits.epoch, waits.number), also_gone=False) if waits else (),
            look=look,
        )

    async def _look(self, rollout: Rollout, *, wanted: bool) -> Look | None:
        if not wanted:
            return None
        step = rollout.present_step
        if step and step.mirror:
            return await self._copies(rollout)
        if self._metrics is None:
            return Missing(NO_METRICS)
        return await self._metrics.look(rollout.service, rollout.plan, rollout.custom)

    async def _copies(self, rollout: Rollout) -> Look:
        """What copied calls came to. Kept in memory: a new leader counts from what the instances still show."""
        if self._gateway is None:
            return Missing(NO_GATEWAY)
        mine = [one for one in self._plane.instances() if one.service == rollout.service]
        sides, problems = await shadowed(self._gateway, mine)
        if problems:
            return Missing(problems[0])
        of_old = self._pairs.get(rollout.service)
        before = of_old[1] if of_old and of_old[0] == rollout.number else None
        compared = compare(sides, sides, before)
        self._pairs[rollout.service] = (rollout.number, compared)
        return {"copies": compared.counts}

    async def _asked(self, rollout: Rollout, wanted: course.Needs) -> course.Seen:
        """Contract and probes, as far as they are wanted."""
        seen = course.Seen(stable_serves=False, canary_ids=frozenset())
        if not wanted.contract and not wanted.proof:
            return seen
        if self._gateway is None:
            return replace(seen, problem=NO_GATEWAY)
        service, target = rollout.service, version_target(rollout.service, rollout.canary)
        try:
            offer = await self._gateway.offer(service, target)
            if wanted.contract:
                stable = await self._gateway.offer(service, version_target(service, rollout.stable))
                seen = _compared(stable, offer, rollout)
            if wanted.proof:
                calls = calls_of(offer, rollout.delivery.probes)
                seen = replace(seen, proof=await prove(self._gateway, service, target, calls, PROBE_ROUNDS))
        except Unavailable as error:
            return replace(seen, problem=str(error))
        return seen


def _compared(stable: Offer, canary: Offer, rollout: Rollout) -> course.Seen:
    found = waived(breaches(stable, canary), rollout.waivers)
    tools = tuple(sorted(stable.tools.keys() & canary.tools.keys()))
    harmless = tuple(name for name in tools if all(_read_only(side.tools[name]) for side in (stable, canary)))
    return course.Seen(
        stable_serves=False,
        canary_ids=frozenset(),
        breaches=tuple(_told(breach) for breach in found.standing),
        excused=tuple(_told(breach) for breach, _ in found.excused),
        unused=tuple(waiver.what for waiver in found.unused),
        tools=tools,
        read_only=harmless,
    )


def _told(breach: Breach) -> str:
    return f"{breach.sentence} [{breach.subject}:{breach.kind}]"


def _read_only(tool: Mapping[str, object]) -> bool:
    notes = tool.get("annotations")
    return isinstance(notes, Mapping) and notes.get("readOnlyHint") is True
