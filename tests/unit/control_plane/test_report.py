"""The agent's report over a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.agent.report import Report, Reporter
from control_plane.gates import GATES_PREFIX
from control_plane.model import GateReport
from tests.support.memory import Memory
from tests.support.wait import eventually


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
async def reporter(store: Memory) -> AsyncIterator[Reporter]:
    reporter = Reporter(store, "gate-1", ttl_s=1)
    work = asyncio.create_task(reporter.run())
    yield reporter
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def reported(store: Memory, number: int) -> None:
    async def look() -> bool:
        entry = (await store.read(GATES_PREFIX)).entries.get("gate-1")
        if not entry or not entry.session:
            return False
        return GateReport.parse(entry.value, "report").number == number

    await eventually(look, f"report {number}", 5)


async def test_what_is_said_is_reported_under_a_live_session(reporter: Reporter, store: Memory) -> None:
    reporter.say(Report(1, 4))
    await reported(store, 4)


async def test_taking_a_word_back_before_it_is_written_leaves_the_loop_awake(reporter: Reporter, store: Memory) -> None:
    reporter.say(Report(1, 4))
    await reported(store, 4)
    reporter.say(Report(1, 5))
    reporter.say(Report(1, 4))
    await asyncio.wait_for(asyncio.sleep(0.05), 2)
    reporter.say(Report(1, 6))
    await reported(store, 6)


async def test_the_report_of_a_dead_predecessor_is_taken_over_at_once(reporter: Reporter, store: Memory) -> None:
    old = await store.open_session("gate gate-1", 5)
    await store.lock(GATES_PREFIX + "gate-1", b'{"id":"gate-1","epoch":1,"number":1,"at":0}', old)
    reporter.say(Report(1, 7))
    await reported(store, 7)
    assert not await store.renew_session(old)


async def test_a_lost_session_is_replaced_and_the_report_comes_back(reporter: Reporter, store: Memory) -> None:
    reporter.say(Report(1, 4))
    await reported(store, 4)
    await store.lose_everything()
    await store.close_session(await store.open_session("x", 5))
    for session in list(store._sessions):
        await store.close_session(session)
    await reported(store, 4)


async def test_a_report_that_the_store_has_lost_is_made_again(store: Memory) -> None:
    reporter = Reporter(store, "gate-1", 1)
    work = asyncio.create_task(reporter.run())
    reporter.say(Report(1, 4, revoked={"k1": 7}))
    await reported(store, 4)
    entry = (await store.read(GATES_PREFIX + "gate-1")).entries[""]
    assert GateReport.parse(entry.value, "report").revoked == {"k1": 7}
    old = GateReport(id="gate-1", epoch=1, number=3, at=0).to_bytes()
    assert await store.lock(GATES_PREFIX + "gate-1", old, entry.session)
    await reported(store, 4)
    work.cancel()
