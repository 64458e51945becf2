"""What instances tell of themselves, asked through the gate: it alone leads to each of them, wherever they run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from control_plane.autoscale import Counters
from control_plane.errors import Unavailable
from control_plane.model import Instance
from control_plane.ports import Gateway
from control_plane.shadow import Side

LOAD: Final = "dev.tekup/load"
COPIES: Final = "dev.tekup/copies"
TIMEOUT_S: Final = 2.0
_COUNTERS = TypeAdapter(Counters)
_SIDES = TypeAdapter(tuple[Side, ...])


async def counted(gateway: Gateway, one: Instance) -> Counters | None:
    """What an instance has done in all; None where it does not tell."""
    try:
        return _COUNTERS.validate_python(await _told(gateway, one, LOAD))
    except (Unavailable, ValidationError):
        return None


async def shadowed(gateway: Gateway, instances: Iterable[Instance]) -> tuple[tuple[Side, ...], tuple[str, ...]]:
    """What instances know of copied calls.

    Args:
        gateway: Leads to them.
        instances: Of the version whose calls are copied, of its mirror, or of both.

    Returns:
        All of it, and one sentence for each instance that did not answer or made no sense: what it knows is missing.
    """
    asked = sorted(instances)
    answers = await asyncio.gather(*(_sides(gateway, one) for one in asked), return_exceptions=True)
    sides: list[Side] = []
    problems = []
    for answer in answers:
        if isinstance(answer, Unavailable):
            problems.append(str(answer))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            sides.extend(answer)
    return tuple(sides), tuple(problems)


async def _sides(gateway: Gateway, one: Instance) -> tuple[Side, ...]:
    try:
        return _SIDES.validate_python((await _told(gateway, one, COPIES)).get("sides"))
    except ValidationError as error:
        raise Unavailable(f"{one.target} does not tell of copied calls in a form that is known here") from error


async def _told(gateway: Gateway, one: Instance, method: str) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await gateway.told(one.service, one.target, method)
    except TimeoutError as error:
        raise Unavailable(f"{one.target} does not answer {method} within {TIMEOUT_S:g} s") from error
