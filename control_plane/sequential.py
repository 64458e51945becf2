"""One statistical question, asked again and again: do a canary's calls go wrong more often than stable's?

Both sides are counts, "bad of calls", over the same time, taken in blocks: one look, or several where calls are few.
Each block is a bet against "the canary is within what is allowed". What bets win multiplies, and where that is true the
product ever reaches 1/a with probability a at most, *however often one looks* (Ville). The bets are those of Turner, Ly
and Grünwald, "Generic E-variables for exact sequential k-sample tests", J. Stat. Plan. Inference 230 (2024), arXiv
2106.02693: likelihood under a guess against likelihood at the nearest allowed rates. Three things come on top:

- A fault may begin in any block: evidence is a mixture over its beginnings (Shin, Ramdas, Rinaldo, "E-detectors",
  arXiv 2203.03532), so a long good past hides nothing.
- Calls share their fate, as when a caller tries again. Evidence counts 1/g, and with that, groups of up to g calls keep
  the guarantee exactly. g is `Terms.burst`, or what stable itself shows from block to block where that is more.
- What one block can win is bounded, so no single moment convicts.

Assumed, given the past: within a block, groups fail independently, and the canary's mean rate is at most ratio x
stable's + tolerance. Stable's own rate may be anything in each block: drift on both sides alike does no harm. The
guarantee breaks where bursts of far more than g calls meet the canary alone in several blocks, and where the sides see
different callers (a split by client): then a difference is real, but not the version's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

EFFECTS = (0.005, 0.02, 0.08, 0.3, 0.9)
"""Faults looked for: the share of calls that break beyond what is allowed."""
MARGINS = (0.01, 0.02, 0.05, 0.1)
"""Differences that can be ruled out."""

_BLOCK_CALLS = 20
_PRIOR_BAD, _PRIOR_CALLS = 0.5, 100  # stable's rate before it is known; guides the bets, not the guarantee
_PRIOR_JUMPS = 20
_CEILING = 10  # times the threshold; what is won beyond is forgotten, so that "no worse" can soon be taken back


@dataclass(frozen=True)
class Count:
    """So many bad ones of so many calls.

    Raises:
        ValueError: Not whole, negative, or more bad ones than calls.
    """

    bad: int = 0
    calls: int = 0

    def __post_init__(self) -> None:
        if type(self.bad) is not int or type(self.calls) is not int:
            raise ValueError(f"counts are whole numbers, not {self.bad!r} of {self.calls!r}")
        if not 0 <= self.bad <= self.calls:
            raise ValueError(f"{self.bad} bad of {self.calls} calls cannot be; it must be 0 <= bad <= calls")

    def __add__(self, other: Count) -> Count:
        return Count(self.bad + other.bad, self.calls + other.calls)

    def __str__(self) -> str:
        share = "100" if self.rate >= 0.995 else f"{100 * self.rate:.2g}"
        return f"{self.bad:,} of {self.calls:,}" + (f" ({share} %)" if self.bad else "")

    @property
    def rate(self) -> float:
        """Share of bad ones, 0 where there are no calls."""
        return self.bad / self.calls if self.calls else 0.0


@dataclass(frozen=True)
class Block:
    """Both sides over the same time."""

    stable: Count = Count()
    canary: Count = Count()

    def __add__(self, other: Block) -> Block:
        return Block(self.stable + other.stable, self.canary + other.canary)

    @property
    def full(self) -> bool:
        """Whether it has calls enough; never by what went wrong in them, which would break the guarantee."""
        calls = self.stable.calls, self.canary.calls
        return min(calls) > 0 and sum(calls) >= _BLOCK_CALLS


@dataclass(frozen=True)
class Terms:
    """What is asked.

    Attributes:
        ratio: Times stable's rate that a canary may have,
        tolerance: plus this share of calls.
        alarm: Highest probability of ever calling a canary worse that is not.
        missed: Highest probability of ever calling a canary no worse, by a margin, that is.
        burst: Calls that may share their fate.
    """

    ratio: float
    tolerance: float
    alarm: float
    missed: float
    burst: float


@dataclass(frozen=True)
class Record:
    """Everything to remember between looks; plain numbers.

    Attributes:
        total: All calls so far.
        open: Those of the block that is not full yet.
        blocks: Full blocks so far.
        worse: What bets on each of `EFFECTS` have won, from all beginnings so far.
        better: What bets against each of `MARGINS` have won.
        late: Calls since there was last no evidence for "worse".
        peak: Highest evidence for "worse" so far; its inverse is an anytime-valid p-value.
        proof: The calls behind it.
        last: Stable's side of the last full block.
        jumps: How far stable's counts jump from block to block, squared,
        expected: and how far they would if calls failed one by one.
    """

    total: Block = Block()
    open: Block = Block()
    blocks: int = 0
    worse: tuple[float, ...] = (0.0,) * len(EFFECTS)
    better: tuple[float, ...] = (0.0,) * len(MARGINS)
    late: Block = Block()
    peak: float = 1.0
    proof: Block = Block()
    last: Count = Count()
    jumps: float = 0.0
    expected: float = 0.0

    def add(self, counts: Block, terms: Terms) -> Self:
        """The record after more calls."""
        grown = replace(self, total=self.total + counts, open=self.open + counts)
        return grown._closed(terms) if grown.open.full else grown

    def burst(self, terms: Terms) -> float:
        """Calls that count as one: as assumed, or as stable shows by jumping more than single failures would."""
        shown = (terms.burst * _PRIOR_JUMPS + self.jumps) / (_PRIOR_JUMPS + self.expected)
        return max(terms.burst, shown)

    def bound(self, terms: Terms) -> float:
        """Smallest of `MARGINS` by which the canary is surely not worse; 1 if none."""
        enough = 1 / terms.missed - _unbegun(self.blocks)
        return min((m for m, won in zip(MARGINS, self.better, strict=True) if won >= enough), default=1.0)

    def calls_needed(self, margin: float, terms: Terms) -> int | None:
        """About how many more canary calls rule out a difference if there is none; None while a side has no calls."""
        if not self.total.stable.calls or not self.total.canary.calls:
            return None
        rate, each = self._rate, self.total.stable.calls / self.total.canary.calls
        stable, canary = _nearest(each, 1.0, rate, rate, 1.0, margin)
        won_per_call = each * _divergence(rate, stable) + _divergence(rate, canary)
        held = self.better[MARGINS.index(margin)] + _unbegun(self.blocks)
        return max(0, math.ceil(self.burst(terms) * -math.log(held * terms.missed) / won_per_call))

    @property
    def _rate(self) -> float:
        """Stable's rate as known before the open block; a bet must not know what it is about."""
        known = self.total.stable.bad - self.open.stable.bad, self.total.stable.calls - self.open.stable.calls
        return (_PRIOR_BAD + known[0]) / (_PRIOR_CALLS + known[1])

    def _closed(self, terms: Terms) -> Self:
        rate, burst = self._rate, self.burst(terms)
        begins = _unbegun(self.blocks) - _unbegun(self.blocks + 1)
        faults, evens = _bets_on_faults(self.open, rate, terms), _bets_on_margins(self.open, rate)
        worse = _won(self.worse, faults, begins, burst, len(EFFECTS) / terms.alarm)
        better = _won(self.better, evens, begins, burst, 1 / terms.missed)
        jump, expected = _jump(self.last, self.open.stable)
        closed = replace(
            self,
            open=Block(),
            blocks=self.blocks + 1,
            worse=worse,
            better=better,
            late=self.late + self.open,
            last=self.open.stable,
            jumps=self.jumps + jump,
            expected=self.expected + expected,
        )
        return closed._weighed()

    def _weighed(self) -> Self:
        evidence = sum(self.worse) / len(self.worse) + _unbegun(self.blocks)
        if evidence <= 1:
            return replace(self, late=Block())
        return replace(self, peak=evidence, proof=self.late) if evidence > self.peak else self


def _unbegun(blocks: int) -> float:
    """Share of the stake that is kept for faults which begin later; falls slowly, so that late ones still get some."""
    return 1 / math.log2(blocks + 2)


def _bets_on_faults(block: Block, rate: float, terms: Terms) -> list[float]:
    allowed = terms.ratio * rate + terms.tolerance
    if allowed > 0.999:  # nothing can be worse
        return [0.0] * len(EFFECTS)
    guesses = (allowed + effect * (1 - allowed) for effect in EFFECTS)
    return [log_bet(block, rate, guess, terms.ratio, terms.tolerance) for guess in guesses]


def _bets_on_margins(block: Block, rate: float) -> list[float]:
    return [log_bet(block, rate, rate, 1.0, margin) for margin in MARGINS]


def _won(
    held: tuple[float, ...], bets: Iterable[float], begins: float, burst: float, threshold: float
) -> tuple[float, ...]:
    most = math.log(2 * threshold) / 2  # half of what is needed, even from the first block
    factors = (math.exp(min(bet / burst, most)) for bet in bets)
    return tuple(min((won + begins) * factor, _CEILING * threshold) for won, factor in zip(held, factors, strict=True))


def log_bet(block: Block, stable: float, canary: float, ratio: float, tolerance: float) -> float:
    """Log likelihood of a block under a guess of both rates, against that at the nearest rates on a border.

    Its exponential is an e-value for all rates beyond the border `canary = ratio x stable + tolerance`, seen from the
    guess. Its mean is a product over calls; as log x <= x - 1, the log of that is at most a sum over calls of (mean
    likelihood ratio - 1), which is linear in the rates and, by the choice of the nearest, at most 0 beyond the border.

    Args:
        block: The counts.
        stable: Guessed rate of stable, in (0, 1).
        canary: Guessed rate of the canary, in (0, 1), off the border.
        ratio: Of the border.
        tolerance: Of the border.
    """
    border = _nearest(block.stable.calls, block.canary.calls, stable, canary, ratio, tolerance)
    return _log_ratio(block.stable, stable, border[0]) + _log_ratio(block.canary, canary, border[1])


def _log_ratio(count: Count, guess: float, border: float) -> float:
    return count.bad * math.log(guess / border) + (count.calls - count.bad) * math.log((1 - guess) / (1 - border))


def _divergence(rate: float, other: float) -> float:
    return rate * math.log(rate / other) + (1 - rate) * math.log((1 - rate) / (1 - other))


def _nearest(n: float, m: float, stable: float, canary: float, ratio: float, tolerance: float) -> tuple[float, float]:
    """Rates on the border with the least divergence from a guess, for n calls of stable and m of the canary."""
    ends = stable, (canary - tolerance) / ratio
    low, high = max(0.0, min(ends)), min(max(ends), (1 - tolerance) / ratio)
    at = (n * ends[0] + m * ends[1]) / (n + m)
    at = min(max(at, 0.99 * low + 0.01 * high), 0.01 * low + 0.99 * high)
    for _ in range(60):  # Newton's steps towards slope 0, halving where one leads outside; about five are needed
        other = ratio * at + tolerance
        slope = n * (at - stable) / (at * (1 - at)) + ratio * m * (other - canary) / (other * (1 - other))
        bend = n * _bend(stable, at) + ratio**2 * m * _bend(canary, other)
        if abs(slope) <= 1e-10 * at * bend:
            break
        low, high = (low, at) if slope > 0 else (at, high)
        at = at - slope / bend if low < at - slope / bend < high else (low + high) / 2
    return at, ratio * at + tolerance


def _bend(rate: float, at: float) -> float:
    return rate / at**2 + (1 - rate) / (1 - at) ** 2


def _jump(one: Count, two: Count) -> tuple[float, float]:
    """Squared difference of two counts given their sum, and what it is on average if calls fail one by one."""
    bad = one.bad + two.bad
    if not bad or not one.calls or not two.calls:
        return 0.0, 0.0
    share = one.calls / (one.calls + two.calls)
    return (one.bad - bad * share) ** 2 / (share * (1 - share)), float(bad)
