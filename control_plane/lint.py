"""What is to be said against a way of rolling out, before it is used. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from control_plane.delivery import Delivery, Step, Strategy

BOLD_PCT = 5.0


def warnings(delivery: Delivery, cohorts: Collection[str] = ()) -> tuple[str, ...]:
    """Sentences for the operator; none is a reason to refuse.

    Args:
        delivery: How a rollout would go.
        cohorts: Those that a client is in.
    """
    if delivery.strategy is not Strategy.CANARY:
        return tuple(_warnings(delivery))
    empty = (
        f"step {number} is for cohort {step.cohort}, which no client is in: it gives the new version no calls"
        for number, step in enumerate(delivery.steps, 1)
        if step.cohort and step.cohort not in cohorts
    )
    return (*_warnings(delivery), *empty)


def _warnings(delivery: Delivery) -> Iterator[str]:
    if delivery.strategy is not Strategy.CANARY:
        yield f"{delivery.strategy} gives the new version everything at once: a fault meets every call until it is seen"
        return
    steps = delivery.steps
    first = next((step for step in steps if not step.mirror), None)
    if first and first.weight_pct > BOLD_PCT and not first.tools and not first.cohort:
        yield f"the first step gives {first.weight_pct:g} %: a version that is wholly broken fails so many of the calls"
    if not any(step.analysis for step in steps):
        yield "no step waits for a verdict: the canary is promoted by the clock alone, unless it fails"
    elif not any(step.margin for step in steps):
        yield "no step asks for a margin: it is enough that nothing has been proven against the canary"
    yield from (text for number, step in enumerate(steps) for text in _of_step(number, step, steps))


def _of_step(number: int, step: Step, steps: tuple[Step, ...]) -> Iterator[str]:
    name = f"step {number + 1}"
    before = steps[number - 1] if number else None
    if before and _comparable(before, step) and step.weight_pct <= before.weight_pct:
        yield f"{name} gives {step.weight_pct:g} %, no more than the step before it"
    if step.mirror and any(not one.mirror for one in steps[:number]):
        yield f"{name} copies calls only after a step has given the new version real ones"
    if step.analysis and step.weight_pct == 100 and not step.tools and not step.cohort:
        yield f"{name} gives 100 %: stable gets no calls any more that the canary could be compared with"


def _comparable(one: Step, other: Step) -> bool:
    return (one.tools, one.cohort, one.mirror) == (other.tools, other.cohort, other.mirror)
