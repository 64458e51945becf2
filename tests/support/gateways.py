"""A gateway in memory: targets that answer as they are told, for unit tests of what calls through the gate."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from control_plane.contract import Offer
from control_plane.errors import Unavailable
from control_plane.ports import Answered


@dataclass
class FakeGateway:
    """Answers for every target.

    Attributes:
        problems: Why calls to a target fail, by target; what is not here works.
        away: Whether no gate answers.
        hung: Targets that never answer.
        broken: Whether calls raise what no gateway should.
        tells: What a target tells, by target and method; it may raise. None: nothing.
        probes: What every service declares itself.
        tools: Names of the tools a target offers, all of them read-only.
        asked: Calls, by target and tool.
        at_once: The most calls that ran at one time.
    """

    problems: dict[str, str] = field(default_factory=dict)
    away: bool = False
    hung: set[str] = field(default_factory=set)
    broken: bool = False
    tells: Callable[[str, str], Mapping[str, Any]] | None = None
    probes: dict[str, dict[str, object]] = field(default_factory=lambda: {"notes_list": {}})
    tools: dict[str, tuple[str, ...]] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    offers: Counter[str] = field(default_factory=Counter)
    running: int = 0
    at_once: int = 0

    async def offer(self, service: str, target: str) -> Offer:
        """What the target offers."""
        self.offers[target] += 1
        if self.away:
            raise Unavailable("no gate answers")
        listed = {name: _read_only(name) for name in self.tools.get(target, ())}
        return Offer("1.0.0", frozenset({"2026-07-28"}), listed, probes=self.probes)

    async def told(self, service: str, target: str, method: str) -> Mapping[str, Any]:
        """What the target tells of itself."""
        if self.tells is None:
            raise Unavailable(f"{target} tells nothing")
        return self.tells(target, method)

    async def call(self, service: str, target: str, tool: str, arguments: Mapping[str, object]) -> Answered:
        """Call a tool of the target."""
        self.asked[target, tool] += 1
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        try:
            await asyncio.sleep(3600 if target in self.hung else 0.001)
        finally:
            self.running -= 1
        if self.broken:
            raise ValueError("a fault of ours")
        if self.away:
            raise Unavailable("no gate answers")
        return Answered("aaaaaa", "1.0.0", self.problems.get(target, ""), 0.001)


def _read_only(name: str) -> dict[str, object]:
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
