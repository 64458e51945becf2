"""How many instances a version should have, and why: from what they had to do, and what an operator allows. Pure.

Up and down are decided by different looks, so that one number is never fought over:

- *up* by the mean of the last seconds, and only where instances have a tenth more to do than they are meant to;
- *down* by the busiest moment of a whole cool-down, and only where those that stay would have a tenth to spare.

Between the two nothing changes. One step up doubles at most, and the next waits until its instances serve: what piles
up while they start is no reason for more of them. What is not known holds: nobody is ever stopped on a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from control_plane.model import Document, ServiceName, Stored, Version

MOST_INSTANCES = 50
RECENT_S = 6.0
"""What happened in so many seconds decides whether more are needed."""
SLACK = 0.1
START_S = 60.0
"""Instances that were asked for and do not serve after so long are not waited for any more."""
COVERED = 0.8
"""Of a cool-down, so much has to have been watched before anybody is stopped."""
TOLD = 0.75
"""At so many looks of a cool-down every instance has to have told before anybody is stopped; one may be late."""
QUIET_QUEUE = 0.5

Count = Annotated[int, Field(ge=1, le=MOST_INSTANCES)]
Target = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
CoolDown = Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)]


class Autoscale(Stored):
    """Between which bounds, and on what, the number of a service's instances follows its load.

    Attributes:
        service: The service.
        min: Fewest instances of the stable version; of a further version that has a share there may be one.
        max: Most instances of each version.
        in_flight: How many calls each instance should have under way on average; None: they do not count.
        cpus: How many processors each instance should keep busy on average; None: they do not count.
        queue_ms: How long a call may wait on average before an instance turns to it, in milliseconds; None: any time.
        up_cooldown_s: Shortest time from one change to a step up, in seconds.
        down_cooldown_s: Shortest time from one change to a step down; the busiest moment in it counts.
        dry_run: Only say how many there should be.
    """

    service: ServiceName
    min: Count = 1
    max: Count = 4
    in_flight: Target | None = 4.0
    cpus: Target | None = None
    queue_ms: Target | None = None
    up_cooldown_s: CoolDown = 10.0
    down_cooldown_s: CoolDown = 120.0
    dry_run: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.in_flight is None and self.cpus is None and self.queue_ms is None:
            raise ValueError("in_flight, cpus, queue_ms: one of them has to say when there are too few")
        return self

    @property
    def key(self) -> str:
        return self.service


@dataclass(frozen=True)
class Bounds:
    """How many of one version there may be."""

    fewest: int
    most: int


@dataclass(frozen=True)
class Look:
    """What the instances of a version did since the look before.

    Attributes:
        at_s: When, in seconds of the looker's clock.
        live: Instances that get calls.
        told: Those of them that said what they did.
        in_flight: Calls under way on average, summed over those that told.
        cpus: Processors kept busy, summed likewise.
        queue_ms: The longest that calls waited on average at one of them, in milliseconds.
    """

    at_s: float
    live: int
    told: int
    in_flight: float = 0.0
    cpus: float = 0.0
    queue_ms: float = 0.0


class Scaled(Document):
    """How many instances of a version there should be, and why.

    Attributes:
        version: The version.
        wanted: How many.
        needed: How many the load asks for, whatever the bounds are.
        live: How many got calls when it was decided.
        changed: When `wanted` last changed, in seconds since the epoch.
        why: In one sentence.
    """

    version: Version
    wanted: int
    needed: int
    live: int
    changed: float
    why: str


def bounds_of(policy: Autoscale, *, stable: bool, at_least: int = 1, holds: bool = False, wanted: int = 0) -> Bounds:
    """Between which numbers a version may have instances.

    Args:
        policy: What the operator allows.
        stable: Whether it is the stable version.
        at_least: So many for another reason, such as calls that it is to get at once.
        holds: Nobody is stopped now.
        wanted: How many there should be by the decision before.
    """
    fewest = max(policy.min if stable else 1, at_least, wanted if holds else 1)
    return Bounds(min(fewest, policy.max), policy.max)


def decide(policy: Autoscale, bounds: Bounds, past: Sequence[Look], before: Scaled | None, version: str) -> Scaled:
    """How many instances of a version there should be.

    Args:
        policy: What the operator allows.
        bounds: For this version, now.
        past: What was seen, the oldest first; the last look is now, and one has to be there.
        before: The last decision, None for none.
        version: The version.
    """
    now = past[-1]
    wanted = before.wanted if before else now.live
    changed_s = before.changed if before else 0.0
    up, why_up = _needed(policy, _mean(_recent(past)), now.live, slack=SLACK)
    bounded = min(max(wanted, bounds.fewest), bounds.most)

    def told(number: int, why: str) -> Scaled:
        changed = now.at_s if number != wanted else changed_s
        return Scaled(version=version, wanted=number, needed=up, live=now.live, changed=changed, why=why)

    if bounded != wanted:
        return told(bounded, f"{wanted} lies outside of {bounds.fewest} to {bounds.most}")
    if up > wanted:
        return told(*_upward(policy, bounds, now, wanted, changed_s, up, why_up))
    return told(*_downward(policy, bounds, past, wanted, changed_s, why_up))


def _upward(
    policy: Autoscale, bounds: Bounds, now: Look, wanted: int, changed_s: float, needed: int, why: str
) -> tuple[int, str]:
    since_s = now.at_s - changed_s
    if wanted >= bounds.most:
        return wanted, f"{why}, which asks for {needed}; {bounds.most} is the most it may have"
    if since_s < policy.up_cooldown_s:
        return wanted, f"{why}, which asks for {needed}; the last change was {since_s:.0f} s ago"
    if now.live < wanted and since_s < START_S:
        return wanted, f"{why}, which asks for {needed}; {wanted - now.live} that were asked for do not serve yet"
    return min(needed, 2 * max(wanted, 1), bounds.most), f"{why}, which asks for {needed}"


def _downward(
    policy: Autoscale, bounds: Bounds, past: Sequence[Look], wanted: int, changed_s: float, why: str
) -> tuple[int, str]:
    now = past[-1]
    if wanted <= bounds.fewest:
        return wanted, f"{why}; {bounds.fewest} is the fewest it may have"
    since_s = now.at_s - changed_s
    watched_s = now.at_s - past[0].at_s
    if since_s < policy.down_cooldown_s or watched_s < COVERED * policy.down_cooldown_s:
        left_s = policy.down_cooldown_s - min(since_s, watched_s)
        return wanted, f"{why}; nobody is stopped for another {left_s:.0f} s"
    watched = [look for look in past if look.at_s >= now.at_s - policy.down_cooldown_s]
    whole = [look for look in watched if look.told >= look.live > 0]
    if len(whole) < TOLD * len(watched):
        return wanted, f"{why}; nobody is stopped, since not every instance told what it did"
    busiest = max(_needed(policy, mean, mean.live, slack=-SLACK)[0] for mean in _means(whole))
    fewer = max(busiest, bounds.fewest)
    if fewer >= wanted:
        return wanted, f"{why}; at the busiest moment of {policy.down_cooldown_s:.0f} s it was {busiest}"
    return fewer, f"{why}, and no more than {fewer} were needed for {policy.down_cooldown_s:.0f} s"


def _recent(past: Sequence[Look]) -> Sequence[Look]:
    """The looks of the last seconds."""
    first = len(past) - 1
    while first > 0 and past[first - 1].at_s >= past[-1].at_s - RECENT_S:
        first -= 1
    return past[first:]


def _means(past: Sequence[Look]) -> Iterator[Look]:
    """At each moment, what was done on average in the seconds before it."""
    first = 0
    for last, look in enumerate(past):
        while past[first].at_s < look.at_s - RECENT_S:
            first += 1
        yield _mean(past[first : last + 1])


def _mean(some: Sequence[Look]) -> Look:
    """What was done on average; looks at which nobody told anything say nothing."""
    last, told = some[-1], [look for look in some if look.told] or some
    return replace(
        last,
        told=told[-1].told,
        in_flight=sum(look.in_flight for look in told) / len(told),
        cpus=sum(look.cpus for look in told) / len(told),
        queue_ms=sum(look.queue_ms for look in told) / len(told),
    )


def _needed(policy: Autoscale, seen: Look, live: int, *, slack: float) -> tuple[int, str]:
    """How many the load asks for, and by which of its signs.

    Args:
        policy: What each should have to do.
        seen: What all of them did.
        live: How many they are.
        slack: By so much of its target a sign may be exceeded.
    """
    if not seen.told:
        return live, f"none of {live} instances told what it did"
    asked: list[tuple[int, str]] = []
    if policy.in_flight is not None:
        said = f"{seen.in_flight:.1f} calls under way, {policy.in_flight:g} meant for each instance"
        asked.append((_share(seen.in_flight, policy.in_flight * (1 + slack)), said))
    if policy.cpus is not None:
        said = f"{seen.cpus:.2f} processors busy, {policy.cpus:g} meant for each instance"
        asked.append((_share(seen.cpus, policy.cpus * (1 + slack)), said))
    if policy.queue_ms is not None:
        asked.append(_queued(seen.queue_ms, policy.queue_ms, live, up=slack > 0))
    number, why = max(asked, key=lambda one: one[0])
    return max(number, 1), why


def _queued(queue_ms: float, most_ms: float, live: int, *, up: bool) -> tuple[int, str]:
    """How much one more would help nobody can tell from a queue: one at a time."""
    said = f"calls wait {queue_ms:.0f} ms, {most_ms:g} at most"
    if up:
        return (live + 1 if queue_ms > most_ms else 1), said
    return (live - 1 if queue_ms < QUIET_QUEUE * most_ms else live), said


def _share(load: float, each: float) -> int:
    return math.ceil(load / each - 1e-9)


@dataclass(frozen=True)
class Counters:
    """What an instance has done in all, by a clock of its own."""

    at_s: float
    in_flight_seconds: float
    cpu_seconds: float
    late_seconds: float
    turns: float


def look(at_s: float, live: int, pairs: Iterable[tuple[Counters, Counters]]) -> Look:
    """What instances did between two looks.

    Args:
        at_s: When the later one was taken.
        live: How many get calls.
        pairs: Of each that told both times, what it had done before and now.
    """
    told, in_flight, cpus, queue_ms = 0, 0.0, 0.0, 0.0
    for before, now in pairs:
        passed_s = now.at_s - before.at_s
        if passed_s <= 0:  # another process, or the same answer twice
            continue
        told += 1
        in_flight += max(0.0, now.in_flight_seconds - before.in_flight_seconds) / passed_s
        cpus += max(0.0, now.cpu_seconds - before.cpu_seconds) / passed_s
        turns = now.turns - before.turns
        late_ms = 1000 * (now.late_seconds - before.late_seconds) / turns if turns > 0 else 1000 * passed_s
        queue_ms = max(queue_ms, late_ms)
    return Look(at_s, live, told, in_flight, cpus, queue_ms)
