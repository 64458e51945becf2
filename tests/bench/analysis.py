"""What the analysis of canaries is worth, by seeded simulated rollouts: false rollbacks, and faults found in time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import product

from control_plane.analysis import Verdict
from tests.bench.tools import Row
from tests.support.rollouts import CALLS_PER_S, STEPS, Fault, Noise, Outcome, Step, rollout

# A step that is never left by a person, so that what is not found is not found for lack of calls.
PATIENT = (*STEPS[:-1], Step(STEPS[-1].weight_pct, STEPS[-1].margin, most_s=1800))
SMALL_FIRST = (Step(1, 0.1), *PATIENT)
FAULTS = (Fault("http_5xx", 0.01), Fault("tool_errors", 0.01), Fault("tool_errors", 0.05), Fault("tool_errors", 0.2),
          Fault("tool_errors", 1.0))  # fmt: skip


def analysis(rollouts: int) -> list[Row]:
    """Rows of good rollouts by noise and traffic, then of broken ones by fault and traffic.

    Args:
        rollouts: Good ones in all; a twentieth with more noise than is promised for, a fiftieth of each kind of broken.
    """
    return [*_good(rollouts), *_stormy(max(10, rollouts // 20)), *_broken(max(10, rollouts // 50))]


def _good(rollouts: int) -> list[Row]:
    kinds = list(product(Noise, CALLS_PER_S))
    groups: dict[tuple[Noise, int], list[Outcome]] = {kind: [] for kind in kinds}
    for seed in range(rollouts):
        kind = kinds[seed % len(kinds)]
        groups[kind].append(rollout(seed, kind[1], kind[0]))
    rows = [(f"good canary, noise {noise}, {calls}/s: false rollbacks, promoted unaided", _share_good(group))
            for (noise, calls), group in groups.items()]  # fmt: skip
    every = [one for group in groups.values() for one in group]
    failed = sum(one.failed for one in every)
    return [(f"good canaries under noise: false rollbacks of {len(every)} (at most 1 %)",
             f"{failed} ({100 * failed / len(every):.2f} %)"), *rows]  # fmt: skip


def _stormy(count: int) -> list[Row]:
    rows = []
    for calls in CALLS_PER_S:
        failed = sum(rollout(seed, calls, Noise.RETRIES, retries=6.0).failed for seed in range(count))
        rows.append((f"beyond the promise, six retries on average, {calls}/s: false rollbacks", f"{failed} of {count}"))
    return rows


def _share_good(group: Sequence[Outcome]) -> str:
    passed = [one.seconds for one in group if one.said.verdict is Verdict.PASS]
    promoted = f"{100 * len(passed) / len(group):.0f} %" + (
        f", median {statistics.median(passed):.0f} s" if passed else ""
    )
    return f"{sum(one.failed for one in group)} of {len(group)}; {promoted}"


def _broken(count: int) -> list[Row]:
    rows = []
    for fault, calls in product(FAULTS, CALLS_PER_S):
        found = [rollout(seed, calls, Noise.SINGLE, fault, steps=PATIENT) for seed in range(count)]
        rows.append(
            (
                f"{fault.share:.0%} of calls broken ({fault.check}), {calls}/s: found; time; calls; share hit",
                _found(found),
            )
        )
    for calls in CALLS_PER_S:
        found = [rollout(seed, calls, Noise.SINGLE, FAULTS[-1], steps=SMALL_FIRST) for seed in range(count)]
        rows.append((f"the same for all calls broken, first step 1 %, {calls}/s", _found(found)))
    return rows


def _found(outcomes: Sequence[Outcome]) -> str:
    found = [one for one in outcomes if one.failed]
    power = f"{100 * len(found) / len(outcomes):.0f} %"
    hit = f"{100 * statistics.median(one.hits / one.calls for one in outcomes):.2f} %"
    if not found:
        return f"{power}; -; -; {hit}"
    seconds, calls = (
        statistics.median(of) for of in zip(*((one.seconds, one.canary_calls) for one in found), strict=True)
    )
    return f"{power}; {seconds:.0f} s; {calls:.0f}; {hit}"
