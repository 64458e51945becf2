"""Changes that meet a standby: sent on to the leader once, unchanged, or refused with the truth about what was done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx
import pytest

from control_plane.api import create_app
from control_plane.api.forward import FORWARDED, REPLICA, Forward
from control_plane.engine import Engine
from control_plane.form import SCHEMA
from control_plane.kept import HISTORY_PREFIX
from control_plane.leadership import LEADER_KEY
from control_plane.loop import ControlPlane
from control_plane.model import HistoryRecord
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running, standing_by
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C12")
TOKEN = {"Authorization": "Bearer secret-token"}
CI = {"id": "ci", "reason": "x"}
Fate = Callable[[httpx.Request], Exception]


@dataclass
class Road(httpx.AsyncBaseTransport):
    """From a standby to the leader; counts who passes, and can end the call on the way or on the way back.

    Args:
        end: Where it leads.
        fates: What becomes of the next calls, instead of an answer.
        arrives: Whether a call with a fate is carried out all the same.
    """

    end: httpx.ASGITransport
    fates: list[Fate] = field(default_factory=list)
    arrives: bool = False
    passed: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.passed.append(request)
        if not self.fates:
            return await self.end.handle_async_request(request)
        if self.arrives:
            await self.end.handle_async_request(request)
        raise self.fates.pop(0)(request)


@dataclass
class Two:
    """A leader and a standby over one store, and a client of the standby.

    Args:
        api: Asks the standby.
        road: From the standby to the leader.
    """

    store: Memory
    leader: ControlPlane
    standby: ControlPlane
    api: httpx.AsyncClient
    road: Road

    async def records(self) -> list[HistoryRecord]:
        """All records there are."""
        listing = await self.store.read(HISTORY_PREFIX)
        return [HistoryRecord.parse(entry.value, key) for key, entry in sorted(listing.entries.items())]


def client(plane: ControlPlane, store: Memory, forward: Forward) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), "secret-token", forward))
    return httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN)


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    store = Memory()
    one, other = control_plane(store, "one"), control_plane(store, "two")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running(one, ObedientGate(store, "gate-1")))
        await stack.enter_async_context(standing_by(other))
        road = Road(httpx.ASGITransport(create_app(one, Engine(one, store), "secret-token")))
        http = await stack.enter_async_context(httpx.AsyncClient(mounts={"http://one": road}))
        api = await stack.enter_async_context(client(other, store, Forward(other, http, wait_s=1)))
        made = Two(store, one, other, api, road)
        assert (await api.post("/v1/init", json={})).json()["initialised"]
        yield made


async def test_a_change_is_carried_out_by_the_leader_and_its_answer_comes_back_unchanged(two: Two) -> None:
    answer = await two.api.post("/v1/clients", json=CI)
    assert (answer.status_code, answer.json()["in_force"]) == (200, True)
    assert answer.headers[REPLICA] == "one"
    assert two.road.passed[-1].headers[FORWARDED] == "two"


async def test_a_standby_reads_by_itself(two: Two) -> None:
    before = len(two.road.passed)
    answer = await two.api.get("/v1/clients")
    assert (answer.status_code, answer.headers[REPLICA]) == (200, "two")
    assert len(two.road.passed) == before


async def test_a_problem_comes_back_as_the_leader_told_it(two: Two) -> None:
    answer = await two.api.post("/v1/clients", json={"id": "UPPER", "reason": "x"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "id: String should match pattern" in answer.json()["detail"]
    assert answer.headers[REPLICA] == "one"


async def test_path_and_query_arrive_as_they_were_asked(two: Two) -> None:
    await two.api.post("/v1/clients", json=CI)
    answer = await two.api.delete("/v1/clients/c%69", params={"reason": "über & out = 100 %"})
    assert answer.status_code == 200
    assert (await two.records())[-1].reason == "über & out = 100 %"
    assert two.road.passed[-1].url.raw_path.startswith(b"/v1/clients/c%69?")


async def test_without_the_operator_token_nothing_is_sent_on(two: Two) -> None:
    before = len(two.road.passed)
    answer = await two.api.post("/v1/clients", json=CI, headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.headers[REPLICA]) == (401, "two")
    assert len(two.road.passed) == before


async def test_a_change_that_the_fence_refused_is_told_as_not_made(two: Two) -> None:
    session = (await two.store.read(LEADER_KEY)).entries[""].session
    async with client(two.leader, two.store, Forward(two.leader, httpx.AsyncClient(), wait_s=1)) as api:
        await two.store.close_session(session)
        answer = await api.post("/v1/clients", json=CI)
    assert (answer.status_code, answer.json()["title"], answer.headers["retry-after"]) == (503, "Not the leader", "1")
    assert "is gone, nothing was written" in answer.json()["detail"]


async def test_a_call_that_was_sent_on_goes_no_further(two: Two) -> None:
    before = len(two.road.passed)
    answer = await two.api.post("/v1/clients", json=CI, headers={FORWARDED: "three"})
    assert (answer.status_code, answer.json()["title"]) == (503, "Not the leader")
    assert answer.headers["retry-after"] == "1"
    assert len(two.road.passed) == before


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize(
    "fate",
    [
        lambda request: httpx.ReadError("connection reset", request=request),
        lambda request: httpx.RemoteProtocolError("disconnected", request=request),
        lambda request: httpx.ReadTimeout("", request=request),
        lambda request: httpx.WriteError("broken pipe", request=request),
    ],
    ids=["reset", "closed", "silent", "broken"],
)
async def test_a_leader_that_dies_during_a_change_leaves_it_open_and_nobody_repeats_it(
    two: Two, fate: Fate, arrives: bool
) -> None:
    before = len(two.road.passed)
    two.road.fates, two.road.arrives = [fate], arrives
    answer = await two.api.post("/v1/clients", json=CI)
    assert (answer.status_code, answer.json()["title"]) == (502, "Outcome unknown")
    assert "may or may not have been carried out" in answer.json()["detail"]
    assert len(two.road.passed) == before + 1
    assert [record.verb for record in await two.records()] == ["init", *["client.add"] * arrives]
    again = await two.api.post("/v1/clients", json=CI)
    assert (again.status_code, again.json()["changed"]) == (200, not arrives)


async def test_a_leader_that_cannot_be_reached_is_tried_until_it_can(two: Two) -> None:
    two.road.fates = [lambda request: httpx.ConnectError("refused", request=request)] * 2
    answer = await two.api.post("/v1/clients", json=CI)
    assert (answer.status_code, answer.json()["changed"]) == (200, True)


async def test_a_leader_that_was_restarted_and_leads_no_more_is_asked_again_until_somebody_does(two: Two) -> None:
    session = (await two.store.read(LEADER_KEY)).entries[""].session
    impostor = await two.store.open_session("former life", 5)
    await two.store.close_session(session)
    former = two.leader.leadership.me
    assert await two.store.lock(LEADER_KEY, former.to_bytes(), impostor)

    async def noticed() -> bool:
        return not two.leader.leadership.leading

    await eventually(noticed, "the leader to notice", 20)
    change = asyncio.create_task(two.api.post("/v1/clients", json=CI))

    async def sent() -> bool:
        return two.road.passed[-1].url.path == "/v1/clients"

    await eventually(sent, "the change to be sent on", 20)
    await two.store.close_session(impostor)
    answer = await change
    assert (answer.status_code, answer.json()["changed"]) == (200, True)


async def test_a_leader_that_stays_unreachable_is_named(two: Two) -> None:
    two.road.fates = [lambda request: httpx.ConnectError("refused", request=request)] * 100
    answer = await two.api.post("/v1/clients", json=CI)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "the leader, one at http://one, cannot be reached; nothing was changed" in answer.json()["detail"]
    assert len(await two.records()) == 1


async def test_while_nobody_leads_a_change_waits_for_the_next_leader(two: Two) -> None:
    session = (await two.store.read(LEADER_KEY)).entries[""].session
    change = asyncio.create_task(two.api.post("/v1/clients", json=CI))
    await two.store.close_session(session)
    answer = await change
    assert (answer.status_code, answer.json()["changed"]) == (200, True)


async def test_a_store_that_is_away_is_told_and_nothing_is_sent(two: Two) -> None:
    before = len(two.road.passed)
    two.store.away = True
    answer = await two.api.post("/v1/clients", json=CI)
    two.store.away = False
    assert (answer.status_code, answer.json()["title"]) == (503, "Not the leader")
    assert "plays dead; nothing was changed" in answer.json()["detail"]
    assert len(two.road.passed) == before


async def test_every_replica_names_the_leader_and_all_that_live(two: Two) -> None:
    shown = (await two.api.get("/v1/status")).json()
    assert (shown["replica"], shown["leading"], shown["leader"]) == ("two", False, "one")
    assert shown["replicas"] == [
        {"id": "one", "url": "http://one", "leading": True},
        {"id": "two", "url": "http://two", "leading": False},
    ]


async def test_a_standby_is_ready_once_somebody_leads(two: Two) -> None:
    assert (await two.api.get("/ready")).json() == {"status": "standing by", "led": True, "form": SCHEMA}
