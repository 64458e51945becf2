"""Prometheus as the source of what rollouts are judged by (docs/contracts.md, "Metrics").

One question a look: raw counters, never rates, of both versions at one moment. A counter of an instance that left or
was restarted (then it has a new name) stays in the sum for `_KEPT` more, so that sums do not go back with every change
of instances; when it leaves the sum, that costs one look.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Self

import httpx
from pydantic import BaseModel, ValidationError

from control_plane.checks import Plan, RateCheck
from control_plane.errors import Unavailable
from control_plane.model import version_target
from control_plane.readings import Look, Missing, Reading, Value
from control_plane.tallies import Sample, Sides, Tallies

TIMEOUT_S = 3.0
STALE_SCRAPES = 3
"""Samples older than so many scrape intervals say nothing about now."""
_KEPT = "15m"
# Names of the metrics, and of the labels asked for: docs/contracts.md.
_OF_INSTANCES = "tekup_tool_calls_total|tekup_tool_seconds_bucket"
_OF_GATES = "traefik_service_requests_total|traefik_router_requests_total"
_PLACEHOLDER = re.compile(r"\{\{(service|stable|canary)\}\}")


class _Series(BaseModel):
    """One element of a vector: labels, and (evaluated at, value)."""

    metric: dict[str, str]
    value: tuple[float, str]


class _Vector(BaseModel):
    """A vector, or a scalar as the same pair."""

    resultType: str
    result: list[_Series] | tuple[float, str]


class _Answer(BaseModel):
    """What the API answers to a query."""

    status: str
    error: str = ""
    data: _Vector | None = None


class Prometheus:
    """One Prometheus; implements :class:`control_plane.ports.Metrics`.

    Args:
        url: Its base URL.
        scrape_s: How often it scrapes, in seconds.
    """

    def __init__(self, url: str, *, scrape_s: float = 5.0) -> None:
        self._url = url
        self._stale_s = STALE_SCRAPES * scrape_s
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def look(self, service: str, plan: Plan, custom: Mapping[str, str], at_s: float | None = None) -> Look:
        """See :meth:`control_plane.ports.Metrics.look`; takes `TIMEOUT_S` at most."""
        sides = Sides(plan.stable, plan.canary, *(version_target(service, one) for one in (plan.stable, plan.canary)))
        async with asyncio.TaskGroup() as tasks:
            counted = tasks.create_task(self._samples_or_why(question(service, sides), at_s))
            values = {
                name: tasks.create_task(self._value(service, plan, query, at_s)) for name, query in custom.items()
            }
        samples = counted.result()
        readings: dict[str, Reading] = {name: task.result() for name, task in values.items()}
        if isinstance(samples, Missing):
            return samples if not custom else readings | dict.fromkeys(_rates(plan), samples)
        tallies = Tallies(samples, sides, self._stale_s)
        return readings | {name: tallies.reading(name) for name in _rates(plan)}

    async def problem_of(self, query: str) -> str:
        """See :meth:`control_plane.ports.Metrics.problem_of`; its own parser answers, nothing is evaluated."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._http.post("/api/v1/format_query", data={"query": _filled(query, "s", "0", "1")})
            return _Answer.model_validate(answer.json() | {"data": None}).error
        except (httpx.HTTPError, TimeoutError, ValueError, TypeError) as error:
            raise Unavailable(_away(self._url, error)) from error

    async def _value(self, service: str, plan: Plan, query: str, at_s: float | None) -> Value | Missing:
        samples = await self._samples_or_why(_filled(query, service, plan.stable, plan.canary), at_s)
        if isinstance(samples, Missing):
            return samples
        if len(samples) != 1:
            return Missing(f"the query gave {len(samples) or 'no'} values; it must give one")
        return Value(samples[0].value) if samples[0].is_number else Missing("the query gave no number (NaN)")

    async def _samples_or_why(self, query: str, at_s: float | None) -> list[Sample] | Missing:
        asked = {"query": query} | ({} if at_s is None else {"time": f"{at_s:.3f}"})
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._http.post("/api/v1/query", data=asked)
            said = _Answer.model_validate_json(answer.content)
        except ValidationError:
            return Missing(f"Prometheus at {self._url} answered with nonsense; is it one?")
        except (httpx.HTTPError, TimeoutError) as error:
            return Missing(_away(self._url, error))
        if said.data is None:
            return Missing(f"Prometheus at {self._url} refused the query: {said.error}")
        return _samples(said.data)


def question(service: str, sides: Sides) -> str:
    """What a look asks: counters of instances and gates, and when each side and the gates were scraped last."""
    versions = "|".join(re.escape(version) for version in (sides.stable, sides.canary))
    whose = f"service={_quoted(service)},version=~{_quoted(versions)}"
    targets = "|".join(re.escape(target) for target in (sides.stable_target, sides.canary_target))
    carried = f"service=~{_quoted(f'({targets})(_[0-9a-f]{{6}})?([.]lb)?@file')}"
    return " or ".join(
        (
            f"sum by (__name__, version, tool, outcome, le) "
            f'(last_over_time({{__name__=~"{_OF_INSTANCES}",{whose}}}[{_KEPT}]))',
            f"sum by (__name__, instance, service, code) "
            f'(last_over_time({{__name__=~"{_OF_GATES}",{carried}}}[{_KEPT}]))',
            f"max by (version) (timestamp(tekup_instance_info{{{whose}}}))",
            "max by (job) (timestamp(traefik_config_reloads_total))",
        )
    )


def _rates(plan: Plan) -> tuple[str, ...]:
    return tuple(check.name for check in plan.checks if isinstance(check, RateCheck))


def _filled(query: str, service: str, stable: str, canary: str) -> str:
    values = {"service": service, "stable": stable, "canary": canary}
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], query)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _samples(data: _Vector) -> list[Sample]:
    if isinstance(data.result, tuple):
        at, value = data.result
        return [Sample({}, at, float(value))] if data.resultType == "scalar" else []
    return [Sample(series.metric, series.value[0], float(series.value[1])) for series in data.result]


def _away(url: str, error: Exception) -> str:
    why = (
        f"no answer within {TIMEOUT_S:g} s" if isinstance(error, TimeoutError | httpx.TimeoutException) else str(error)
    )
    return f"Prometheus at {url} cannot be asked: {why or type(error).__name__}"
