"""Where a rollout goes next: from its document, what was observed, and the time, to the next document. Pure functions.

One call makes one transition at most, and nothing is remembered outside of the document: a leader that dies after any
write is followed by one that reads it and takes the same course. Rules that hold in every phase:

- A rollback goes straight to stable, never through steps; what fails is rolled back in the same turn.
- Traffic never leaves a side that serves for one that does not: while stable has no instance, nothing goes back to it.
- The metrics source being away holds a rollout where it is, and never rolls it back.
- Every phase has a deadline. Before traffic it ends as failed, with traffic a person is asked, and in the end the
  rollout is rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from control_plane.analysis import Finding, Judgement, RateState, Verdict, advance, begin
from control_plane.delivery import Strategy
from control_plane.names import allows
from control_plane.readings import Look, Missing
from control_plane.rollout import MOST_EVENTS, MOST_TOOLS, Event, Phase, Rollout, Serves, share_said, step_said

PREPARE_S = 600.0
IN_FORCE_S = 120.0
ASK_S = 86_400.0
LOOK_EVERY_S = 5.0
PROVE_EVERY_S = 30.0
ABSENT_S = 6.0
"""How long an instance is missing until it counts as lost: a Consul agent that restarts shows every check critical."""
MOST_LOST = 3
FEW_CALLS = 10
MOST_NAMED = 12


@dataclass(frozen=True)
class Seen:
    """What was observed for a turn; what nobody asked about is None.

    Attributes:
        stable_serves: Whether stable has an instance that is ready for calls.
        canary_ids: The canary's instances that are ready for calls.
        leaving: Instances that said that they leave.
        waiting_for: Gates that do not have the awaited revision yet.
        look: A reading of all checks.
        breaches: What the canary breaks of the contract, waivers taken into account.
        excused: What it breaks and a waiver covers.
        unused: Waivers that cover nothing.
        tools: Tools both sides have.
        read_only: Those that both call read-only.
        proof: "" if the canary's probe calls work, else what is wrong.
        problem: Why contract or probes could not be asked.
    """

    stable_serves: bool
    canary_ids: frozenset[str]
    leaving: frozenset[str] = frozenset()
    waiting_for: tuple[str, ...] = ()
    look: Look | None = None
    breaches: tuple[str, ...] | None = None
    excused: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    proof: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class Needs:
    """What a rollout wants to know at its next turn."""

    look: bool = False
    contract: bool = False
    proof: bool = False


def needs(rollout: Rollout, now_s: float) -> Needs:
    """What has to be observed for the next turn."""
    if rollout.phase is Phase.PREPARING:
        ready = bool(rollout.alive)
        return Needs(contract=ready, proof=ready)
    looks = rollout.serves is not Serves.STABLE and rollout.phase in _LOOKING
    look = looks and now_s - rollout.looked >= LOOK_EVERY_S
    return Needs(look=look, proof=_overdue(rollout, now_s) and now_s - rollout.probed >= PROVE_EVERY_S)


_LOOKING = frozenset({Phase.SHIFTING, Phase.BAKING, Phase.ASKING, Phase.PAUSED, Phase.PROMOTING, Phase.WARM})


def turn(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    """The rollout after one turn; the same value if nothing has changed."""
    if rollout.phase.ended:
        return rollout
    known = _judged(_counted(_unstuck(rollout), seen, now_s), seen, now_s)
    if bad := _sick(known, seen, now_s):
        return rolled_back(known, now_s, bad)
    match known.phase:
        case Phase.PREPARING:
            return _prepare(known, seen, now_s)
        case Phase.SHIFTING:
            return _shift(known, seen, now_s)
        case Phase.BAKING:
            return _bake(known, seen, now_s)
        case Phase.ASKING | Phase.PAUSED:
            return _wait(known, now_s)
        case Phase.PROMOTING:
            return _promote(known, seen, now_s)
        case Phase.WARM:
            return _keep_warm(known, seen, now_s)
        case Phase.ROLLING_BACK:
            return _roll_back(known, seen, now_s)
        case Phase.SUCCEEDED | Phase.ROLLED_BACK | Phase.FAILED | Phase.SUPERSEDED:
            return known
        case _:
            assert_never(known.phase)


def moved(rollout: Rollout, phase: Phase, now_s: float, said: str, **changes: object) -> Rollout:
    """The rollout in another phase, with the event of it."""
    event = Event(at=now_s, phase=phase, said=said)
    update = {"phase": phase, "since": now_s, "said": said, "asked": "", "resumes": None, **changes}
    events = (*rollout.events, event)[-MOST_EVENTS:]
    return rollout.model_copy(update={**update, "events": events})


def rolled_back(rollout: Rollout, now_s: float, why: str, **changes: object) -> Rollout:
    """The rollout on its way back, straight to stable."""
    said = f"back to {rollout.stable}: {why}"
    return moved(rollout, Phase.ROLLING_BACK, now_s, said, serves=Serves.STABLE, **changes)


def onward(rollout: Rollout, now_s: float, why: str) -> Rollout:
    """The rollout at its next step, or promoting after the last; asks first if the last one wants approval."""
    step = rollout.present_step
    approved = rollout.phase in (Phase.ASKING, Phase.PAUSED)
    if step and step.approval and not approved:
        return ask(rollout, now_s, f"{why}; go on from {step_said(step)}?")
    if rollout.step + 1 >= len(rollout.steps):
        if rollout.delivery.approval and not approved:
            return ask(rollout, now_s, f"{why}; give {rollout.canary} everything?")
        return promoted(rollout, now_s, why)
    number = rollout.step + 1
    after = rollout.model_copy(update={"step": number})
    said = f"{why}: step {number + 1} of {len(rollout.steps)}, {rollout.canary} gets {step_said(rollout.steps[number])}"
    # Other checks, or another share of the callers, are another comparison: it begins anew.
    anew = {} if after.plan == rollout.plan and _same_callers(rollout, after) else _ANEW
    return moved(after, Phase.SHIFTING, now_s, said, serves=Serves.STEP, step_since=0.0, **anew)


_ANEW: Mapping[str, object] = {"analysis": None, "looked": 0.0}


def _same_callers(before: Rollout, after: Rollout) -> bool:
    old, new = before.present_step, after.present_step
    return old is not None and new is not None and (old.cohort, old.mirror) == (new.cohort, new.mirror)


def promoted(rollout: Rollout, now_s: float, why: str) -> Rollout:
    """The rollout giving the canary everything."""
    said = f"{why}: {rollout.canary} gets everything"
    return moved(rollout, Phase.PROMOTING, now_s, said, serves=Serves.CANARY, step_since=0.0, **_ANEW)


def ask(rollout: Rollout, now_s: float, question: str) -> Rollout:
    """The rollout waiting for a person."""
    said = f"waits for approval: {question} `tekup rollout promote {rollout.service}` agrees"
    return moved(rollout, Phase.ASKING, now_s, said, asked=question)


def _counted(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    """Who of the canary serves, who is missing, who is lost."""
    known = frozenset(rollout.alive) | seen.canary_ids
    absent = known - seen.canary_ids - seen.leaving
    missing = {one: rollout.missing.get(one, now_s) for one in sorted(absent)}
    # Stable down as well: that is the machine or the catalog, and no fault of the canary.
    gone = {one for one, since in missing.items() if seen.stable_serves and now_s - since >= ABSENT_S}
    alive = tuple(sorted((known - seen.leaving) - gone))
    barren = 0.0 if seen.canary_ids else rollout.barren or now_s
    kept = {one: since for one, since in missing.items() if one not in gone}
    update = {"alive": alive, "missing": kept, "lost": rollout.lost + len(gone), "barren": barren}
    return rollout if _same(rollout, update) else rollout.model_copy(update=update)


def _same(rollout: Rollout, update: Mapping[str, object]) -> bool:
    return all(getattr(rollout, name) == value for name, value in update.items())


def _judged(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    if seen.proof == "" and rollout.phase is not Phase.PREPARING:
        rollout = rollout.model_copy(update={"probed": now_s})
    if seen.look is None:
        return rollout
    if rollout.analysis is None:
        if isinstance(seen.look, Missing):
            return rollout.model_copy(update={"looked": now_s, "said": f"holds: no metrics ({seen.look.why})"})
        state = begin(rollout.plan, seen.look)
    else:
        state = advance(rollout.plan, rollout.analysis, seen.look)
    return rollout.model_copy(update={"analysis": state, "looked": now_s})


def _sick(rollout: Rollout, seen: Seen, now_s: float) -> str:
    """Why it has to go back at once, "" if it has not to."""
    if rollout.serves is Serves.STABLE or not seen.stable_serves:
        return ""
    if rollout.barren and now_s - rollout.barren >= ABSENT_S:
        return f"no instance of {rollout.canary} serves any more"
    if rollout.lost >= MOST_LOST:
        return f"{rollout.canary} has lost {rollout.lost} instances since the rollout began"
    if seen.proof:
        return f"a probe of {rollout.canary} fails: {seen.proof}"
    judged = rollout.judged()
    return judged.sentence if judged and judged.verdict is Verdict.FAIL else ""


def _prepare(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    late = now_s - rollout.since >= PREPARE_S
    if not seen.canary_ids:
        waits = f"waits for an instance of {rollout.canary}"
        return _late(rollout, now_s, f"no instance of {rollout.canary} was ready in time", late=late, waits=waits)
    if not seen.stable_serves and seen.breaches is None:
        stable = rollout.stable
        waits = f"waits for an instance of {stable} to compare {rollout.canary} with; start one, or abort"
        return _late(rollout, now_s, f"no instance of {stable} served, to compare with", late=late, waits=waits)
    if seen.breaches:
        listed = "; ".join(seen.breaches)
        said = f"{rollout.canary} breaks what {rollout.stable} promises: {listed}"
        return moved(
            rollout, Phase.FAILED, now_s, f"{said}. Mend it, or start again with --waive and what stands in brackets"
        )
    if seen.breaches is None or seen.proof is None:
        waits = seen.problem or f"compares what {rollout.canary} offers with {rollout.stable}, and probes it"
        problem = f"contract and probes could not be asked in time ({seen.problem})"
        return _late(rollout, now_s, problem, late=late, waits=waits)
    if seen.proof:
        return _late(rollout, now_s, seen.proof, late=late, waits=f"a probe of {rollout.canary} fails: {seen.proof}")
    if idle := _idle(rollout, seen):
        return moved(rollout, Phase.FAILED, now_s, idle)
    tools = _judged_singly(rollout, seen.tools)
    ready = rollout.model_copy(update={"tools": tools, "read_only": seen.read_only, "probed": now_s})
    return onward(ready, now_s, f"{rollout.canary} {_kept(seen)} and its probes work")


def _idle(rollout: Rollout, seen: Seen) -> str:
    """Which step would give the canary nothing, "" for none."""
    for number, step in enumerate(rollout.steps, 1):
        tools, kind = (seen.read_only, "read-only tool") if step.mirror else (seen.tools, "tool")
        if not (step.tools or step.mirror) or any(allows(step.tools or ("*",), tool) for tool in tools):
            continue
        which = f"that {', '.join(step.tools)} matches" if step.tools else "to copy calls of"
        shown = f"both versions have {', '.join(tools[:MOST_NAMED]) or 'none'}{' …' if len(tools) > MOST_NAMED else ''}"
        return f"step {number} ({step_said(step)}): {rollout.service} has no {kind} {which}; {shown}. Mend the step"
    return ""


def _judged_singly(rollout: Rollout, tools: tuple[str, ...]) -> tuple[str, ...]:
    """Of very many tools first those that a step is about."""
    globs = {glob for step in rollout.steps for glob in step.tools}
    return tuple(sorted(tools, key=lambda tool: not allows(globs, tool))[:MOST_TOOLS])


def _kept(seen: Seen) -> str:
    notes = [f"waived: {'; '.join(seen.excused)}"] if seen.excused else []
    notes += [f"waivers without a breach: {', '.join(seen.unused)}"] if seen.unused else []
    return f"keeps the contract ({'; '.join(notes)})" if notes else "keeps the contract"


def _late(rollout: Rollout, now_s: float, problem: str, *, late: bool, waits: str) -> Rollout:
    if late:
        return moved(rollout, Phase.FAILED, now_s, f"gave up before any traffic: {problem}")
    return _saying(rollout, waits)


def _saying(rollout: Rollout, said: str) -> Rollout:
    return rollout if rollout.said == said else rollout.model_copy(update={"said": said})


def _shift(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    if not seen.waiting_for:
        return moved(rollout, Phase.BAKING, now_s, f"{share_said(rollout)}, on every gate", step_since=now_s)
    if now_s - rollout.since >= IN_FORCE_S:
        gates = ", ".join(seen.waiting_for)
        return ask(rollout, now_s, f"gate {gates} has not taken the step up; go on without it?")
    return _waiting(rollout, seen)


def _bake(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    step = rollout.present_step
    if step is None:
        return onward(rollout, now_s, "its step is not there any more")
    stayed_s = now_s - rollout.step_since
    if not step.analysis:
        said = f"{share_said(rollout)}; the step lasts {step.bake_s} s"
        done = stayed_s >= step.bake_s
        return onward(rollout, now_s, f"{step_said(step)} for {step.bake_s} s") if done else _saying(rollout, said)
    verdict, why = _verdict(rollout)
    if verdict is Verdict.PASS and stayed_s >= step.bake_s:
        return onward(rollout, now_s, why)
    if verdict is not Verdict.PASS and stayed_s >= step.deadline_s:
        return _undecided(rollout, seen, now_s, verdict, why)
    # Said at looks only: in between nothing is new, and each word is a write.
    if seen.look is None:
        return rollout
    alone = "" if seen.stable_serves else f"; {rollout.stable} has no instance, so that others take its calls"
    return _saying(rollout, f"{share_said(rollout)}: {why}{alone}")


def _verdict(rollout: Rollout) -> tuple[Verdict, str]:
    """The verdict a step needs; where no margin is asked, that nothing has failed in a few calls is a pass."""
    step, judged = rollout.present_step, rollout.judged()
    if judged is None:
        return Verdict.ERROR, rollout.said
    if judged.verdict in (Verdict.FAIL, Verdict.ERROR):
        return judged.verdict, judged.sentence
    if step is None or step.margin is not None:
        return _measured(judged)
    calls = _canary_calls(rollout)
    if calls < FEW_CALLS:
        few = f"{calls} calls to {rollout.canary} so far, {FEW_CALLS} are needed"
        return Verdict.INCONCLUSIVE, f"{few}, or else its probes decide in the end"
    return Verdict.PASS, f"nothing failed in {calls:,} calls to {rollout.canary}"


def _measured(judged: Judgement) -> tuple[Verdict, str]:
    """A step for some tools has checks that hold nothing, of which a seldom one must not: one of them has to pass."""
    counted = [one for one in judged.findings if one.evidence and not one.dry_run]
    if not counted or any(one.holds or one.verdict is Verdict.PASS for one in counted):
        return judged.verdict, judged.sentence
    return Verdict.INCONCLUSIVE, max(counted, key=_calls_of).sentence


def _calls_of(finding: Finding) -> int:
    return finding.evidence.calls.canary.calls if finding.evidence else 0


def _canary_calls(rollout: Rollout) -> int:
    checks = rollout.analysis.checks if rollout.analysis else {}
    # Our own probes are answers as well, and no calls of a client.
    states = (state for name, state in checks.items() if name != "http_5xx")
    return max((state.record.total.canary.calls for state in states if isinstance(state, RateState)), default=0)


def _overdue(rollout: Rollout, now_s: float) -> bool:
    step = rollout.present_step
    if rollout.phase is not Phase.BAKING or step is None or now_s - rollout.step_since < step.deadline_s:
        return False
    return _verdict(rollout)[0] is Verdict.INCONCLUSIVE


def _undecided(rollout: Rollout, seen: Seen, now_s: float, verdict: Verdict, why: str) -> Rollout:
    """Too few calls, or no metrics, up to the deadline: probe, then ask."""
    step = rollout.present_step
    if verdict is Verdict.ERROR:
        return ask(rollout, now_s, f"there are no metrics to judge by ({why}); go on without?")
    if seen.proof is None:
        late_s = now_s - rollout.step_since - (step.deadline_s if step else 0)
        asked = f"no verdict in time ({why}), and its probes could not be asked {seen.problem}".rstrip()
        return rollout if late_s < PROVE_EVERY_S else ask(rollout, now_s, f"{asked}; go on?")
    if step is not None and step.margin is None:
        return onward(rollout, now_s, f"too few calls for a verdict, but the probes of {rollout.canary} work")
    return ask(rollout, now_s, f"no verdict in time ({why}), though its probes work; go on?")


def _wait(rollout: Rollout, now_s: float) -> Rollout:
    if now_s - rollout.since < ASK_S:
        return rollout
    why = "nobody agreed" if rollout.phase is Phase.ASKING else "it was paused, and nobody resumed it"
    said = f"{why} within {ASK_S / 3600:.0f} h"
    if rollout.serves is Serves.STABLE:
        return moved(rollout, Phase.FAILED, now_s, f"gave up before any traffic: {said}")
    return rolled_back(rollout, now_s, said)


def _promote(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    if not seen.waiting_for:
        kept_s = rollout.delivery.keep_warm_s
        if not kept_s or rollout.delivery.strategy is Strategy.IMMEDIATE:
            return _succeeded(rollout, now_s)
        said = f"{rollout.canary} gets everything, on every gate; {rollout.stable} is kept warm for {kept_s} s"
        return moved(rollout, Phase.WARM, now_s, said, step_since=now_s)
    if now_s - rollout.since >= IN_FORCE_S:
        return ask(rollout, now_s, f"gate {', '.join(seen.waiting_for)} has not taken it up; end without it?")
    return _waiting(rollout, seen)


def _keep_warm(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    if now_s - rollout.since >= rollout.delivery.keep_warm_s:
        return _succeeded(rollout, now_s)
    if not seen.stable_serves:
        return _saying(rollout, f"{rollout.canary} gets everything; {rollout.stable} does not serve: no way back to it")
    return rollout


def _succeeded(rollout: Rollout, now_s: float) -> Rollout:
    said = f"{rollout.canary} is stable; {rollout.stable} gets nothing and may be stopped"
    return moved(rollout, Phase.SUCCEEDED, now_s, said, waits_for=None)


def stuck(rollout: Rollout, why: str) -> Rollout:
    """The rollout, saying that its turn cannot be taken; the next turn that can takes it back."""
    return _saying(rollout, f"{_began_with(rollout)}; {_STUCK}: {why}")


_STUCK = "but it cannot go on"


def _unstuck(rollout: Rollout) -> Rollout:
    return _saying(rollout, _began_with(rollout)) if _STUCK in rollout.said else rollout


def _waiting(rollout: Rollout, seen: Seen) -> Rollout:
    """Still what its phase began with, and who holds it up."""
    return _saying(rollout, f"{_began_with(rollout)}; waits for gate {', '.join(seen.waiting_for)}")


def _began_with(rollout: Rollout) -> str:
    return rollout.events[-1].said if rollout.events else rollout.said


def _roll_back(rollout: Rollout, seen: Seen, now_s: float) -> Rollout:
    why = _began_with(rollout)
    if not seen.waiting_for:
        back = "keeps its handles" if rollout.drain else "is closed"
        nobody = "" if seen.stable_serves else ", but has no instance: others take its calls until one is started"
        said = f"{why}; {rollout.stable} gets everything on every gate{nobody}, {rollout.canary} {back}"
        return moved(rollout, Phase.ROLLED_BACK, now_s, said, waits_for=None)
    if now_s - rollout.since >= IN_FORCE_S:
        gates = ", ".join(seen.waiting_for)
        said = f"{why}; but gate {gates} has not taken it up: see `tekup gates list`"
        return moved(rollout, Phase.FAILED, now_s, said, waits_for=None)
    return _waiting(rollout, seen)


@dataclass(frozen=True)
class Explained:
    """Why a rollout is where it is.

    Attributes:
        sentence: In one sentence.
        health: For people in a hurry.
        until_s: Seconds until the phase must be left; None where nothing more happens by itself.
    """

    sentence: str
    health: str
    until_s: float | None
    judgement: Judgement | None = field(default=None, compare=False)


def explain(rollout: Rollout, now_s: float) -> Explained:
    """Say why a rollout is where it is."""
    limit_s = _limit_s(rollout)
    left_s = None if limit_s is None else max(0.0, rollout.since + limit_s - now_s)
    return Explained(rollout.said, rollout.phase.health, left_s, rollout.judged())


def _limit_s(rollout: Rollout) -> float | None:
    step = rollout.present_step
    match rollout.phase:
        case Phase.PREPARING:
            return PREPARE_S
        case Phase.SHIFTING | Phase.PROMOTING | Phase.ROLLING_BACK:
            return IN_FORCE_S
        case Phase.BAKING:
            return float(step.deadline_s if step and step.analysis else step.bake_s if step else 0)
        case Phase.ASKING | Phase.PAUSED:
            return ASK_S
        case Phase.WARM:
            return float(rollout.delivery.keep_warm_s)
        case _:
            return None
