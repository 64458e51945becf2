"""Threads of this process that want the same thing, one after another.

A lock the kernel holds for several processes (flock) has to be asked for again and again where a wait must end at some
time: sixteen writers of one folder spent a fifth of their processor time on asking, and left it free in between.
"""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

__all__ = ["Queues"]


class Queues:
    """A lock for each thing that somebody wants, and none for those that nobody does."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._wanted: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextmanager
    def turn(self, thing: Hashable, wait_s: float) -> Iterator[bool]:
        """Have `thing` alone inside the block; False where others had it for `wait_s` seconds."""
        with self._guard:
            lock, wanting = self._wanted.get(thing, (threading.Lock(), 0))
            self._wanted[thing] = lock, wanting + 1
        held = lock.acquire(timeout=max(0.0, wait_s))
        try:
            yield held
        finally:
            if held:
                lock.release()
            with self._guard:
                lock, wanting = self._wanted.pop(thing)
                if wanting > 1:
                    self._wanted[thing] = lock, wanting - 1
