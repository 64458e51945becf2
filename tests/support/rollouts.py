"""Simulated rollouts: seeded calls to a stable and a canary version, judged look by look by the real analysis.

Stable's rates drift, on both sides alike, between half and twice of what is written here. On top comes noise:

- single: calls fail one by one;
- retries: whose call fails calls again at once, and fails again: three times in all on average, geometric;
- moods: each side's rate is drawn anew at each look (beta, correlation 0.02), as with a dependency that limps.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from control_plane.analysis import Judgement, Verdict, advance, begin, judge
from control_plane.checks import Plan, default_checks
from control_plane.readings import Counts, Durations, Reading
from control_plane.sequential import Count

CALLS_PER_S = (1, 10, 100)
LOOK_S = 5
RATES = {"http_5xx": 0.001, "tool_errors": 0.01, "deadline": 0.002, "schema": 0.0002}
SLOW = 0.04
EDGES_S = (0.1, 0.25)
PLAN = Plan("1.2.0", "1.3.0", default_checks())
_CORRELATION = 0.02


class Noise(StrEnum):
    """How calls that fail come together."""

    SINGLE = "single"
    RETRIES = "retries"
    MOODS = "moods"


@dataclass(frozen=True)
class Step:
    """A weight; left when the verdict is pass with this margin, in `most_s` by a person who says "go on"."""

    weight_pct: float
    margin: float
    least_s: int = 60
    most_s: int = 300


STEPS = (Step(5, 0.05), Step(20, 0.02), Step(50, 0.01))


@dataclass(frozen=True)
class Fault:
    """What is wrong with the canary: this share of its calls breaks, as this check sees, from some second on."""

    check: str
    share: float
    from_s: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a rollout ended.

    Attributes:
        said: The last judgement.
        seconds: How long it took since the start, or since the fault began.
        calls: All calls since the start.
        canary_calls: Those of the canary since the fault began.
        hits: Those of the canary that met the fault.
    """

    said: Judgement
    seconds: int
    calls: int
    canary_calls: int
    hits: int

    @property
    def failed(self) -> bool:
        """Whether it would have been rolled back."""
        return self.said.verdict is Verdict.FAIL


@dataclass
class Side:
    """One version, and its counters as they grow."""

    dice: random.Random
    noise: Noise
    retries: float = 3.0
    calls: int = 0
    bad: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RATES, 0))
    slow: int = 0

    def serve(self, calls: float, drift: float, fault: Fault | None) -> tuple[int, int]:
        """Go on for one look; calls that came, and those that met the fault."""
        came = self._poisson(calls)
        hits = min(came, self._poisson(came * fault.share) if fault.share < 1 else came) if fault else 0
        again = 0
        for check, rate in RATES.items():
            bad, more = self._failing(came - hits if fault and fault.check == check else came, rate * drift)
            again += more
            self.bad[check] += bad + (hits if fault and fault.check == check else 0)
        slow = min(came, self._failing(came, SLOW * drift)[0])
        self.slow += max(slow, hits) if fault and fault.check == "latency" else slow
        self.calls += came + again
        return came + again, hits

    def _failing(self, calls: int, rate: float) -> tuple[int, int]:
        """How many calls fail of themselves, and how many of those are called again on top."""
        if self.noise is Noise.RETRIES:
            rows = min(calls, self._poisson(calls * rate / self.retries))
            bad = sum(self._geometric(self.retries) for _ in range(rows))
            return bad, bad - rows
        if self.noise is Noise.MOODS:
            spread = 1 / _CORRELATION - 1
            rate = self.dice.betavariate(rate * spread, (1 - rate) * spread)
        return min(calls, self._poisson(calls * rate)), 0

    def _poisson(self, mean: float) -> int:
        if mean > 50:  # the normal distribution is as good there
            return max(0, round(self.dice.gauss(mean, math.sqrt(mean))))
        limit, count, product = math.exp(-mean), 0, self.dice.random()
        while product > limit:
            count, product = count + 1, product * self.dice.random()
        return count

    def _geometric(self, mean: float) -> int:
        return 1 + int(math.log(1 - self.dice.random()) / math.log(1 - 1 / mean))


def rollout(
    seed: int, calls_per_s: float, noise: Noise, fault: Fault | None = None, *, steps: Sequence[Step] = STEPS,
    plan: Plan = PLAN, retries: float = 3.0,
) -> Outcome:  # fmt: skip
    """Simulate one rollout to its end: fail, or the last step's."""
    dice = random.Random(seed)
    stable, canary = Side(dice, noise, retries), Side(dice, noise, retries)
    phase, period_s = dice.random(), dice.uniform(120, 1200)
    stable.serve(60 * calls_per_s, 1, None)
    state, now_s, calls, since_fault, hits = begin(plan, readings(stable, canary)), 0, 0, 0, 0
    said = judge(plan, state)
    for step in steps:
        began_s = now_s
        while now_s < began_s + step.most_s:
            now_s += LOOK_S
            drift = 2 ** math.sin(2 * math.pi * (phase + now_s / period_s))
            share, broken = step.weight_pct / 100, fault if fault and now_s > fault.from_s else None
            ours, _ = stable.serve(LOOK_S * calls_per_s * (1 - share), drift, None)
            theirs, hit = canary.serve(LOOK_S * calls_per_s * share, drift, broken)
            calls, since_fault, hits = calls + ours + theirs, since_fault + theirs * bool(broken), hits + hit
            state = advance(plan, state, readings(stable, canary))
            said = judge(plan, state, step.margin)
            if said.verdict is Verdict.FAIL:
                return Outcome(said, now_s - (fault.from_s if fault else 0), calls, since_fault, hits)
            if said.verdict is Verdict.PASS and now_s >= began_s + step.least_s:
                break
    return Outcome(said, now_s, calls, since_fault, hits)


def readings(stable: Side, canary: Side) -> Mapping[str, Reading]:
    """What the metrics source would say."""
    rates = {
        name: Counts(Count(stable.bad[name], stable.calls), Count(canary.bad[name], canary.calls)) for name in RATES
    }
    histograms = (
        (round(0.7 * (side.calls - side.slow)), side.calls - side.slow, side.calls) for side in (stable, canary)
    )
    return {**rates, "latency": Durations(EDGES_S, *histograms)}
