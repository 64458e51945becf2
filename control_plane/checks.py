"""What a rollout is judged by, as values: checks of rates, checks of custom values, and the plan that holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from control_plane.sequential import MARGINS, Terms


@dataclass(frozen=True)
class RateCheck:
    """Fails a canary whose share of bad calls is above `ratio` x stable's + `tolerance`.

    Attributes:
        name: Its key in a look.
        title: What the bad ones are, in the plural, for sentences.
        tolerance: Share of calls (0.002 = 0.2 points) by which a canary may always be worse.
        ratio: How many times stable's share it may have besides; above 1 where the sides see different callers.
        margin: Passes when surely less than this share of calls worse than stable; one of `MARGINS`.
        hard_limit: Share of bad calls that fails at once, unless stable stands at half of it; None for never.
        hard_calls: Calls that are looked at for it.
        min_calls: Calls on either side below which the test says nothing.
        holds: Whether a canary passes only with a pass of this check; without, it can only fail.
        dry_run: Judged and reported, and counts for nothing.

    Raises:
        ValueError: A figure that makes no sense.
    """

    name: str
    title: str
    tolerance: float = 0.002
    ratio: float = 1.0
    margin: float = 0.01
    hard_limit: float | None = 0.5
    hard_calls: int = 100
    min_calls: int = 10
    holds: bool = True
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1 or not 1 <= self.ratio < math.inf:
            raise ValueError(f"check {self.name}: tolerance must be a share of calls, ratio must be 1 or more")
        if self.margin not in MARGINS:
            raise ValueError(f"check {self.name}: margin must be one of {', '.join(map(str, MARGINS))}")
        if self.hard_limit is not None and not 0 < self.hard_limit <= 1:
            raise ValueError(f"check {self.name}: hard_limit must be a share of calls above 0")
        if self.min_calls < 1 or self.hard_calls < 1:
            raise ValueError(f"check {self.name}: min_calls and hard_calls must be 1 or more")


@dataclass(frozen=True)
class RangeCheck:
    """Fails a canary when a custom value is out of its range at so many readings in a row.

    Attributes:
        name: Its key in a look.
        title: What the value is, for sentences.
        low: Smallest value that is well.
        high: Greatest.
        failures: Readings in a row.
        dry_run: Judged and reported, and counts for nothing.

    Raises:
        ValueError: A figure that makes no sense.
    """

    name: str
    title: str
    low: float = -math.inf
    high: float = math.inf
    failures: int = 3
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or self.failures < 1:
            raise ValueError(f"check {self.name}: low must not be above high, and failures must be 1 or more")


Check = RateCheck | RangeCheck


@dataclass(frozen=True)
class Plan:
    """What one rollout is judged by.

    Attributes:
        stable: Version that the canary is compared with.
        canary: Version under judgement.
        checks: All of them, at least one that counts.
        false_alarm: Share of good canaries that may fail by the test, over all checks together.
        missed: Share of canaries worse than a margin that may pass.
        burst: Calls that may share their fate; twice as many need twice the calls for each verdict.

    Raises:
        ValueError: Names twice, no check that counts, or a figure that makes no sense.
    """

    stable: str
    canary: str
    checks: tuple[Check, ...]
    false_alarm: float = 0.01
    missed: float = 0.05
    burst: float = 2.0

    def __post_init__(self) -> None:
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names) or all(check.dry_run for check in self.checks):
            raise ValueError(f"checks need different names and at least one that counts: {', '.join(names) or 'none'}")
        if not 0 < self.false_alarm < 1 or not 0 < self.missed < 1 or not 1 <= self.burst < math.inf:
            raise ValueError("false_alarm and missed must lie between 0 and 1, burst must be 1 or more")

    def terms(self, check: RateCheck) -> Terms:
        """What the test is asked for one check; the checks that count share the false alarms evenly."""
        tested = sum(isinstance(other, RateCheck) and not other.dry_run for other in self.checks)
        return Terms(check.ratio, check.tolerance, self.false_alarm / max(1, tested), self.missed, self.burst)


def default_checks(tools: Iterable[str] = ()) -> tuple[RateCheck, ...]:
    """The checks of every rollout: over all calls, and errors and latency of each named tool."""
    return (
        RateCheck("http_5xx", "5xx answers"),
        RateCheck("tool_errors", "tool errors"),
        RateCheck("deadline", "calls past their deadline"),
        RateCheck("schema", "results against their schema"),
        _latency("latency", "slow calls"),
        # A tool that hardly anybody uses must not hold a rollout; one that breaks must end it.
        *(RateCheck(f"tool_errors:{tool}", f"errors of {tool}", holds=False) for tool in tools),
        *(_latency(f"latency:{tool}", f"slow calls of {tool}", holds=False) for tool in tools),
    )


def _latency(name: str, title: str, *, holds: bool = True) -> RateCheck:
    # By the choice of the edge up to 5 % of stable's own calls are slow; and slow alone is no reason to skip the test.
    return RateCheck(name, title, tolerance=0.05, margin=0.1, hard_limit=None, holds=holds)
