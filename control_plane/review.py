"""What the analysis would have said of two versions in the past, look by look: to try checks before they count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.analysis import Judgement, Verdict, replay
from control_plane.checks import Plan
from control_plane.course import LOOK_EVERY_S
from control_plane.errors import Refused
from control_plane.ports import Metrics
from control_plane.readings import Look, Missing

MOST_LOOKS = 1_000


@dataclass(frozen=True)
class Span:
    """A stretch of the past, in seconds since the epoch."""

    from_s: float
    until_s: float

    @property
    def looks(self) -> int:
        """How many looks it holds, its first moment among them."""
        return int((self.until_s - self.from_s) / LOOK_EVERY_S) + 1


@dataclass(frozen=True)
class Review:
    """What would have been said.

    Attributes:
        looks: Moments looked at.
        last: The judgement at the end.
        failed_s: When it would first have failed, in seconds since the epoch; None for never.
    """

    looks: int
    last: Judgement
    failed_s: float | None


async def review(metrics: Metrics, service: str, plan: Plan, custom: dict[str, str], span: Span) -> Review:
    """Judge the past.

    Args:
        metrics: Where it is kept.
        service: The service.
        plan: Versions and checks.
        custom: PromQL of its range checks, by name.
        span: When; its first look is what later ones count from.

    Raises:
        Refused: The span is empty or longer than `MOST_LOOKS` looks.
    """
    if not 2 <= span.looks <= MOST_LOOKS:
        limit_s = MOST_LOOKS * LOOK_EVERY_S
        raise Refused(f"review of {service}: the time must span {LOOK_EVERY_S:g} to {limit_s:g} seconds of the past")
    moments = [span.from_s + number * LOOK_EVERY_S for number in range(span.looks)]
    looks = [await metrics.look(service, plan, custom, at_s) for at_s in moments]
    return _judged(plan, moments, looks)


def _judged(plan: Plan, moments: Sequence[float], looks: Sequence[Look]) -> Review:
    baseline = None if isinstance(looks[0], Missing) else looks[0]
    said = list(replay(plan, looks[1:], baseline))
    failed = (at_s for at_s, one in zip(moments[1:], said, strict=True) if one.verdict is Verdict.FAIL)
    return Review(len(looks), said[-1], next(failed, None))
