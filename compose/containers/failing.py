"""Which containers live and fail for too long: they are restarted, less and less often while that does not help. Pure.

A crash is the engine's own business (`restart: unless-stopped`, with a pause that doubles).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from compose.containers.narrow import Container

__all__ = ["Failing"]

MOST_PAUSE_S = 600.0
WELL_S = 600.0
START_S = 600.0
"""Who has never been well since its start is given so long."""
"""Whoever was well for so long begins anew."""
NOT_MINE = frozenset({"keeper"})


@dataclass
class _Known:
    was_well: bool = False
    well_s: float = 0.0
    """When it was last seen well."""
    restarted: int = 0
    restarted_s: float = 0.0


class Failing:
    """Remembers who was well, and when.

    Args:
        failing_s: How long a container may fail; 0: for ever.
    """

    def __init__(self, failing_s: float) -> None:
        self._failing_s = failing_s
        self._known: dict[str, _Known] = {}

    def due(
        self, containers: Sequence[Container], passing: Mapping[str, bool], leaving: frozenset[str], now_s: float
    ) -> Iterator[Container]:
        """Those to restart now.

        Args:
            containers: All there are.
            passing: Whether the instance at each address passes its checks, where that is known.
            leaving: Who is being stopped.
            now_s: Now, by a clock that goes on.
        """
        self._known = {one.id: self._known.get(one.id) or _Known(well_s=now_s) for one in containers}
        for one in containers:
            known = self._known[one.id]
            if not self._failing_s or one.state != "running" or one.id in leaving or one.kind in NOT_MINE:
                known.well_s = now_s
                continue
            told = [passing[address] for address in one.addresses if address in passing]
            if one.healthy and all(told):
                known.was_well, known.well_s = True, now_s
                known.restarted = 0 if now_s - known.restarted_s > WELL_S else known.restarted
            elif not one.unhealthy and all(told):
                known.well_s = now_s  # it begins, or has no check of its own
            elif now_s - known.well_s >= self._patience_s(known):
                known.restarted, known.restarted_s, known.well_s = known.restarted + 1, now_s, now_s
                known.was_well = False
                yield one

    def _patience_s(self, known: _Known) -> float:
        """Who was not well yet may still be starting: on a busy machine a restart would only make that longer."""
        if not known.was_well:
            return max(START_S, self._failing_s)
        return min(self._failing_s * 2.0 ** min(known.restarted, 16), max(MOST_PAUSE_S, self._failing_s))
