"""Canary against stable as pictures: shares of bad calls with the interval they lie in. Pure, from counts to points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Z_95 = 1.959964
WIDTH, HEIGHT = 640.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 10.0, 14.0, 26.0


@dataclass(frozen=True)
class Interval:
    """A share and where it lies with 95 % certainty, looked at once."""

    low: float
    share: float
    high: float


def interval(bad: int, calls: int) -> Interval:
    """Wilson's interval of a share; all of it where there are no calls."""
    if not calls:
        return Interval(0.0, 0.0, 1.0)
    share, z2 = bad / calls, Z_95 * Z_95
    middle = (share + z2 / (2 * calls)) / (1 + z2 / calls)
    half = Z_95 / (1 + z2 / calls) * math.sqrt(share * (1 - share) / calls + z2 / (4 * calls * calls))
    return Interval(max(0.0, middle - half), share, min(1.0, middle + half))


@dataclass(frozen=True)
class Side:
    """One version's part of a check, in percent of the picture's width.

    Attributes:
        said: The figures in words.
    """

    low: float
    share: float
    high: float
    said: str


@dataclass(frozen=True)
class Check:
    """A check as one picture.

    Attributes:
        limit: Up to where the canary's share may go, in percent of the width; above 100 it lies outside.
        evidence: How far the evidence is on its way to a fail, in percent.
        scale: The share of calls at the right end, in words.
    """

    name: str
    verdict: str
    sentence: str
    dry_run: bool
    stable: Side | None = None
    canary: Side | None = None
    limit: float = 0.0
    evidence: float = 0.0
    scale: str = ""


ORDER = ("fail", "error", "inconclusive", "pass")


def checks(findings: Iterable[Json]) -> list[Check]:
    """Every check, those that speak against the canary first, then those of all calls."""
    made = [_check(one) for one in findings]
    return sorted(made, key=lambda one: (ORDER.index(one.verdict), ":" in one.name, one.name))


def _check(finding: Json) -> Check:
    told = finding["name"], finding["verdict"], finding["sentence"], finding["dry_run"]
    evidence = finding["evidence"]
    if evidence is None:
        return Check(*told)
    stable, canary = evidence["stable"], evidence["canary"]
    mine, theirs = interval(**canary), interval(**stable)
    allowed = evidence["ratio"] * theirs.share + evidence["tolerance"]
    scale = nice(max(mine.high if canary["calls"] else 0, theirs.high if stable["calls"] else 0, allowed * 1.25, 0.001))
    grown = math.log(max(1.0, evidence["e_value"])) / math.log(max(math.e, evidence["threshold"]))
    return Check(
        *told,
        stable=_side(stable, theirs, scale),
        canary=_side(canary, mine, scale),
        limit=round(100 * allowed / scale, 2),
        evidence=round(100 * min(1.0, grown), 1),
        scale=share(scale),
    )


def _side(counts: Json, found: Interval, scale: float) -> Side | None:
    if not counts["calls"]:
        return None
    low, middle, high = (round(100 * min(1.0, value / scale), 2) for value in (found.low, found.share, found.high))
    said = f"{share(found.share)} ({counts['bad']:,} of {counts['calls']:,} calls)"
    return Side(low, middle, high, f"{said}; 95 %: {share(found.low)} to {share(found.high)}")


def share(value: float) -> str:
    """A share of calls in percent, with as many digits as say something."""
    return f"{100 * value:.3g} %"


def nice(value: float) -> float:
    """The next number above of 1, 2 or 5 times a power of ten; 1 at most."""
    power = 10.0 ** math.floor(math.log10(value))
    return min(1.0, next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999))


@dataclass(frozen=True)
class Point:
    """What had been counted at a moment: bad and all calls of both versions."""

    at: float
    stable_bad: int
    stable_calls: int
    canary_bad: int
    canary_calls: int


@dataclass(frozen=True)
class Curve:
    """Both versions over time, as points of an SVG of `WIDTH` by `HEIGHT`.

    Attributes:
        bands: Polygons of the intervals, and `lines` those of the shares: stable's, then the canary's.
        ticks: (y, words) of the lines across.
        spans: (x, words, anchor) of the times below.
        said: The whole in a sentence, for those who do not see it.
    """

    bands: tuple[str, str]
    lines: tuple[str, str]
    ticks: tuple[tuple[float, str], ...]
    spans: tuple[tuple[float, str, str], ...]
    said: str


def curve(points: Sequence[Point], name: str) -> Curve | None:
    """Shares of bad calls so far, over time; None before there are two moments with calls of the canary.

    Args:
        points: In order of time.
        name: The check.
    """
    known = [one for one in points if one.stable_calls and one.canary_calls]
    if len(known) < 2:
        return None
    stable = [interval(one.stable_bad, one.stable_calls) for one in known]
    canary = [interval(one.canary_bad, one.canary_calls) for one in known]
    # The first few calls say almost nothing, and would squeeze the rest of the picture.
    late = canary[len(canary) // 4 :] + stable[len(stable) // 4 :]
    top = nice(max(*(one.high for one in late), 0.001))
    first, last = known[0].at, known[-1].at
    xs = [LEFT + (WIDTH - LEFT - RIGHT) * (one.at - first) / max(last - first, 1e-9) for one in known]
    spans = ((LEFT, "0 s", "start"), (WIDTH - RIGHT, f"{last - first:.0f} s", "end"))
    ticks = tuple((_y(part * top, top), share(part * top)) for part in (0, 0.5, 1))
    now = f"stable {share(stable[-1].share)}, canary {share(canary[-1].share)} of calls"
    said = f"{name.replace('_', ' ')}: {now} after {last - first:.0f} s"
    return Curve(
        bands=(_band(xs, stable, top), _band(xs, canary, top)),
        lines=(_line(xs, stable, top), _line(xs, canary, top)),
        ticks=ticks,
        spans=spans,
        said=said,
    )


def _y(value: float, top: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(value, top) / top), 1)


def _line(xs: Sequence[float], found: Sequence[Interval], top: float) -> str:
    return " ".join(f"{x:.1f},{_y(one.share, top)}" for x, one in zip(xs, found, strict=True))


def _band(xs: Sequence[float], found: Sequence[Interval], top: float) -> str:
    over = [f"{x:.1f},{_y(one.high, top)}" for x, one in zip(xs, found, strict=True)]
    under = [f"{x:.1f},{_y(one.low, top)}" for x, one in zip(xs, found, strict=True)]
    return " ".join([*over, *reversed(under)])
