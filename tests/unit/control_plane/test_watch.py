"""How a blocking read is repeated when Consul stumbles."""

from __future__ import annotations

import asyncio

import pytest

from control_plane import watch
from control_plane.errors import Unavailable

pytestmark = pytest.mark.feature("C1")


async def asked_after(*answers: int | None) -> list[int]:
    """The indexes asked for, given Consul's answers (None: it does not answer); the last read never ends."""
    asked = []
    left = list(answers)

    async def read(after: int) -> int:
        asked.append(after)
        if not left:
            await asyncio.Event().wait()
        index = left.pop(0)
        if index is None:
            raise Unavailable("away")
        return index

    following = asyncio.create_task(watch.follow(read, "test"))
    async with asyncio.timeout(5):
        while len(asked) <= len(answers):
            await asyncio.sleep(0.01)
    following.cancel()
    return asked


async def test_each_read_waits_beyond_the_last_answer() -> None:
    assert await asked_after(7, 7, 9) == [0, 7, 7, 9]


async def test_an_index_that_goes_back_begins_anew() -> None:
    assert await asked_after(7, 3, 4) == [0, 7, 0, 4]


async def test_after_an_error_everything_is_read_again() -> None:
    assert await asked_after(7, None, 8) == [0, 7, 0, 8]
