"""Waiting for a condition with a bound, instead of sleeping for a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.02


async def eventually(look: Callable[[], Awaitable[T | None]], what: str, timeout_s: float = 20.0) -> T:
    """Look again and again until something truthy is there.

    Raises:
        AssertionError: It did not come in time; names ``what`` and the last look.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"waited {timeout_s:g} s in vain for {what}; last look: {found!r}"
        await asyncio.sleep(POLL_S)
