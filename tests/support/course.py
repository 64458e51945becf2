"""Rollouts as values for tests: a policy, a rollout just begun, and observations that say little."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.course import Seen, turn
from control_plane.delivery import Delivery, Step
from control_plane.model import Lane, ServicePolicy
from control_plane.readings import Counts, Durations, Look, Reading
from control_plane.rollout import Rollout
from control_plane.sequential import Count
from control_plane.steer import By, Start, start

STABLE, CANARY = "1.0.0", "1.1.0"
POLICY = ServicePolicy(name="search", stable=STABLE, lanes=(Lane(version=STABLE, weight_pct=100),))
ONE = frozenset({"aaaaaa"})


def delivery(**given: object) -> Delivery:
    """A delivery of `search`, quick steps by default."""
    steps = (Step(weight_pct=10, bake_s=10, verdict_s=50), Step(weight_pct=50, bake_s=10, verdict_s=50, margin=0.05))
    return Delivery.model_validate({"service": "search", "steps": steps, "keep_warm_s": 30, **given})


def begun(now_s: float = 0, **given: object) -> Rollout:
    """A rollout that has just been started."""
    wish = Start(CANARY, delivery(**given), "ada", "try it")
    return start(None, POLICY, wish, [STABLE, CANARY], now_s)[0]


def by(now_s: float, *, stable_serves: bool = True, stable: str = STABLE) -> By:
    """Ada, who has her reasons."""
    return By("ada", "her reasons", now_s, stable_serves, stable)


def well(rollout: Rollout, **given: object) -> Seen:
    """Everything asked for is fine, and in force."""
    return Seen(**{"stable_serves": True, "canary_ids": ONE, "breaches": (), "proof": "", "tools": ("search_grep",),
                   "read_only": ("search_grep",), **given})  # type: ignore[arg-type]  # fmt: skip


def look(rollout: Rollout, calls: int, bad: Mapping[str, float] | None = None) -> Look:
    """A reading in which both sides have had so many calls; of the canary's, these shares went wrong."""
    shares = bad or {}

    def reading(name: str) -> Reading:
        if name.startswith("latency"):
            return Durations((0.1, 0.5), (calls, calls, calls), (calls, calls, calls))
        return Counts(Count(0, calls), Count(int(calls * shares.get(name, 0.0)), calls))

    return {check.name: reading(check.name) for check in rollout.plan.checks}


def until(rollout: Rollout, phase: str, now_s: float, *, limit_s: float = 2000, bad: Mapping[str, float] | None = None,
          calls_per_s: int = 50, **given: object) -> tuple[Rollout, float]:  # fmt: skip
    """Take turns, one a second with everything well but what is given, until a phase is reached."""
    end_s = now_s + limit_s
    while rollout.phase.value != phase:
        now_s += 1
        assert now_s < end_s, f"still {rollout.phase} after {limit_s} s: {rollout.said}"
        counted = look(rollout, int(now_s * calls_per_s), bad)
        rollout = turn(rollout, well(rollout, look=counted, **given), now_s)
    return rollout, now_s
