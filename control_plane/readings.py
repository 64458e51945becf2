"""What the metrics source said at one look, parsed into values, and what came anew since the look before.

Counts grow from one fixed moment on, so a look that is missing costs nothing: the next one covers its time, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.sequential import Block, Count

_P95 = 0.95
_NEVER_SLOW_S = 0.025
"""Below it a call is quick, whatever others take: a canary is not sent back for milliseconds nobody feels."""


@dataclass(frozen=True)
class Missing:
    """Nothing usable: the source was away, stale, or had no such series; says which."""

    why: str


@dataclass(frozen=True)
class Value:
    """What a custom query gave."""

    value: float


@dataclass(frozen=True)
class Counts:
    """Bad calls of all calls on both sides; they only grow."""

    stable: Count
    canary: Count


@dataclass(frozen=True)
class Durations:
    """Histograms of both sides, with the same edges; they only grow.

    Attributes:
        edges_s: Upper edges of the buckets in seconds, rising, without the infinite one.
        stable: Calls up to each edge, then all calls.
        canary: The same.

    Raises:
        ValueError: Edges or counts do not rise, or their numbers do not fit.
    """

    edges_s: tuple[float, ...]
    stable: tuple[int, ...]
    canary: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.edges_s or any(not low < high for low, high in zip(self.edges_s, self.edges_s[1:], strict=False)):
            raise ValueError(f"edges of a histogram must rise: {self.edges_s}")
        for side in (self.stable, self.canary):
            if len(side) != len(self.edges_s) + 1:
                raise ValueError(f"a histogram of {len(self.edges_s)} edges has one count more, not {len(side)}")
            for below, above in zip((0, *side), side, strict=False):
                Count(below, above)

    def edge_above_p95(self) -> int | None:
        """Number of the first edge of 25 ms or more that at most 5 % of stable's calls are above, else the last.

        None without calls.
        """
        if not self.stable[-1]:
            return None
        wanted = _P95 * self.stable[-1]
        pairs = zip(self.edges_s, self.stable, strict=False)
        enough = (number for number, (edge_s, calls) in enumerate(pairs) if edge_s >= _NEVER_SLOW_S and calls >= wanted)
        return next(enough, len(self.edges_s) - 1)


Cumulative = Counts | Durations
Reading = Cumulative | Value | Missing
Look = Mapping[str, Reading] | Missing
"""Readings by the name of their check, or why there are none. A check that is left out counts as missing."""


@dataclass(frozen=True)
class News:
    """What came since the reading before.

    Attributes:
        calls: The new calls on both sides.
        before: What the next reading is compared with.
        edge_s: Above it a call counted as slow; None where not durations are judged, or not yet.
        problem: Why there is nothing, "" if there is.
    """

    calls: Block
    before: Cumulative
    edge_s: float | None = None
    problem: str = ""


def news(before: Cumulative | None, now: Cumulative) -> News:
    """Compare two readings; a count that went back makes the newer one a fresh start, and no news."""
    match before, now:
        case None, Counts():
            return _new_counts(Counts(Count(), Count()), now)
        case Counts(), Counts():
            return _new_counts(before, now)
        case None, Durations():
            return News(Block(), now)  # without stable's past nobody knows what is slow
        case Durations(), Durations() if before.edges_s == now.edges_s:
            return _new_durations(before, now)
        case _:
            return _afresh(now, "the metric has another form than before")


def _new_counts(before: Counts, now: Counts) -> News:
    sides = (before.stable, now.stable), (before.canary, now.canary)
    if any(new.calls < old.calls or new.bad < old.bad for old, new in sides):
        return _went_back(now)
    # Two counters are not read in one moment: a bad call may be seen before it is counted as a call. It waits.
    calls = [new.calls - old.calls for old, new in sides]
    bad = [min(new.bad - old.bad, some) for (old, new), some in zip(sides, calls, strict=True)]
    stable, canary = (Count(wrong, some) for wrong, some in zip(bad, calls, strict=True))
    return News(Block(stable, canary), Counts(before.stable + stable, before.canary + canary))


def _new_durations(before: Durations, now: Durations) -> News:
    stable, canary = (
        [new - old for old, new in zip(was, side, strict=True)]
        for was, side in ((before.stable, now.stable), (before.canary, now.canary))
    )
    if min(*stable, *canary) < 0:
        return _went_back(now)
    # The edge comes from the past alone: one chosen by the calls it then judges would flatter stable.
    edge = before.edge_above_p95()
    if edge is None:
        return News(Block(), now)
    block = Block(*(Count(max(0, side[-1] - side[edge]), side[-1]) for side in (stable, canary)))
    return News(block, now, edge_s=before.edges_s[edge])


def _went_back(now: Cumulative) -> News:
    return _afresh(now, "a counter went back, as after a restart")


def _afresh(now: Cumulative, problem: str) -> News:
    return News(Block(), now, problem=f"{problem}; counting goes on from here")
