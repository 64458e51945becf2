"""How much each part of an environment holds over time, and whether that stays flat."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import psutil

T = TypeVar("T")
WARM = 0.3
"""So much of the run is left out: caches fill, pools grow to what they need."""


@dataclass(frozen=True)
class Sample:
    """What a group of processes holds at a moment.

    Args:
        at_s: Monotonic.
        memory_mib: Private memory of all of them.
        descriptors: Open files.
        processes: How many they are.
    """

    at_s: float
    memory_mib: float
    descriptors: int
    processes: int


@dataclass(frozen=True)
class Bound:
    """What may be added between the warmed-up beginning and the end, as predicted by the line through the samples.

    Args:
        share: Of the median.
        least: In any case.
    """

    share: float
    least: float


BOUNDS: Mapping[str, Bound] = {
    "memory_mib": Bound(0.10, 16.0),
    "descriptors": Bound(0.10, 12.0),
    "processes": Bound(0.10, 2.0),
}


def sampled(pids: Mapping[str, Sequence[int]]) -> dict[str, Sample]:
    """A sample of each group, with all that its processes have started.

    Args:
        pids: By group.
    """
    return {group: _of(mine) for group, mine in pids.items()}


def _of(pids: Iterable[int]) -> Sample:
    memory, descriptors, processes = 0, 0, 0
    for pid in pids:
        with suppress(psutil.Error):
            top = psutil.Process(pid)
            for process in (top, *top.children(recursive=True)):
                with suppress(psutil.Error):
                    memory += process.memory_full_info().uss
                    descriptors += process.num_fds()
                    processes += 1
    return Sample(time.monotonic(), memory / (1 << 20), descriptors, processes)


def growth(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """What a line through the points adds from the first to the last, by Theil and Sen's median of slopes.

    Args:
        points: Time and value, warm ones only.

    Returns:
        The growth, and the median of the values.

    Source: Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
    """
    slopes = [(y2 - y1) / (x2 - x1) for n, (x1, y1) in enumerate(points) for x2, y2 in points[n + 1 :] if x2 > x1]
    if not slopes:
        return 0.0, 0.0
    return statistics.median(slopes) * (points[-1][0] - points[0][0]), statistics.median(y for _, y in points)


def warm(samples: Sequence[T]) -> Sequence[T]:
    """What was sampled after the beginning."""
    return samples[round(len(samples) * WARM) :]


def not_flat(group: str, samples: Sequence[Sample]) -> list[str]:
    """What of a group grows, in sentences."""
    said: list[str] = []
    for what, bound in BOUNDS.items():
        added, usual = growth([(one.at_s, float(getattr(one, what))) for one in warm(samples)])
        if added > max(bound.share * usual, bound.least):
            said.append(f"{group}: {what} grows by {added:.1f} over the run, from about {usual:.1f}")
    return said
