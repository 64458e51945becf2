"""What a chaos run owes: each promise that was broken, in a sentence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.calls import NOT_SENT_ON, Sent

CLOCK_S = 0.25
"""Between what broke and the note of when."""


@dataclass(frozen=True)
class Allowed:
    """Which calls may fail.

    Args:
        from_s: When the fault came, monotonic; what had ended by then may not have failed.
        until_s: Calls begun later may not fail.
        versions: Of these versions any call may fail.
        nothing: No call may fail at all.
    """

    from_s: float = 0.0
    until_s: float = 0.0
    versions: Collection[str] = ()
    nothing: bool = True

    def failing(self, call: Sent) -> bool:
        """Whether this call may have failed."""
        if call.version and call.version in self.versions:
            return True
        return not self.nothing and call.ended_s >= self.from_s - CLOCK_S and call.began_s <= self.until_s + CLOCK_S


@dataclass(frozen=True)
class Account:
    """The calls of a run, accounted for.

    Args:
        calls: How many were made.
        failed: How many were not answered well.
        gap_s: The longest time without a call answered well.
        broken: Each broken promise.
    """

    calls: int
    failed: int
    gap_s: float
    broken: tuple[str, ...] = field(default=())


def accounted(
    sent: Sequence[Sent],
    intruded: Sequence[Sent],
    steps: Mapping[str, Sequence[str]],
    allowed: Allowed,
    versions: Collection[str],
) -> Account:
    """Hold calls against the ledger.

    Args:
        sent: Calls with a good key.
        intruded: Calls with a bad one.
        steps: What the ledgers of all instances have of each entry: `begun`, `done`, `cancelled`.
        allowed: Which may have failed.
        versions: Versions that may have answered.
    """
    broken: list[str] = []
    begun = {entry: Counter(of)["begun"] for entry, of in steps.items()}
    for call in sent:
        times = begun.get(call.entry, 0)
        if times > 1:
            broken.append(f"{call.entry} ran {times} times")
        if call.end == "good":
            if times != 1 or "done" not in steps[call.entry]:
                broken.append(f"{call.entry} was answered and stands in the ledger as {steps.get(call.entry, ())}")
            if call.echoed != call.entry:
                broken.append(f"{call.entry} was answered with {call.echoed!r}")
            if call.version not in versions:
                broken.append(f"{call.entry} was answered by version {call.version!r}")
        elif not allowed.failing(call):
            began, ended = call.began_s - allowed.from_s, call.ended_s - allowed.from_s
            broken.append(
                f"{call.entry} to {call.gate}{call.path}, begun {began:+.2f} s from the fault, failed at "
                f"{ended:+.2f} s: {call.said}"
            )
    for call in intruded:
        if call.end == "good" or begun.get(call.entry):
            broken.append(f"{call.entry} ran without a valid key")
        elif call.end == "refused" and not call.said.startswith(("401", NOT_SENT_ON)):
            broken.append(f"{call.entry} without a valid key was told {call.said}")
    ends = [call.entry for call in sent]
    if len(set(ends)) != len(ends):
        broken.append("a call has two ends")
    good = sorted(call.ended_s for call in sent if call.end == "good")
    gap_s = max((later - earlier for earlier, later in pairwise(good)), default=0.0)
    return Account(len(sent), sum(call.end != "good" for call in sent), gap_s, tuple(broken))
