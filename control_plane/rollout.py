"""One rollout of one service, as one document: everything that a leader needs to go on with it after a crash.

What the gates should have follows from it alone (`policy_of`), so a policy that another hand has changed is put right
at the next turn. Pure values and functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from control_plane.analysis import Judgement, State, judge
from control_plane.checks import Check, Plan, RangeCheck, RateCheck, default_checks
from control_plane.contract import Waiver
from control_plane.delivery import CustomCheck, Delivery, Step, Strategy
from control_plane.model import Document, Glob, InstanceId, Lane, Rule, ServiceName, ServicePolicy, Version
from control_plane.names import allows

RULE = "rollout"
MOST_EVENTS = 100
MOST_TOOLS = 20
"""Tools judged one by one; the checks share the false alarms, so that more of them would see less each."""


COPIES = RateCheck("copies", "copies with another result", tolerance=0.01, margin=0.05)
"""What a mirror step is judged by: pairs of a call and its copy. A clock in a result makes all of them differ."""


class Phase(StrEnum):
    """Where a rollout is."""

    PREPARING = "preparing"
    SHIFTING = "shifting"
    BAKING = "baking"
    ASKING = "waiting_for_approval"
    PAUSED = "paused"
    PROMOTING = "promoting"
    WARM = "keeping_warm"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    SUPERSEDED = "superseded"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in _ENDED

    @property
    def health(self) -> str:
        """The same for people in a hurry."""
        if self in (Phase.SUCCEEDED, Phase.SUPERSEDED):
            return "Healthy"
        if self in (Phase.ASKING, Phase.PAUSED):
            return "Paused"
        return "Degraded" if self in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED) else "Progressing"


_ENDED = frozenset({Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.FAILED, Phase.SUPERSEDED})


class Serves(StrEnum):
    """Who gets the calls."""

    STABLE = "stable"
    STEP = "step"
    CANARY = "canary"


class Event(Document):
    """Something that happened, in the words of the log."""

    at: float
    phase: Phase
    said: str


class Place(Document):
    """A revision of the policy."""

    epoch: int
    number: int


class Rollout(Document):
    """The whole state.

    Attributes:
        service: The service.
        number: Counts the rollouts of the service.
        stable: The version it began with.
        canary: The version it is about.
        delivery: How, as it was at the start.
        author: Who started it.
        reason: Why.
        began: When, in seconds since the epoch.
        phase: Where it is.
        since: When it came there.
        step: Number of the step, from 0; -1 before the first.
        step_since: When the step was in force on every gate; 0 before.
        serves: Who gets the calls.
        said: Why it is where it is, in one sentence.
        waits_for: The revision that has to be in force on every gate.
        resumes: The phase to go back to after a pause.
        asked: What a person is asked; "" outside of `ASKING`.
        drain: A rollback lets the canary keep its handles.
        waivers: Breaches of the contract that do not count.
        tools: Tools that are judged one by one.
        read_only: Tools that may be mirrored.
        analysis: What the analysis remembers; None before its first look.
        looked: When the last look was taken.
        probed: When the canary's probe calls last worked; 0 for never.
        alive: The canary's instances that were seen to serve.
        missing: Those that do not any more, and since when.
        lost: How many have gone for good without having said so.
        barren: Since when the canary has had no instance that serves; 0 if it has.
        events: What happened, the oldest first.
    """

    schema_version: Literal[1] = 1
    service: ServiceName
    number: Annotated[int, Field(ge=1)]
    stable: Version
    canary: Version
    delivery: Delivery
    author: str
    reason: str
    began: float
    phase: Phase = Phase.PREPARING
    since: float
    step: int = -1
    step_since: float = 0
    serves: Serves = Serves.STABLE
    said: str
    waits_for: Place | None = None
    resumes: Phase | None = None
    asked: str = ""
    drain: bool = False
    waivers: tuple[Waiver, ...] = ()
    tools: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    analysis: State | None = None
    looked: float = 0
    probed: float = 0
    alive: tuple[InstanceId, ...] = ()
    missing: dict[InstanceId, float] = Field(default_factory=dict)
    lost: int = 0
    barren: float = 0
    events: tuple[Event, ...] = ()

    @property
    def present_step(self) -> Step | None:
        """The step it is at; None before the first, and for a strategy without steps."""
        steps = self.steps
        return steps[self.step] if 0 <= self.step < len(steps) else None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps; only a canary has any."""
        return self.delivery.steps if self.delivery.strategy is Strategy.CANARY else ()

    @property
    def title(self) -> str:
        """Which rollout this is, for sentences."""
        return f"{self.service} {self.stable} -> {self.canary}"

    @property
    def plan(self) -> Plan:
        """What it is judged by at its present step."""
        step = self.present_step
        if step and step.mirror:
            return Plan(self.stable, self.canary, (COPIES,))
        muted = self.delivery.dry_run
        checks: list[Check] = [_muted(check, muted) for check in _checks(self.tools, step)]
        if all(check.dry_run for check in checks):
            checks = [_muted(check, muted) for check in default_checks()]
        checks += [range_check(check) for check in self.delivery.checks]
        return Plan(self.stable, self.canary, tuple(checks))

    @property
    def custom(self) -> dict[str, str]:
        """PromQL of the custom checks, by name."""
        return {check.name: check.query for check in self.delivery.checks}

    def judged(self) -> Judgement | None:
        """What everything so far comes to; None before the first look."""
        if self.analysis is None:
            return None
        step = self.present_step
        return judge(self.plan, self.analysis, (step.margin if step else None) or 0.0)


def range_check(check: CustomCheck) -> RangeCheck:
    """A check of one's own as the analysis takes it."""
    low = float("-inf") if check.low is None else check.low
    high = float("inf") if check.high is None else check.high
    return RangeCheck(check.name, check.name, low, high, check.failures, check.dry_run)


def _checks(tools: Iterable[str], step: Step | None) -> list[RateCheck]:
    """Where only some tools go to the canary, only these can be compared: stable still gets all the others."""
    if step is None or not step.tools:
        return list(default_checks(tools))
    mine = [tool for tool in tools if allows(step.tools, tool)]
    return [check for check in default_checks(mine) if ":" in check.name]


def _muted(check: RateCheck, names: tuple[str, ...]) -> RateCheck:
    return replace(check, dry_run=True) if check.name in names else check


def policy_of(rollout: Rollout, current: ServicePolicy) -> ServicePolicy:
    """What the gates should have of the service, whatever they have now.

    Args:
        rollout: The rollout.
        current: The present policy; what does not concern the rollout stays.
    """
    canary, stable, step = rollout.canary, rollout.stable, rollout.present_step
    others = tuple(rule for rule in current.rules if rule.name != RULE)
    closed = tuple(version for version in current.closed if version not in (stable, canary))
    wanted: dict[str, object]
    match rollout.serves:
        case Serves.CANARY:
            wanted = {"stable": canary, "lanes": _all_to(canary), "rules": others, "closed": closed, "salt": ""}
        case Serves.STEP if step:
            wanted = {"stable": stable, "rules": others, "closed": closed, "split": rollout.delivery.split}
            wanted |= {"salt": f"{rollout.service}-{rollout.number}", **_of_step(rollout, step, others)}
        case _:
            shut = rollout.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK) and not rollout.drain
            closed = (*closed, canary) if shut else closed
            wanted = {"stable": stable, "lanes": _all_to(stable), "rules": others, "closed": closed, "salt": ""}
    return current.model_copy(update=wanted)


def settled(policy: ServicePolicy) -> ServicePolicy:
    """A policy that a step of a rollout has made, without that: stable gets everything. Any other stays as it is.

    With the rollout gone nobody would end its step.
    """
    others = tuple(rule for rule in policy.rules if rule.name != RULE)
    if others == policy.rules and not re.fullmatch(rf"{policy.name}-[0-9]+", policy.salt):
        return policy
    return policy.model_copy(update={"lanes": _all_to(policy.stable), "rules": others, "salt": ""})


def _of_step(rollout: Rollout, step: Step, others: tuple[Rule, ...]) -> dict[str, object]:
    if step.mirror:
        tools: tuple[Glob, ...] = tuple(
            tool for tool in rollout.read_only if not step.tools or allows(step.tools, tool)
        )
        lanes = _all_to(rollout.stable)
        rule = Rule(name=RULE, tools=tools, cohort=step.cohort, lanes=lanes, mirror=rollout.canary)
        return {"lanes": lanes, "rules": (rule, *others) if tools else others}
    shared = _shared(rollout.stable, rollout.canary, step.weight_pct)
    if step.tools or step.cohort:
        rule = Rule(name=RULE, tools=step.tools, cohort=step.cohort, lanes=shared)
        return {"lanes": _all_to(rollout.stable), "rules": (rule, *others)}
    return {"lanes": shared}


def _all_to(version: str) -> tuple[Lane, ...]:
    return (Lane(version=version, weight_pct=100),)


def _shared(stable: str, canary: str, weight_pct: float) -> tuple[Lane, ...]:
    weights = {stable: 100 - weight_pct, canary: weight_pct}
    return tuple(Lane(version=version, weight_pct=weight) for version, weight in sorted(weights.items()) if weight > 0)


def share_said(rollout: Rollout) -> str:
    """What the canary gets now, in a few words."""
    step = rollout.present_step
    match rollout.serves:
        case Serves.CANARY:
            return f"{rollout.canary} gets everything"
        case Serves.STEP if step:
            return f"{rollout.canary} gets {step_said(step)}"
        case _:
            return f"{rollout.stable} gets everything"


def step_said(step: Step) -> str:
    """What a step gives the canary, in a few words."""
    whom = [f"of {', '.join(step.tools)}"] if step.tools else []
    whom += [f"of cohort {step.cohort}"] if step.cohort else []
    what = "copies of read-only calls" if step.mirror else f"{step.weight_pct:g} %"
    return " ".join([what, *whom])
