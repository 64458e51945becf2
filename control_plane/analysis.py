"""Judges a canary version against the stable one over the same time, from counts, at every look anew.

    state = begin(plan, baseline)
    state = advance(plan, state, look)     every few seconds; the state is plain values and outlives the process
    judgement = judge(plan, state)         pass, fail, inconclusive or error, with evidence and one sentence

Errors and slow calls alike are "bad of calls", so one test (`control_plane.sequential`) judges them all. The promises:

- fail: of good canaries at most `Plan.false_alarm` ever fail by the test, however long it goes on and however often one
  looks. A hard limit, or a custom value out of its range, fails without the test and is not part of that figure.
- pass: of canaries that are worse than stable by more than a check's margin at most `Plan.missed` ever pass. The margin
  is not the tolerance of a fail: a difference of 0.2 points can be found in time, to rule it out takes days.
- error: the metrics source did not say. It never leads to a fail, and takes none back.

A fail stays. A pass is taken back when calls go wrong later. Whether a reading is stale and when to look is for the
caller, who has a clock; not more often than every 5 s, as what one moment can prove is bounded by the look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from control_plane.checks import Check, Plan, RangeCheck, RateCheck
from control_plane.readings import Counts, Cumulative, Durations, Look, Missing, Reading, Value, news
from control_plane.sequential import MARGINS, Block, Record


class Verdict(StrEnum):
    """What everything so far comes to."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


@dataclass(frozen=True)
class RateState:
    """What is remembered of a rate check.

    Attributes:
        record: The test's.
        before: The last usable reading.
        unbegun: The first one was missing: the next says from where to count.
        window: Calls looked at for the hard limit.
        broke: The window that was over it.
        edge_s: Where slow began when calls were last counted by their duration.
        problem: Why the last reading was of no use, "" if it was.
    """

    record: Record = field(default_factory=Record)
    before: Cumulative | None = None
    unbegun: bool = False
    window: Block = field(default_factory=Block)
    broke: Block | None = None
    edge_s: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class RangeState:
    """What is remembered of a range check: the last value, how many were out of range in a row, and at most."""

    value: float | None = None
    streak: int = 0
    longest: int = 0
    problem: str = ""


CheckState = RateState | RangeState


@dataclass(frozen=True)
class State:
    """What is remembered between looks, by the names of the checks."""

    checks: Mapping[str, CheckState]


@dataclass(frozen=True)
class Evidence:
    """The figures behind the verdict of a rate check.

    Attributes:
        calls: All calls on both sides so far.
        proof: Those that speak loudest for "worse", or that were over the hard limit.
        e_value: Highest evidence for "worse" so far; at most one good version in so many ever shows as much.
        threshold: The evidence that fails.
        ratio: What is allowed is so many times stable's rate,
        tolerance: and this share of calls more.
        bound: The canary is surely less than this share of calls worse; 1 while nothing is sure.
        margin: The bound that passes.
        burst: Calls that counted as one.
        calls_needed: About how many more canary calls until it passes, if it is as good as stable; None if unknown.
        edge_s: Above it a call counted as slow.
    """

    calls: Block
    proof: Block
    e_value: float
    threshold: float
    ratio: float
    tolerance: float
    bound: float
    margin: float
    burst: float
    calls_needed: int | None
    edge_s: float | None


@dataclass(frozen=True)
class Finding:
    """The verdict of one check; evidence for a rate check, the last value for a range check.

    Attributes:
        holds: Whether the canary passes only if this passes.
    """

    name: str
    verdict: Verdict
    sentence: str
    dry_run: bool
    holds: bool = True
    evidence: Evidence | None = None
    value: float | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdict on the canary: of the checks that count, fail before error before inconclusive before pass."""

    verdict: Verdict
    sentence: str
    findings: tuple[Finding, ...]


def begin(plan: Plan, baseline: Mapping[str, Reading] | None = None) -> State:
    """The state before the first look.

    Args:
        plan: What will be judged.
        baseline: Readings at the start, from which later ones count; without one they count from zero. Durations need
            it: stable's calls before the look say what is slow. What is missing there counts from its first reading:
            a version that was here before has calls of then, until the metrics source forgets them.
    """
    given = baseline or {}
    return State({check.name: _fresh(check, given.get(check.name)) for check in plan.checks})


def advance(plan: Plan, state: State, look: Look) -> State:
    """The state after one look.

    Raises:
        ValueError: A reading without a check, or of the wrong kind for it.
    """
    readings = {} if isinstance(look, Missing) else look
    absent = look if isinstance(look, Missing) else Missing("the metrics source had nothing on it")
    unknown = sorted(readings.keys() - {check.name for check in plan.checks})
    if unknown:
        raise ValueError(f"no check is named {', '.join(unknown)}")
    states = ((check, state.checks.get(check.name, _fresh(check))) for check in plan.checks)
    return State({check.name: _read(plan, check, held, readings.get(check.name, absent)) for check, held in states})


def judge(plan: Plan, state: State, margin: float = 0.0) -> Judgement:
    """Say what everything so far comes to.

    Args:
        plan: What it is judged by.
        state: What is remembered of all looks.
        margin: Share of calls. Rate checks with a narrower margin pass with this one: at a low weight there are not
            calls enough for more, and fewer calls to lose.
    """
    findings = tuple(_find(plan, check, state.checks[check.name], margin) for check in plan.checks)
    counting = [finding for finding in findings if not finding.dry_run]
    for verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE):
        found = [one.sentence for one in counting if one.verdict is verdict and (one.holds or verdict in _ALWAYS)]
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return Judgement(verdict, f"{found[0]}{more}", findings)
    passed = f"{plan.canary} does as well as {plan.stable} in every check ({len(counting)})"
    return Judgement(Verdict.PASS, passed, findings)


_ALWAYS = (Verdict.FAIL, Verdict.ERROR)


def replay(
    plan: Plan, looks: Iterable[Look], baseline: Mapping[str, Reading] | None = None, margin: float = 0.0
) -> Iterator[Judgement]:
    """What would have been said after each of a row of past looks; arguments as of `begin` and `judge`."""
    state = begin(plan, baseline)
    for look in looks:
        state = advance(plan, state, look)
        yield judge(plan, state, margin)


def _fresh(check: Check, reading: Reading | None = None) -> CheckState:
    if isinstance(check, RangeCheck):
        return RangeState()
    before = reading if isinstance(reading, Cumulative) else None
    return RateState(before=before, unbegun=isinstance(reading, Missing))


def _read(plan: Plan, check: Check, state: CheckState, reading: Reading) -> CheckState:
    match check, state, reading:
        case _, _, Missing():
            return replace(state, problem=reading.why)
        case RangeCheck(), RangeState(), Value():
            return _read_value(check, state, reading.value)
        case RateCheck(), RateState(), Counts() | Durations():
            return _read_counts(plan, check, state, reading)
    raise ValueError(f"check {check.name} cannot be judged by {type(reading).__name__}")


def _read_value(check: RangeCheck, state: RangeState, value: float) -> RangeState:
    if math.isnan(value):
        return replace(state, problem="the value was not a number")
    streak = 0 if check.low <= value <= check.high else state.streak + 1
    return RangeState(value, streak, max(streak, state.longest))


def _read_counts(plan: Plan, check: RateCheck, state: RateState, reading: Cumulative) -> RateState:
    if state.unbegun:
        return replace(state, before=reading, unbegun=False, problem="")
    new = news(state.before, reading)
    after = replace(state, before=new.before, edge_s=new.edge_s or state.edge_s, problem=new.problem)
    if new.problem:
        return after
    window = state.window + new.calls
    return replace(
        after,
        record=state.record.add(new.calls, plan.terms(check)),
        window=Block() if window.canary.calls >= check.hard_calls else window,
        broke=state.broke or (window if _over(check, window) else None),
    )


def _over(check: RateCheck, window: Block) -> bool:
    if check.hard_limit is None:
        return False
    # What fails on stable as well is no fault of the canary, and to go back to stable would be no help.
    enough = check.hard_limit * max(window.canary.calls, check.hard_calls)
    return window.canary.bad >= enough and window.stable.rate < check.hard_limit / 2


def _find(plan: Plan, check: Check, state: CheckState, margin: float) -> Finding:
    match check, state:
        case RangeCheck(), RangeState():
            verdict, said = _range_verdict(check, state)
            return Finding(check.name, verdict, f"{check.title} {said}", check.dry_run, value=state.value)
        case RateCheck(), RateState():
            evidence = _evidence(plan, check, state, max(margin, check.margin))
            verdict, said = _rate_verdict(plan, check, state, evidence)
            return Finding(check.name, verdict, said, check.dry_run, check.holds, evidence)
    raise ValueError(f"check {check.name} is of another kind than what is remembered of it")


def _range_verdict(check: RangeCheck, state: RangeState) -> tuple[Verdict, str]:
    value = "?" if state.value is None else f"{state.value:g}"
    allowed = _allowed(check)
    if state.longest >= check.failures:
        return Verdict.FAIL, f"{value}: was {state.longest} times in a row not {allowed}"
    if state.problem:
        return Verdict.ERROR, f"not known: {state.problem}"
    if state.value is None:
        return Verdict.INCONCLUSIVE, "not known yet"
    if state.streak:
        return Verdict.INCONCLUSIVE, f"{value}: {state.streak} of {check.failures} times not {allowed}"
    return Verdict.PASS, f"{value}: {allowed}"


def _allowed(check: RangeCheck) -> str:
    if math.isinf(check.low):
        return f"at most {check.high:g}"
    return f"at least {check.low:g}" if math.isinf(check.high) else f"within {check.low:g} to {check.high:g}"


def _evidence(plan: Plan, check: RateCheck, state: RateState, margin: float) -> Evidence:
    terms, record = plan.terms(check), state.record
    asked = max(known for known in MARGINS if known <= margin)
    return Evidence(
        calls=record.total,
        proof=state.broke or record.proof,
        e_value=record.peak,
        threshold=1 / terms.alarm,
        ratio=check.ratio,
        tolerance=check.tolerance,
        bound=record.bound(terms),
        margin=asked,
        burst=record.burst(terms),
        calls_needed=record.calls_needed(asked, terms),
        edge_s=state.edge_s,
    )


def _rate_verdict(plan: Plan, check: RateCheck, state: RateState, evidence: Evidence) -> tuple[Verdict, str]:
    slow = f"{check.title} (over {evidence.edge_s:g} s)" if evidence.edge_s else check.title
    counts, proof = (
        f"{slow} {calls.canary} on {plan.canary} against {calls.stable} on {plan.stable}"
        for calls in (evidence.calls, evidence.proof)
    )
    enough = min(evidence.calls.stable.calls, evidence.calls.canary.calls) >= check.min_calls
    if check.hard_limit and state.broke:
        return Verdict.FAIL, f"{proof}: over the hard limit of {100 * check.hard_limit:g} %"
    if enough and evidence.e_value >= evidence.threshold:
        seldom = f"at most one good version in {evidence.e_value:,.0f} looks so bad"
        return Verdict.FAIL, f"{proof}: {_excess(check)}; {seldom}"
    if state.problem:
        return Verdict.ERROR, f"{check.title} not known: {state.problem}"
    if not enough:
        return Verdict.INCONCLUSIVE, f"{counts}: too few calls, at least {check.min_calls} are needed on each"
    if evidence.bound <= evidence.margin:
        return Verdict.PASS, f"{counts}: surely less than {_points(evidence.bound)} worse"
    needed = f"about {evidence.calls_needed:,} more calls to {plan.canary}"
    return Verdict.INCONCLUSIVE, f"{counts}: {needed} are needed to tell whether it is {_points(evidence.margin)} worse"


def _excess(check: RateCheck) -> str:
    times = f"{check.ratio:g} times as bad and " if check.ratio > 1 else ""
    return f"more than {times}{_points(check.tolerance)} worse"


def _points(share: float) -> str:
    return "1 point" if share == 0.01 else f"{100 * share:g} points"
