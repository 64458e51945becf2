"""Live state: what is told, resumed from, bounded, and to whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest

from control_plane.api.events import Events, TooMany
from tests.support.console_world import TOKEN, World, console_world, instance, served
from tests.support.memory import Memory
from tests.support.plane import control_plane

pytestmark = pytest.mark.feature("C14")
Told = tuple[str, str, dict[str, Any]]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def events(**bounds: int) -> Events:
    store = Memory()
    return Events(control_plane(store), store, **bounds)


async def heard(stream: AsyncGenerator[str, None], count: int) -> list[Told]:
    """So many events, without what is said beside them."""
    found: list[Told] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            lines = dict(line.split(": ", 1) for line in (await anext(stream)).splitlines() if ": " in line)
            if "event" in lines:
                found.append((lines["id"], lines["event"], json.loads(lines["data"])))
    return found


async def test_a_listener_hears_what_changes_from_then_on() -> None:
    some = events()
    some.tell("gate", {"id": "before"})
    async with contextlib.aclosing(some.listen()) as stream:
        await anext(stream)
        some.tell("gate", {"id": "after"})
        assert [(kind, fields) for _, kind, fields in await heard(stream, 1)] == [("gate", {"id": "after"})]


async def test_who_comes_again_hears_what_was_missed_and_nothing_twice() -> None:
    some = events()
    async with contextlib.aclosing(some.listen()) as stream:
        await anext(stream)
        some.tell("gate", {"n": 1})
        ((last, _, _),) = await heard(stream, 1)
    some.tell("gate", {"n": 2})
    some.tell("gate", {"n": 3})
    async with contextlib.aclosing(some.listen(last)) as stream:
        assert [fields["n"] for _, _, fields in await heard(stream, 2)] == [2, 3]


@pytest.mark.parametrize("last", ["nonsense", "aaaaaaaa-1", "-1", "x" * 500])
async def test_an_id_of_another_replica_is_answered_with_reset(last: str) -> None:
    some = events()
    some.tell("gate", {})
    async with contextlib.aclosing(some.listen(last)) as stream:
        ((_, kind, _),) = await heard(stream, 1)
    assert kind == "reset"


async def test_an_id_that_has_left_the_ring_is_answered_with_reset_and_then_what_is_new() -> None:
    some = events(kept=3)
    some.tell("gate", {"n": 0})
    async with contextlib.aclosing(some.listen()) as stream:
        await anext(stream)
        for number in range(1, 6):
            some.tell("gate", {"n": number})
        assert [kind for _, kind, _ in await heard(stream, 1)] == ["reset"]
        some.tell("gate", {"n": 6})
        assert [fields for _, _, fields in await heard(stream, 1)] == [{"n": 6}]


async def test_no_more_listen_than_may_and_who_leaves_makes_room() -> None:
    some = events(most=1)
    async with contextlib.aclosing(some.listen()) as first:
        await anext(first)
        with pytest.raises(TooMany, match="1 listen already"):
            await anext(some.listen())
    assert some.listening == 0


async def test_a_stream_ends_after_a_while_so_that_its_token_is_looked_at_again() -> None:
    async with asyncio.timeout(20):
        said = [text async for text in events().listen(longest_s=0.05)]
    assert said[0].startswith("retry: ")
    assert said[-1] == ": still here\n\n"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with console_world() as made:
        yield made


async def test_revision_instances_and_rollouts_are_told(world: World) -> None:
    async with contextlib.aclosing(world.events.listen()) as stream:
        await anext(stream)
        await world.register(instance("ledger", "1.0.0", 1), instance("ledger", "1.1.0", 2))
        await world.api.post("/v1/services/ledger/rollout", json={"version": "1.1.0", "reason": "x"})
        told: dict[str, list[dict[str, Any]]] = {}
        while not {"revision", "instance", "rollout", "gate"} <= told.keys():
            ((_, kind, fields),) = await heard(stream, 1)
            told.setdefault(kind, []).append(fields)
    assert told["instance"][0].items() >= {"service": "ledger", "state": "serving", "passing": True}.items()
    assert told["rollout"][0]["canary"] == "1.1.0"
    assert told["revision"][0]["epoch"] == 1


@pytest.mark.long  # a blocking read of the store in memory takes 10 s to learn of it
async def test_a_store_that_is_away_and_back_is_told(world: World) -> None:
    async with contextlib.aclosing(world.events.listen()) as stream:
        await anext(stream)
        world.store.away = True
        for answers in (False, True):
            world.store.away = not answers
            told: list[Told] = []
            while ("store", {"answers": answers}) not in [(kind, fields) for _, kind, fields in told]:
                told += await heard(stream, 1)


async def test_over_http_it_is_an_event_stream_for_operators_alone(world: World) -> None:
    async with served(world) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        assert (await http.get("/v1/events")).status_code == 401
        async with http.stream("GET", "/v1/events", headers=BEARER) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("retry: ")
            world.events.tell("gate", {"id": "gate-7"})
            async with asyncio.timeout(20):
                while "gate-7" not in await anext(lines):
                    pass
