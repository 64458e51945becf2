"""What the rollout routes take and give, as models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from control_plane.analysis import Evidence, Finding
from control_plane.api.bodies import Body, Done, Reason
from control_plane.course import explain
from control_plane.delivery import CustomCheck, Delivery, ProbeCall, Seconds, Step, Strategy, ToolName
from control_plane.loop import Outcome
from control_plane.model import Glob, Split, Version
from control_plane.review import Review
from control_plane.rollout import Event, Rollout, Serves, share_said, step_said
from control_plane.sequential import Count


class RolloutWish(Body):
    """A rollout to start; what is left out is as the service's delivery says."""

    version: Annotated[Version, Field(description="The version that should become stable.")]
    reason: Reason
    strategy: Strategy | None = None
    steps: tuple[Step, ...] | None = None
    split: Split | None = None
    approval: bool | None = None
    keep_warm_s: Seconds | None = None
    checks: tuple[CustomCheck, ...] | None = None
    probes: tuple[ProbeCall, ...] | None = None
    waive: Annotated[
        tuple[Glob, ...],
        Field(description="Breaches of the contract that do not count: SUBJECT or SUBJECT:KIND, globs."),
    ] = ()
    replace: Annotated[bool, Field(description="End a rollout of another version that is under way.")] = False
    expected_revision: Annotated[int | None, Field(description="Refuse if the revision is another by now.")] = None
    dry_run: Annotated[bool, Field(description="Say what would change, and write nothing.")] = False

    def changes(self) -> dict[str, object]:
        """What is otherwise than the service's delivery says."""
        own = {"version", "reason", "waive", "replace", "expected_revision", "dry_run"}
        return self.model_dump(mode="json", exclude=own, exclude_none=True)


class VerbWish(Body):
    """A verb on a rollout."""

    reason: Reason
    full: Annotated[bool, Field(description="promote: give the canary everything now.")] = False
    drain: Annotated[bool, Field(description="abort, undo: let the canary keep its handles.")] = False
    expected_revision: Annotated[int | None, Field(description="Refuse if the revision is another by now.")] = None
    dry_run: Annotated[bool, Field(description="Say what would change, and write nothing.")] = False


class CountShown(Body):
    """So many bad ones of so many calls."""

    bad: int
    calls: int

    @classmethod
    def of(cls, count: Count) -> CountShown:
        """From the analysis."""
        return cls(bad=count.bad, calls=count.calls)


class EvidenceShown(Body):
    """The figures behind a verdict."""

    stable: CountShown
    canary: CountShown
    ratio: Annotated[float, Field(description="Times stable's rate that the canary may have,")]
    tolerance: Annotated[float, Field(description="and this share of calls more.")]
    e_value: Annotated[float, Field(description='Highest evidence for "worse" so far.')]
    threshold: Annotated[float, Field(description="The evidence that fails.")]

    @classmethod
    def of(cls, found: Evidence) -> EvidenceShown:
        """From what the analysis found."""
        return cls(
            stable=CountShown.of(found.calls.stable),
            canary=CountShown.of(found.calls.canary),
            ratio=found.ratio,
            tolerance=found.tolerance,
            e_value=min(found.e_value, 1e300),  # JSON has no infinity
            threshold=found.threshold,
        )


class FindingShown(Body):
    """What one check comes to."""

    name: str
    verdict: str
    sentence: str
    dry_run: bool
    calls: Annotated[int | None, Field(description="Calls to the canary it has seen; null of a value of one's own.")]
    evidence: Annotated[EvidenceShown | None, Field(description="Null of a value of one's own.")] = None

    @classmethod
    def of(cls, found: Finding) -> FindingShown:
        """From what the analysis found."""
        return cls(
            name=found.name,
            verdict=found.verdict.value,
            sentence=found.sentence,
            dry_run=found.dry_run,
            calls=found.evidence.calls.canary.calls if found.evidence else None,
            evidence=EvidenceShown.of(found.evidence) if found.evidence else None,
        )


class StepShown(Body):
    """A step and where the rollout stands with it."""

    step: Step
    said: str
    state: Literal["done", "now", "ahead"]


class RolloutShown(Body):
    """A rollout, and why it is where it is."""

    service: str
    number: int
    stable: str
    canary: str
    strategy: Strategy
    phase: str
    health: Annotated[str, Field(description="Healthy, Progressing, Paused or Degraded.")]
    said: Annotated[str, Field(description="Why it is where it is, in one sentence.")]
    traffic: Annotated[str, Field(description="Who gets what, in a few words.")]
    until_s: Annotated[float | None, Field(description="Seconds until the phase must be left.")]
    ended: bool
    asked: str
    author: str
    reason: str
    began: float
    since: float
    step: int
    steps: tuple[StepShown, ...]
    findings: tuple[FindingShown, ...]
    events: tuple[Event, ...]

    @classmethod
    def of(cls, rollout: Rollout, now_s: float) -> RolloutShown:
        """From the document."""
        explained = explain(rollout, now_s)
        judged = explained.judgement
        return cls(
            **rollout.model_dump(include={"service", "number", "stable", "canary", "asked", "author", "reason",
                                          "began", "since", "step", "said"}),
            strategy=rollout.delivery.strategy,
            phase=rollout.phase.value,
            health=explained.health,
            traffic=share_said(rollout),
            until_s=explained.until_s,
            ended=rollout.phase.ended,
            steps=tuple(_step(rollout, number, step) for number, step in enumerate(rollout.steps)),
            findings=tuple(FindingShown.of(one) for one in (judged.findings if judged else ())),
            events=rollout.events,
        )  # fmt: skip


def _step(rollout: Rollout, number: int, step: Step) -> StepShown:
    over = rollout.phase.ended or number != rollout.step or rollout.serves is Serves.CANARY
    state: Literal["done", "now", "ahead"] = "now" if not over else "done" if number <= rollout.step else "ahead"
    return StepShown(step=step, said=step_said(step), state=state)


class Rollouts(Body):
    """Several rollouts."""

    rollouts: tuple[RolloutShown, ...]


class RolloutDone(Done):
    """What became of a verb, and the rollout after it."""

    rollout: RolloutShown

    @classmethod
    def after(cls, rollout: Rollout, outcome: Outcome, now_s: float) -> RolloutDone:
        """From what the engine says."""
        return cls(**Done.of(outcome).model_dump(), rollout=RolloutShown.of(rollout, now_s))


class LintWish(Body):
    """A delivery to look over; what is left out is as the service's own says."""

    strategy: Strategy | None = None
    steps: tuple[Step, ...] | None = None
    split: Split | None = None
    approval: bool | None = None


class Linted(Body):
    """What would be done, and what is to be said against it."""

    delivery: Delivery
    warnings: tuple[str, ...]


class ReviewWish(Body):
    """A stretch of the past to judge."""

    stable: Version
    canary: Version
    since_s: Annotated[float, Field(gt=0, le=30 * 86_400, description="Begins so many seconds ago,")]
    for_s: Annotated[float | None, Field(gt=0, description="and lasts so long; to now without.")] = None
    tools: Annotated[tuple[ToolName, ...], Field(max_length=20, description="Tools to judge one by one.")] = ()


class Reviewed(Body):
    """What the analysis would have said."""

    looks: int
    verdict: str
    said: str
    failed: Annotated[float | None, Field(description="When it would have failed, in seconds since the epoch.")]
    findings: tuple[FindingShown, ...]

    @classmethod
    def of(cls, found: Review) -> Reviewed:
        """From what the review found."""
        last = found.last
        shown = tuple(FindingShown.of(one) for one in last.findings)
        return cls(looks=found.looks, verdict=last.verdict.value, said=last.sentence, failed=found.failed_s,
                   findings=shown)  # fmt: skip
