"""What an instance is doing right now: requests in flight, for how long in all, and when the last one came.

Stopping reads it to know when nothing new comes any more, and cuts off what outlives the deadline.
"""

import asyncio
import time
from collections.abc import Callable

__all__ = ["Activity"]

_LOOK_EVERY_S = 0.05


class Activity:
    """Requests on `/mcp` of one instance.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[object]] = set()
        self._cut: set[asyncio.Task[object]] = set()
        self._last_arrival = clock()
        self._busy_s = 0.0
        self._summed_s = clock()

    @property
    def busy_s(self) -> float:
        """Seconds that requests have been in flight, each counted by itself; what it grows by in a second is how many
        were in flight on average, however short each was."""
        self._sum_up()
        return self._busy_s

    def _sum_up(self) -> None:
        now_s = self._clock()
        self._busy_s += len(self._tasks) * (now_s - self._summed_s)
        self._summed_s = now_s

    @property
    def in_flight(self) -> int:
        """Requests being served."""
        return len(self._tasks)

    def begin(self) -> "asyncio.Task[object]":
        """Note that the running task serves a request.

        Returns:
            That task; give it to `end`.
        """
        self._sum_up()
        self._last_arrival = self._summed_s
        task: asyncio.Task[object] | None = asyncio.current_task()
        assert task is not None  # noqa: S101  # only ever called from a coroutine
        self._tasks.add(task)
        return task

    def end(self, task: "asyncio.Task[object]") -> None:
        """Note that the request is over."""
        self._sum_up()
        self._tasks.discard(task)

    def was_cut_off(self, task: "asyncio.Task[object]") -> bool:
        """Whether the cancellation that has just reached `task` came from `cut_off`; if so the task may go on."""
        if task not in self._cut:
            return False
        self._cut.discard(task)
        task.uncancel()
        return True

    async def quiet(self, quiet_s: float) -> None:
        """Wait until nothing has come for `quiet_s`, counted from now at the earliest."""
        since = self._clock()
        while True:
            left_s = quiet_s - (self._clock() - max(since, self._last_arrival))
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    async def idle(self, also: Callable[[], bool]) -> None:
        """Wait until nothing is in flight and `also` holds."""
        while self._tasks or not also():  # noqa: ASYNC110  # only while stopping; an event would cost every call
            await asyncio.sleep(_LOOK_EVERY_S)

    def cut_off(self) -> int:
        """Cancel what is still in flight.

        Returns:
            How many requests that were.
        """
        for task in self._tasks:
            self._cut.add(task)
            task.cancel()
        return len(self._tasks)
