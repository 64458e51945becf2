"""How new versions of a service are rolled out: the operator's wish, as one document per service. Pure values.

A rollout takes what it needs from it at its start, so a change meets the next rollout and not the running one.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from control_plane.checks import default_checks
from control_plane.model import ONE_LINE, Cohort, Document, Glob, Name, ServiceName, Split, Stored
from control_plane.sequential import MARGINS

Seconds = Annotated[int, Field(ge=0, le=30 * 86_400)]
PLACEHOLDERS = ("{{service}}", "{{stable}}", "{{canary}}")


def _known_placeholders(query: str) -> str:
    for found in re.findall(r"{{.*?}}", query, re.DOTALL):
        if found not in PLACEHOLDERS:
            raise ValueError(f"{found} stands for nothing; there are {', '.join(PLACEHOLDERS)}")
    return query


PromQL = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_known_placeholders)]
Bound = Annotated[float, Field(allow_inf_nan=False)]
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
MOST_STEPS = 50


def _known_margin(margin: float) -> float:
    if margin not in MARGINS:
        raise ValueError(f"must be one of {', '.join(map(str, MARGINS))}")
    return margin


Margin = Annotated[float, AfterValidator(_known_margin)]


class Strategy(StrEnum):
    """How the traffic of a service comes to a new version."""

    CANARY = "canary"
    BLUE_GREEN = "blue-green"
    IMMEDIATE = "immediate"


class Step(Document):
    """What the canary gets for a while, and what has to be true before the next step.

    Attributes:
        weight_pct: Share of the calls that match `tools` and `cohort`; of a mirror step, the canary gets copies of all.
        tools: Globs on tool names; none = every call.
        cohort: Clients of this cohort only; "" = every client.
        mirror: The canary gets copies of read-only calls, and nothing else; its answers are dropped.
        bake_s: Shortest stay, in seconds.
        verdict_s: How much longer than that a verdict may take; then the canary is probed, and then a person is asked.
        analysis: Whether the stay ends only with a verdict; a canary that fails is rolled back in any case.
        margin: A pass says: surely less than this share of calls worse. None: it is enough that nothing has failed.
        approval: A person has to agree before the next step.
    """

    weight_pct: Annotated[float, Field(ge=0, le=100)] = 0
    tools: tuple[Glob, ...] = ()
    cohort: Cohort = ""
    mirror: bool = False
    bake_s: Seconds = 60
    verdict_s: Seconds = 600
    analysis: bool = True
    margin: Margin | None = None
    approval: bool = False

    @property
    def deadline_s(self) -> int:
        """Longest stay without a verdict, in seconds."""
        return self.bake_s + self.verdict_s

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.mirror and self.weight_pct:
            raise ValueError("a mirror step has no weight: its canary gets copies only")
        if not self.mirror and not self.weight_pct:
            raise ValueError("weight_pct: a step gives the canary a share above 0, or mirrors")
        return self


class CustomCheck(Document):
    """A value of one's own that the canary is judged by.

    Attributes:
        name: Unique within the service.
        query: PromQL that gives one number; `{{service}}`, `{{stable}}` and `{{canary}}` stand for the names.
        low: Smallest value that is well; None = no bound.
        high: Greatest.
        failures: Readings in a row out of range that fail.
        dry_run: Judged and reported, and counts for nothing.
    """

    name: Name
    query: PromQL
    low: Bound | None = None
    high: Bound | None = None
    failures: Annotated[int, Field(ge=1, le=100)] = 3
    dry_run: bool = False

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("low or high: without a bound nothing can fail")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class ProbeCall(Document):
    """A tool call that has to work: through the gate, on every instance, and on a canary before its first call."""

    tool: ToolName
    arguments: dict[str, object] = Field(default_factory=dict)


BUILT_IN = tuple(check.name for check in default_checks())
DEFAULT_STEPS = (
    Step(weight_pct=1, bake_s=30, margin=None),
    Step(weight_pct=5, bake_s=60, margin=0.05),
    Step(weight_pct=20, bake_s=60, margin=0.02),
    Step(weight_pct=50, bake_s=60, margin=0.01),
)


class Delivery(Stored):
    """How new versions of a service are rolled out.

    Attributes:
        service: The service.
        strategy: Canary walks the steps; blue-green flips everything after the probes, and keeps the old side warm;
            immediate does the same without waiting for a verdict.
        steps: The canary's.
        split: Whether a lane is drawn for each request or for each client.
        approval: A person has to agree before the new version gets everything.
        keep_warm_s: How long after promotion the old version stays fit for a flip back in one step.
        checks: More than the built-in ones.
        probes: Instead of those the service itself declares.
        dry_run: Built-in checks that are judged and reported, and count for nothing.
    """

    service: ServiceName
    strategy: Strategy = Strategy.CANARY
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MOST_STEPS)] = DEFAULT_STEPS
    split: Split = "request"
    approval: bool = False
    keep_warm_s: Seconds = 300
    checks: tuple[CustomCheck, ...] = ()
    probes: tuple[ProbeCall, ...] = ()
    dry_run: tuple[Annotated[str, StringConstraints(pattern=ONE_LINE, max_length=128)], ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names):
            raise ValueError("checks: two have one name")
        if taken := sorted({*names} & {*BUILT_IN}):
            raise ValueError(f"checks: {taken[0]} is the name of a built-in check; choose another")
        return self

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        for name in self.dry_run:
            if name.partition(":")[0] not in BUILT_IN:
                raise ValueError(f"dry_run: no built-in check is named {name}; there are {', '.join(BUILT_IN)}")
        # Of a step for some tools the checks of these count, and where there are none, those of all calls.
        if {*BUILT_IN} <= {*self.dry_run} and all(check.dry_run for check in self.checks):
            raise ValueError("dry_run: no check is left that counts; leave one out, or use steps with analysis: false")
        return self

    @property
    def key(self) -> str:
        return self.service
