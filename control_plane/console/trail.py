"""How the counts of running rollouts came about: a point per look, kept in memory for the pictures of the console.

A rollout's document holds the counts of now alone. Each replica keeps its own trail; one that has just started shows
the time since.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from control_plane.analysis import RateState
from control_plane.console.plot import Point
from control_plane.errors import Refused
from control_plane.kept import ROLLOUTS_PREFIX
from control_plane.ports import Store
from control_plane.rollout import Rollout
from control_plane.watch import WATCH_S, follow

MOST_POINTS = 240
"""Of a check; with more, every second one is let go."""


class Trail:
    """Follows rollouts.

    Args:
        store: Where they lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._points: dict[str, tuple[int, dict[str, list[Point]]]] = {}

    async def run(self) -> None:
        """Follow for ever."""
        await follow(self._read, "trail of rollouts")

    def of(self, service: str, number: int) -> Mapping[str, list[Point]]:
        """The points of a rollout, by check; none of another than the last."""
        held = self._points.get(service)
        return held[1] if held and held[0] == number else {}

    async def _read(self, after: int) -> int:
        listing = await self._store.read(ROLLOUTS_PREFIX, after=after, wait_s=WATCH_S)
        for name, entry in listing.entries.items():
            with contextlib.suppress(Refused):
                self.heard(Rollout.parse(entry.value, f"rollout {name}"))
        for gone in self._points.keys() - listing.entries.keys():
            del self._points[gone]
        return listing.index

    def heard(self, rollout: Rollout) -> None:
        """Note what a rollout has counted; checks of single tools are left out."""
        number, points = self._points.get(rollout.service, (0, {}))
        points = points if number == rollout.number else {}
        self._points[rollout.service] = (rollout.number, points)
        for name, state in (rollout.analysis.checks if rollout.analysis else {}).items():
            if ":" in name or not isinstance(state, RateState):
                continue
            total, mine = state.record.total, points.setdefault(name, [])
            if mine and mine[-1].at >= rollout.looked:
                continue
            counts = (total.stable.bad, total.stable.calls, total.canary.bad, total.canary.calls)
            mine.append(Point(rollout.looked, *counts))
            if len(mine) > MOST_POINTS:
                del mine[1:-1:2]
