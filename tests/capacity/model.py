"""Straight lines through what was measured, each tried on a point that it was not drawn through. Pure."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

WITHIN = 0.2
"""A point left out has to be foretold within so much of it."""
MACHINES = 1000
_TEXT = Path(__file__).with_name("capacity.md.tmpl")


@dataclass(frozen=True)
class Curve:
    """How something grows with the number of something else.

    Args:
        what: What is measured, with its unit.
        by: What there is more of.
        points: Number and value, growing; the one before the last is left out of the line.
        least: A difference of so much means nothing, being within what two measurings of one point differ by.
    """

    what: str
    by: str
    points: Sequence[tuple[float, float]]
    least: float = 0.0

    @property
    def line(self) -> tuple[float, float]:
        """What each one more costs, and what there is without any."""
        drawn = [point for point in self.points if point != self.held_out]
        slope, intercept = linear_regression([x for x, _ in drawn], [y for _, y in drawn])
        return slope, intercept

    @property
    def held_out(self) -> tuple[float, float]:
        """The point that the line is tried on."""
        return self.points[-2]

    def at(self, number: float) -> float:
        """What the line foretells."""
        slope, intercept = self.line
        return intercept + slope * number

    @property
    def missed(self) -> float:
        """By how much of it the point left out is foretold wrongly."""
        number, value = self.held_out
        return abs(self.at(number) - value) / value if value else 0.0

    @property
    def grows(self) -> bool:
        """Whether there is more between the ends than two measurings of one size differ by."""
        return abs(self.points[-1][1] - self.points[0][1]) > self.least

    @property
    def holds(self) -> bool:
        """Whether the line may be believed."""
        number, value = self.held_out
        return self.missed <= WITHIN or abs(self.at(number) - value) <= self.least


def lines(curves: Sequence[Curve]) -> Iterator[str]:
    """The curves for a terminal."""
    for one in curves:
        slope, intercept = one.line
        number, value = one.held_out
        shown = ", ".join(f"{x:,.0f}: {y:.4g}" for x, y in one.points)
        yield f"{'  ok' if one.holds else 'FAIL'} {one.what} by {one.by}: {shown}"
        yield (f"       {intercept:.4g} + {slope:.4g} each; {number:,.0f} was left out: {value:.4g}, foretold "
               f"{one.at(number):.4g} ({100 * one.missed:.0f} % off)")  # fmt: skip


def document(curves: Sequence[Curve], machine: str, date: str) -> str:
    """docs/capacity.md."""
    return string.Template(_TEXT.read_text()).substitute(
        machine=machine, date=date, rows="\n".join(_rows(curves)), machines=f"{MACHINES:,}",
        large="\n".join(_large(curves)),
    )  # fmt: skip


def _rows(curves: Sequence[Curve]) -> Iterator[str]:
    for one in curves:
        slope, intercept = one.line
        number, value = one.held_out
        shown = ", ".join(f"{x:,.0f}: {y:.3g}" for x, y in one.points)
        off = f"{100 * one.missed:.0f} %" if value else "0"
        yield (f"| {one.what} | {one.by} | {shown} | {intercept:.3g} + {slope:.3g} n | {number:,.0f}: {value:.3g}, "
               f"foretold {one.at(number):.3g} ({off} off) |")  # fmt: skip


LARGE = {"gates": MACHINES, "services": MACHINES, "instances": 4 * MACHINES, "clients with a key": 20 * MACHINES}
"""What a thousand machines would have: a gate each, a service each, four instances each, twenty clients each."""


def _large(curves: Sequence[Curve]) -> Iterator[str]:
    for one in curves:
        if one.by in LARGE and one.missed <= WITHIN and one.grows:
            furthest = one.points[-1][0]
            number = LARGE[one.by]
            yield f"| {one.what} | {number:,} {one.by} | {one.at(number):,.0f} | {number / furthest:.0f} times |"
