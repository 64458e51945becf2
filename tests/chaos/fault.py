"""What a fault is: what breaks for a while, and what it may cost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.chaos.ground import Ground

NEVER = -1.0
AT_ONCE_S = 1.0
"""Calls on their way to a process that dies, or on a connection not yet known to be closed."""
NOTICED_S = 5.0
"""Until a gate gives an instance that answers nothing no more calls: a check each second, 4 s for its answer."""
HOLD_S = 8.0
DIED = "in flight on what died"
CUT_OFF = "in flight on what was cut off, or given to it within 5 s"
NOTHING = "nothing"

Mend = contextlib.ExitStack


class CannotBreak(Exception):
    """The machine does not allow this fault; says why."""


On = TypeVar("On", bound=Ground)


@dataclass(frozen=True)
class Fault(Generic[On]):
    """Something that breaks.

    Args:
        name: What, as the table has it.
        costs: What it may cost, as the table has it.
        breaks: Breaks it, and puts on the stack what mends it.
        recovers_s: The most from mending until all is well.
        fails_s: Calls begun so long after it may fail, `NEVER` for none at all.
        lasts_s: How long it stays.
        versions: Of these versions any call may fail.
        alone: Not to be paired with another.
    """

    name: str
    costs: str
    breaks: Callable[[On, Mend], None]
    recovers_s: float = 30.0
    fails_s: float = NEVER
    lasts_s: float = HOLD_S
    versions: tuple[str, ...] = ()
    alone: bool = False
