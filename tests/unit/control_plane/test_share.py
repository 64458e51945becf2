"""Over how many gates limits are divided: more at once, fewer only after a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.agent.share import GONE_AFTER_S, Share
from control_plane.gates import GATES_PREFIX
from control_plane.model import GateReport
from tests.support.memory import Memory

pytestmark = pytest.mark.feature("A7")


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def share(store: Memory, clock: Clock) -> AsyncIterator[Share]:
    made = Share(store, 1, clock)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(made.run())
        yield made
        task.cancel()


async def report(store: Memory, gate: str, session: str) -> None:
    assert await store.lock(GATES_PREFIX + gate, GateReport(id=gate, epoch=1, number=1, at=0).to_bytes(), session)


async def until(share: Share, gates: int) -> None:
    async with asyncio.timeout(20):
        while share.gates != gates:
            await asyncio.sleep(0.001)


async def test_a_gate_that_comes_counts_at_once_and_one_that_goes_after_a_while(
    store: Memory, clock: Clock, share: Share
) -> None:
    sessions = {gate: await store.open_session(gate, 5) for gate in ("a", "b", "c")}
    for gate, session in sessions.items():
        await report(store, gate, session)
    await until(share, 3)
    await store.close_session(sessions["b"])
    await store.close_session(sessions["c"])
    begun_s = clock.now_s
    async with asyncio.timeout(20):
        while share.gates == 3:
            clock.now_s += 1
            await asyncio.sleep(0.001)
    assert share.gates == 1
    assert clock.now_s - begun_s > GONE_AFTER_S


async def test_a_store_that_shows_no_gate_at_all_changes_nothing(store: Memory, clock: Clock) -> None:
    share = Share(store, 4, clock)
    clock.now_s += 10 * GONE_AFTER_S
    assert share.gates == 4
