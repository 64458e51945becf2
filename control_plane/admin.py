"""What instances show on their admin ports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx
from pydantic import TypeAdapter, ValidationError

from control_plane.errors import Unavailable
from control_plane.model import Instance
from control_plane.shadow import Side

TIMEOUT_S = 2.0
_SIDES = TypeAdapter(tuple[Side, ...])


async def shadowed(http: httpx.AsyncClient, instances: Iterable[Instance]) -> tuple[tuple[Side, ...], tuple[str, ...]]:
    """What instances show of copied calls.

    Args:
        http: A client; no proxy may stand between.
        instances: Of the version whose calls are copied, of its mirror, or of both.

    Returns:
        All of it, and one sentence for each instance that did not answer or made no sense: what it knows is missing.
    """
    asked = sorted(instances)
    answers = await asyncio.gather(*(_sides(http, one) for one in asked), return_exceptions=True)
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


async def _sides(http: httpx.AsyncClient, one: Instance) -> tuple[Side, ...]:
    if not one.admin_port:
        raise Unavailable(f"{one.target} names no admin port; restart it on the present kit")
    url = f"http://{one.address}:{one.admin_port}/shadow"
    try:
        answer = await http.get(url, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return _SIDES.validate_json(answer.content)
    except (httpx.HTTPError, ValidationError) as error:
        raise Unavailable(f"{one.target} does not show copied calls at {url}: {type(error).__name__}") from error
