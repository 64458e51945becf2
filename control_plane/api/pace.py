"""How often each operator may ask a replica: a bucket of calls for each, refilled as time goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

PER_S = 50.0
BURST = 200


class Pace:
    """The buckets.

    Args:
        per_s: Calls a second that an operator may make in the long run.
        burst: Calls at one moment.
        clock: Seconds.
    """

    def __init__(self, per_s: float = PER_S, burst: int = BURST, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, operator: str) -> int:
        """Take a call of an operator's, if there is one.

        Returns:
            0 where it may be made; else the seconds to wait, one at least.
        """
        now = self._clock()
        left, seen = self._left.get(operator, (float(self._burst), now))
        left = min(self._burst, left + (now - seen) * self._per_s)
        if left < 1:
            self._left[operator] = left, now
            return max(1, math.ceil((1 - left) / self._per_s))
        self._left[operator] = left - 1, now
        return 0
