"""Holds writers of files still while a copy is taken: every folder is locked, as the filesystem service locks them.

Writers then wait, ten seconds at most by themselves; so they are let go before, whatever is left to be copied. Who
writes without the service knows of no locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

AGAIN_S = 0.005


def folders_of(root: Path) -> list[Path]:
    """A folder and all in it, links not followed."""
    return [Path(found) for found, _, _ in os.walk(root)] if root.is_dir() else []


@contextlib.contextmanager
def held(root: Path, most_s: float) -> Iterator[float]:
    """Lock every folder in a root for the length of a block; yields the monotonic moment at which to let go.

    Locks are taken in the order in which the service takes several: nobody waits in a circle. A folder that is made
    meanwhile lies in one that is locked.

    Args:
        root: The folder.
        most_s: The longest that writers should wait, in seconds.

    Yields:
        The moment until which the block should be over; one that has passed where not all locks came in time.
    """
    until = time.monotonic() + most_s
    with ExitStack() as stack:
        got = all(_lock(fd, until) for fd in _in_order(root, stack))
        yield until if got else 0.0


def _in_order(root: Path, stack: ExitStack) -> list[int]:
    known = {}
    for folder in folders_of(root):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # gone meanwhile, or more than may be open
            continue
        stack.callback(os.close, fd)
        found = os.fstat(fd)
        known[found.st_dev, found.st_ino] = fd
    return [fd for _, fd in sorted(known.items())]


def _lock(fd: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(AGAIN_S)
        else:
            return True
