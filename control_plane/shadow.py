"""What copies of calls came to, beside the calls themselves: pure comparison of what instances tell.

Instances forget; a comparison goes on from the one before, so its counts only grow, and none of a call counts twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from control_plane.readings import Counts
from control_plane.sequential import Count


@dataclass(frozen=True)
class Side:
    """One side of a copied call, as an instance tells it (docs/contracts.md, "What an instance tells").

    Attributes:
        trace: The id both sides have.
        tool: The tool.
        digest: Of what a caller gets to see.
        error: How it failed, "" if it did not.
        seconds: How long it took.
        copy: Whether this is the copy.
    """

    trace: str
    tool: str
    digest: str
    error: str
    seconds: float
    copy: bool


@dataclass(frozen=True)
class Difference:
    """A call whose copy came to something else."""

    trace: str
    tool: str
    main: str
    mirror: str

    def __str__(self) -> str:
        return f"{self.tool}: {self.main} against {self.mirror} on the mirror (call {self.trace})"


@dataclass(frozen=True)
class Comparison:
    """What is known so far.

    Attributes:
        matched: Pairs that came to the same.
        differing: Pairs that did not.
        only_main_failed: Those of the differing in which the mirror did better.
        main_errors: Failures among the compared calls.
        mirror_errors: Failures among their copies.
        main_seconds: What the compared calls took in all.
        mirror_seconds: What their copies took.
        examples: The first difference of each tool.
        counted: Pairs that are still shown and already counted.
    """

    matched: int = 0
    differing: int = 0
    only_main_failed: int = 0
    main_errors: int = 0
    mirror_errors: int = 0
    main_seconds: float = 0.0
    mirror_seconds: float = 0.0
    examples: Mapping[str, Difference] = field(default_factory=dict)
    counted: frozenset[tuple[str, str]] = frozenset()

    @property
    def compared(self) -> int:
        """Pairs in all."""
        return self.matched + self.differing

    @property
    def latency_ratio(self) -> float | None:
        """How many times as long as its call a copy takes; None while nothing is known."""
        return self.mirror_seconds / self.main_seconds if self.main_seconds else None

    @property
    def counts(self) -> Counts:
        """Both sides as a check of rates reads them.

        A difference is the mirror's bad call; one in which only the call itself failed is the main version's.
        """
        bad = self.differing - self.only_main_failed
        return Counts(Count(self.only_main_failed, self.compared), Count(bad, self.compared))


def compare(main: Iterable[Side], mirror: Iterable[Side], before: Comparison | None = None) -> Comparison:
    """Compare calls with their copies.

    Args:
        main: What instances show of calls that were copied; copies among them are passed over.
        mirror: What instances show of copies; other calls among them are passed over.
        before: What was known until now.
    """
    known = before or Comparison()
    calls = {(side.trace, side.tool): side for side in main if not side.copy}
    copies = {(side.trace, side.tool): side for side in mirror if side.copy}
    pairs = calls.keys() & copies.keys()
    new = [(calls[pair], copies[pair]) for pair in sorted(pairs - known.counted)]
    unlike = [(call, copy) for call, copy in new if not _alike(call, copy)]
    examples = dict(known.examples)
    for call, copy in unlike:
        examples.setdefault(call.tool, Difference(call.trace, call.tool, _said(call), _said(copy)))
    return Comparison(
        matched=known.matched + len(new) - len(unlike),
        differing=known.differing + len(unlike),
        only_main_failed=known.only_main_failed + sum(bool(call.error) and not copy.error for call, copy in unlike),
        main_errors=known.main_errors + sum(bool(call.error) for call, _ in new),
        mirror_errors=known.mirror_errors + sum(bool(copy.error) for _, copy in new),
        main_seconds=known.main_seconds + sum(call.seconds for call, _ in new),
        mirror_seconds=known.mirror_seconds + sum(copy.seconds for _, copy in new),
        examples=examples,
        # One side may be forgotten before the other: what is gone from both cannot be met again.
        counted=frozenset(pair for pair in known.counted if pair in calls or pair in copies) | pairs,
    )


def _alike(call: Side, copy: Side) -> bool:
    """Two failures of one kind are alike whatever their words: those often name a moment or a process."""
    return call.error == copy.error and (bool(call.error) or call.digest == copy.digest)


def _said(side: Side) -> str:
    return side.error or f"result {side.digest[:8]}"
