"""A metrics source in memory, which says what the test lets it say."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.checks import Plan
from control_plane.readings import Counts, Durations, Look, Missing, Reading
from control_plane.sequential import Count


class FakeMetrics:
    """Counts calls up at each look; of the canary's, the given shares go wrong."""

    def __init__(self, calls_per_look: int = 1000) -> None:
        self.bad: dict[str, float] = {}
        self.away = ""
        self.broken = False
        self.looks = 0
        self._step = calls_per_look
        self._calls = 0
        self._wrong: dict[str, int] = {}

    async def look(self, service: str, plan: Plan, custom: Mapping[str, str], at_s: float | None = None) -> Look:
        if self.broken:
            raise ValueError("a fault of ours")
        if self.away:
            return Missing(self.away)
        self.looks += 1
        self._calls += self._step
        for name, share in self.bad.items():
            self._wrong[name] = self._wrong.get(name, 0) + int(share * self._step)
        return {check.name: self._reading(check.name) for check in plan.checks}

    def _reading(self, name: str) -> Reading:
        calls = self._calls
        if name.startswith("latency"):
            return Durations((0.1, 0.5), (calls,) * 3, (calls,) * 3)
        return Counts(Count(0, calls), Count(self._wrong.get(name, 0), calls))

    async def problem_of(self, query: str) -> str:
        return "parse error: unexpected end of input" if query.count("(") != query.count(")") else ""
