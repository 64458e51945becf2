"""What every store must do; run over the one in memory and over a real Consul."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from control_plane.consul import Consul
from control_plane.errors import Conflict, Fenced, Unavailable
from control_plane.ports import Fence, Write
from tests.support.consul_process import ConsulProcess
from tests.support.memory import Memory

pytestmark = pytest.mark.feature("C2")
AnyStore = Memory | Consul


@pytest.fixture(params=["memory", pytest.param("consul", marks=pytest.mark.local)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[AnyStore]:
    if request.param == "memory":
        yield Memory()
        return
    server: ConsulProcess = request.getfixturevalue("shared_consul")
    async with Consul(server.url) as consul:
        yield consul


@pytest.fixture
def at() -> str:
    """A prefix of the test's own."""
    return f"test/{secrets.token_hex(4)}/"


async def test_what_is_committed_is_read_back_by_prefix(store: AnyStore, at: str) -> None:
    await store.commit([Write(at + "a", b"1"), Write(at + "b/c", b"2")])
    listing = await store.read(at)
    assert {key: entry.value for key, entry in listing.entries.items()} == {"a": b"1", "b/c": b"2"}


async def test_a_prefix_with_nothing_under_it_is_empty(store: AnyStore, at: str) -> None:
    assert (await store.read(at)).entries == {}


async def test_a_transaction_writes_all_or_nothing(store: AnyStore, at: str) -> None:
    await store.commit([Write(at + "a", b"1")])
    with pytest.raises(Conflict, match="changed by somebody else"):
        await store.commit([Write(at + "new", b"x"), Write(at + "a", b"2", expected_index=1)])
    assert {key: entry.value for key, entry in (await store.read(at)).entries.items()} == {"a": b"1"}


async def test_index_zero_means_must_not_exist(store: AnyStore, at: str) -> None:
    await store.commit([Write(at + "a", b"1", expected_index=0)])
    with pytest.raises(Conflict):
        await store.commit([Write(at + "a", b"2", expected_index=0)])


async def test_the_index_of_a_prefix_moves_with_what_lies_under_it_and_with_nothing_else(
    store: AnyStore, at: str
) -> None:
    await store.commit([Write(at + "a/x", b"1"), Write(at + "b/x", b"1")])
    listing, before = await store.read(at + "a/"), await store.index(at + "a/")
    assert before == listing.index == listing.entries["x"].index
    await store.commit([Write(at + "b/x", b"2")])
    assert await store.index(at + "a/") == before
    moved = asyncio.create_task(store.index(at + "a/", after=before, wait_s=10))
    await store.commit([Write(at + "a/x", b"2"), Write(at + "b/y", b"1")])
    assert await moved == (await store.read(at + "b/")).entries["y"].index
    await store.commit([Write(at + "a/x", None)])
    assert await store.index(at + "a/") > before


async def test_the_right_index_may_write_and_delete(store: AnyStore, at: str) -> None:
    await store.commit([Write(at + "a", b"1")])
    index = (await store.read(at)).entries["a"].index
    await store.commit([Write(at + "a", b"2", expected_index=index)])
    index = (await store.read(at)).entries["a"].index
    await store.commit([Write(at + "a", None, expected_index=index)])
    assert (await store.read(at)).entries == {}


async def test_a_blocking_read_returns_when_something_changes(store: AnyStore, at: str) -> None:
    await store.commit([Write(at + "a", b"1")])
    before = await store.read(at)
    waiting = asyncio.create_task(store.read(at, after=before.index, wait_s=10))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    await store.commit([Write(at + "a", b"2")])
    after = await asyncio.wait_for(waiting, 5)
    assert after.entries["a"].value == b"2"
    assert after.index > before.index


async def test_a_blocking_read_ends_by_its_time(store: AnyStore, at: str) -> None:
    before = await store.read(at)
    listing = await asyncio.wait_for(store.read(at, after=before.index, wait_s=0.2), 5)
    assert listing.entries == {}


async def test_a_lock_is_held_by_one_session_only(store: AnyStore, at: str) -> None:
    first, second = await store.open_session("one", 5), await store.open_session("two", 5)
    assert await store.lock(at + "leader", b"one", first)
    assert not await store.lock(at + "leader", b"two", second)
    await store.close_session(first)
    assert (await store.read(at)).entries["leader"].session == ""
    assert await store.lock(at + "leader", b"two", second)
    assert (await store.read(at)).entries["leader"].session == second


async def test_a_fenced_write_fails_once_the_session_is_gone(store: AnyStore, at: str) -> None:
    session = await store.open_session("leader", 5)
    await store.lock(at + "leader", b"me", session)
    fence = Fence(at + "leader", session)
    await store.commit([Write(at + "a", b"1")], fence)
    await store.close_session(session)
    with pytest.raises(Fenced, match="nothing was written"):
        await store.commit([Write(at + "a", b"2")], fence)
    assert (await store.read(at)).entries["a"].value == b"1"


async def test_renewing_a_session_tells_whether_it_lives(store: AnyStore) -> None:
    session = await store.open_session("short", 5)
    assert await store.renew_session(session)
    await store.close_session(session)
    assert not await store.renew_session(session)


async def test_binary_and_large_values_survive(store: AnyStore, at: str) -> None:
    value = bytes(range(256)) * 1500
    await store.commit([Write(at + "big", value)])
    assert (await store.read(at)).entries["big"].value == value


@pytest.mark.local
async def test_a_consul_that_is_away_is_unavailable_not_a_stack_trace(own_consul: ConsulProcess) -> None:
    async with Consul(own_consul.url, timeout_s=1) as consul:
        await consul.read("x")
        own_consul.kill()
        with pytest.raises(Unavailable, match="cannot be reached"):
            await consul.read("x")
        own_consul.start()
        assert (await consul.read("x")).entries == {}
