"""The verbs on alert rules: checked before they are written, and live when every Prometheus has loaded them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from control_plane import tools
from control_plane.alert_rules import AlertRule, RuleGroup, fired, health_in
from control_plane.desired import Documents
from control_plane.errors import Conflict, Refused, Unavailable
from control_plane.model import Change, Table
from control_plane.outcome import Outcome, Wish
from control_plane.page import Page, found
from control_plane.ports import Metrics
from control_plane.state import CarryOut

LIVE_WITHIN_S = 10.0
LOOK_S = 0.25
TOOL_S = 20.0
DAY_S = 86_400.0
STEP_S = 60.0
TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Loaded:
    """How one Prometheus has a group; see :func:`control_plane.alert_rules.health_in`."""

    prometheus: str
    health: str
    why: str = ""


@dataclass(frozen=True)
class Fired:
    """How often an alert would have fired, and for how long."""

    alert: str
    times: int
    firing_s: float


class Promtool:
    """Prometheus's own parser, as a program.

    Args:
        program: Where it lies.
    """

    def __init__(self, program: Path) -> None:
        self._program = program

    async def problem_of(self, group: RuleGroup) -> str:
        """What is wrong with a group or its tests, in the program's own words; "" if nothing is.

        Raises:
            Unavailable: The program cannot be run.
        """
        with tempfile.TemporaryDirectory(prefix="tekup-rules-") as name:
            folder = Path(name)
            (folder / "rules.yml").write_text(group.rendered(marked=False), "utf-8")
            (folder / "tests.yml").write_text(group.rendered_tests("rules.yml"), "utf-8")
            problem = await self._run(folder, "check", "rules", "rules.yml")
            return problem or (await self._run(folder, "test", "rules", "tests.yml") if group.tests else "")

    async def _run(self, folder: Path, *arguments: str) -> str:
        said = await tools.run(self._program, *arguments, hint="see MCP_PROMTOOL", within_s=TOOL_S, folder=folder)
        lines = [line.strip() for line in said.all.splitlines()]
        return "\n".join(line for line in lines if line and "SUCCESS" not in line) if said.code else ""


@dataclass(frozen=True)
class Sources:
    """Whom alert rules are asked of.

    Attributes:
        promtool: Checks them; None: the parser of the first Prometheus checks each expression, and there are no tests.
        metrics: That Prometheus.
        prometheus: Every Prometheus that has to load them, by URL.
    """

    promtool: Promtool | None = None
    metrics: Metrics | None = None
    prometheus: tuple[str, ...] = ()


@dataclass
class Rules:
    """The rules of operators.

    Args:
        carry_out: Makes a change.
        sources: Whom they are asked of.
    """

    carry_out: CarryOut
    sources: Sources = field(default_factory=Sources)

    def asks(self, sources: Sources) -> Self:
        """Ask these from now on."""
        self.sources = sources
        return self

    async def refuse_broken(self, changes: Sequence[Change]) -> None:
        """Refuse groups among changed documents that Prometheus would not load, or whose tests fail.

        Raises:
            Refused: Naming the group and what is wrong with it.
            Unavailable: Nobody can tell.
        """
        for change in changes:
            if change.key.startswith(Table.RULES.prefix) and change.after is not None:
                group = RuleGroup.parse(change.after, change.key)
                if problem := await self.problem_of(group):
                    raise Refused(f"alert rules {group.name}: {problem}")

    async def problem_of(self, group: RuleGroup) -> str:
        """What is wrong with a group, "" if nothing is.

        Raises:
            Unavailable: Nobody can tell.
        """
        if self.sources.promtool:
            return await self.sources.promtool.problem_of(group)
        if self.sources.metrics is None:
            raise Refused(
                "alert rules cannot be checked: this control plane knows neither promtool (MCP_PROMTOOL) nor a"
                " Prometheus (MCP_PROMETHEUS_URL)"
            )
        if group.tests:
            return (
                "its tests need promtool, which this control plane has not; name it by MCP_PROMTOOL, or leave them out"
            )
        for rule in group.rules:
            if problem := await self.sources.metrics.problem_of(rule.expr):
                return f"{rule.alert}: {problem}"
        return ""

    async def put(self, group: RuleGroup, wish: Wish, *, add: bool) -> Outcome:
        """Make a group what is wanted; `add`: only where there is none of its name that differs."""

        def change(page: Page) -> Documents:
            there = page.find(Table.RULES, group.name, RuleGroup)
            if add and there not in (None, group):
                raise Conflict(f"alert rules {group.name} exist and are others; replace them with --replace")
            return {(Table.RULES, group.name): group}

        return await self.carry_out("rules.set", wish, change, rights=False)

    async def remove(self, name: str, wish: Wish) -> Outcome:
        """Remove a group."""

        def change(page: Page) -> Documents:
            found(page.find(Table.RULES, name, RuleGroup), f"alert rules {name}")
            return {(Table.RULES, name): None}

        return await self.carry_out("rules.remove", wish, change, rights=False)

    async def loaded(self, groups: Sequence[RuleGroup]) -> Mapping[str, tuple[Loaded, ...]]:
        """How each Prometheus has each of some groups."""
        answers = await asyncio.gather(*(self._rules_of(url) for url in self.sources.prometheus))
        seen = list(zip(self.sources.prometheus, answers, strict=True))
        return {group.name: tuple(_loaded(group, url, answer) for url, answer in seen) for group in groups}

    async def _rules_of(self, url: str) -> Mapping[str, Any] | str:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
                answer = (await http.get(f"{url.rstrip('/')}/api/v1/rules")).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            return str(error) or type(error).__name__
        data = answer.get("data") if isinstance(answer, dict) else None
        return data if isinstance(data, dict) else "it answered nonsense"

    async def until_live(self, group: RuleGroup, within_s: float = LIVE_WITHIN_S) -> tuple[Loaded, ...]:
        """Wait until every Prometheus has loaded a group, or time is up.

        Returns:
            How those have it that do not have it as it is.
        """
        end = time.monotonic() + within_s
        while True:
            lacking = tuple(one for one in (await self.loaded([group]))[group.name] if one.health != "live")
            if not lacking or time.monotonic() > end:
                return lacking
            await asyncio.sleep(LOOK_S)

    async def would_have_fired(self, group: RuleGroup, for_s: float = DAY_S) -> tuple[Fired, ...]:
        """How often each rule would have fired in the time before now, by the first Prometheus's memory.

        Raises:
            Refused: It does not understand an expression.
            Unavailable: It does not answer, or there is none.
        """
        if not self.sources.prometheus:
            raise Refused("there is no Prometheus to ask what was (MCP_PROMETHEUS_URL)")
        return tuple([await self._fired(rule, for_s) for rule in group.rules])

    async def _fired(self, rule: AlertRule, for_s: float) -> Fired:
        url, now = self.sources.prometheus[0].rstrip("/"), time.time()
        step_s = max(15.0, for_s * STEP_S / DAY_S)
        asked = {"query": rule.expr, "start": f"{now - for_s:.3f}", "end": f"{now:.3f}", "step": f"{step_s:g}"}
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S * 4, trust_env=False) as http:
                answer = (await http.post(f"{url}/api/v1/query_range", data=asked)).json()
            if answer.get("status") != "success":
                raise Refused(f"{rule.alert}: {answer.get('error', 'Prometheus does not understand it')}")
            found_series = {
                repr(one["metric"]): tuple(float(at) for at, _ in one["values"]) for one in answer["data"]["result"]
            }
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise Unavailable(f"Prometheus at {url} does not tell what was: {error or type(error).__name__}") from error
        times, firing_s = fired(rule, found_series, step_s)
        return Fired(rule.alert, times, firing_s)


def _loaded(group: RuleGroup, url: str, answer: Mapping[str, Any] | str) -> Loaded:
    if isinstance(answer, str):
        return Loaded(url, "not asked", answer)
    health, why = health_in(group, answer)
    return Loaded(url, health, why)
