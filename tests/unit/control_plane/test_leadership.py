"""Leadership over a store in memory: who is elected, and for how long a leader may believe in itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from control_plane.errors import Elsewhere, NotLeader
from control_plane.leadership import LEADER_KEY, REPLICAS_PREFIX, Leadership
from control_plane.ports import Write
from tests.support.memory import Memory
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C12")
TTL_S = 2


class Clock:
    """Stands still but for what the test adds, as if this process had been frozen so long."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@contextlib.asynccontextmanager
async def campaigning(*replicas: Leadership) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(replica.run()) for replica in replicas]
        try:
            yield
        finally:
            for task in work:
                task.cancel()


async def until(replica: Leadership, *, leading: bool) -> None:
    async def so() -> bool:
        return replica.leading is leading

    await eventually(so, f"{replica.me.replica} to be {'leader' if leading else 'standby'}", 20)


async def test_a_leader_that_was_frozen_beyond_its_time_acts_no_more_before_it_has_asked_consul() -> None:
    clock = Clock()
    one = Leadership(Memory(), "one", ttl_s=TTL_S, clock=clock)
    async with campaigning(one):
        await until(one, leading=True)
        one.fence()
        clock.now_s += TTL_S
        assert not one.leading
        with pytest.raises(NotLeader):
            one.fence()
        await until(one, leading=True)


async def test_a_leader_whose_session_is_lost_stands_by_and_another_leads() -> None:
    store = Memory()
    one, two = (Leadership(store, name, ttl_s=TTL_S) for name in ("one", "two"))
    async with campaigning(one):
        await until(one, leading=True)
        async with campaigning(two):
            await store.close_session((await store.read(LEADER_KEY)).entries[""].session)
            await until(two, leading=True)
            await until(one, leading=False)


async def test_a_leader_stopped_in_order_is_followed_at_once_and_leaves_no_trace() -> None:
    store = Memory()
    one, two = (Leadership(store, name, ttl_s=60) for name in ("one", "two"))
    async with contextlib.AsyncExitStack() as stack:
        async with campaigning(one):
            await until(one, leading=True)
            await stack.enter_async_context(campaigning(two))
            assert not two.leading
        await asyncio.wait_for(two.held(), 5)
        assert set((await store.read(REPLICAS_PREFIX)).entries) == {"two"}


async def test_without_consul_a_leader_is_one_for_its_time_only_and_again_once_consul_answers() -> None:
    store = Memory()
    one = Leadership(store, "one", ttl_s=TTL_S)
    async with campaigning(one):
        await until(one, leading=True)
        store.away = True
        assert one.leading
        await until(one, leading=False)
        store.away = False
        await until(one, leading=True)
        assert (await store.read(LEADER_KEY)).entries[""].value == one.me.to_bytes()


async def test_a_leader_whose_key_another_hand_deletes_gets_it_back_or_stands_by() -> None:
    store = Memory()
    one, two = (Leadership(store, name, ttl_s=TTL_S) for name in ("one", "two"))
    async with campaigning(one):
        await until(one, leading=True)
        await store.commit([Write(LEADER_KEY, None)])
        async with campaigning(two):

            async def agreed() -> bool:
                entry = (await store.read(LEADER_KEY)).entries.get("")
                held = entry.session if entry else ""
                return [held == leader.fence().session for leader in (one, two) if leader.leading] == [True]

            await eventually(agreed, "one leader, whom the store knows", 20)


async def test_in_a_region_that_follows_somebody_is_elected_and_keeps_its_own_but_nobody_leads() -> None:
    one = Leadership(Memory(), "one", ttl_s=TTL_S)
    one.written_elsewhere("this region follows http://west")
    async with campaigning(one):
        await asyncio.wait_for(one.chosen(), 20)
        assert one.elected
        assert not one.leading
        assert one.own_fence()
        with pytest.raises(Elsewhere, match="http://west"):
            one.fence()
        waiting = asyncio.create_task(one.held())
        await asyncio.sleep(0)
        assert not waiting.done()
        one.written_elsewhere("")
        await asyncio.wait_for(waiting, 5)
        assert one.fence()
