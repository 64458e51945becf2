"""Changes under an `Idempotency-Key`: made once, answered as before, also by the next leader."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from control_plane.api import create_app
from control_plane.engine import Engine
from control_plane.errors import Conflict, Refused
from control_plane.kept import ASKED_PREFIX
from control_plane.leadership import LEADER_KEY
from control_plane.loop import ControlPlane
from control_plane.model import HistoryRecord
from control_plane.once import Answer, Call, Once, Remembered
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running

pytestmark = pytest.mark.feature("C9")
TOKEN = {"Authorization": "Bearer secret-token"}
KEYED = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
CI = {"id": "ci", "reason": "x"}


def client(plane: ControlPlane, store: Memory) -> httpx.AsyncClient:
    app = create_app(plane, Engine(plane, store), "secret-token")
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers=TOKEN)


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
async def plane(store: Memory) -> AsyncIterator[ControlPlane]:
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        yield plane


@pytest.fixture
async def api(plane: ControlPlane, store: Memory) -> AsyncIterator[httpx.AsyncClient]:
    async with client(plane, store) as api:
        await api.post("/v1/init", json={})
        await api.post("/v1/clients", json=CI)
        yield api


async def test_a_key_that_is_asked_for_twice_is_made_once(api: httpx.AsyncClient) -> None:
    first = await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
    again = await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
    assert (again.status_code, again.json()) == (200, first.json())
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert len((await api.get("/v1/clients/ci/keys")).json()["keys"]) == 1


async def test_the_key_needs_no_quotes_and_is_the_same_with_them(api: httpx.AsyncClient) -> None:
    bare = {"Idempotency-Key": KEYED["Idempotency-Key"].strip('"')}
    first = await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
    assert (await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=bare)).json() == first.json()


@pytest.mark.parametrize("given", ['""', '"', "two words", "x" * 129, '"open', "a\\b"])
async def test_a_key_that_is_none_is_refused_and_nothing_is_done(api: httpx.AsyncClient, given: str) -> None:
    answer = await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers={"Idempotency-Key": given})
    assert (answer.status_code, "Idempotency-Key" in answer.json()["detail"]) == (400, True)
    assert (await api.get("/v1/clients/ci/keys")).json()["keys"] == []


@pytest.mark.parametrize("other", ["body", "path", "query"])
async def test_another_request_under_the_same_key_is_refused(api: httpx.AsyncClient, other: str) -> None:
    await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
    path = {"path": "/v1/clients/no/keys", "query": "/v1/clients/ci/keys?a=1"}.get(other, "/v1/clients/ci/keys")
    body = {"reason": "y" if other == "body" else "x"}
    answer = await api.post(path, json=body, headers=KEYED)
    assert (answer.status_code, "stands for another request" in answer.json()["detail"]) == (422, True)
    assert len((await api.get("/v1/clients/ci/keys")).json()["keys"]) == 1


async def test_a_call_that_is_under_way_is_not_begun_again(plane: ControlPlane, store: Memory) -> None:
    async with client(plane, store) as api:
        await api.post("/v1/init", json={})
        call = Call("operator", "secret-token", KEYED["Idempotency-Key"].strip('"'), b"")
        await plane.once.begin(call)
        answer = await api.post("/v1/clients", json=CI, headers=KEYED)
        assert (answer.status_code, answer.json()["title"]) == (409, "Under way")
        assert answer.headers["retry-after"] == "1"
        assert (await api.get("/v1/clients")).json()["clients"] == []


async def test_what_was_refused_is_judged_anew(api: httpx.AsyncClient) -> None:
    wish = {"reason": "x"}
    assert (await api.post("/v1/clients/later/keys", json=wish, headers=KEYED)).status_code == 404
    await api.post("/v1/clients", json={"id": "later", "reason": "x"})
    assert (await api.post("/v1/clients/later/keys", json=wish, headers=KEYED)).status_code == 200


async def test_a_dry_run_takes_no_key(api: httpx.AsyncClient, store: Memory) -> None:
    await api.post("/v1/clients/ci/keys", json={"reason": "x", "dry_run": True}, headers=KEYED)
    assert not (await store.read(ASKED_PREFIX)).entries
    assert (await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)).json()["changed"]


async def test_operators_do_not_share_keys(api: httpx.AsyncClient) -> None:
    body = {"name": "ada", "role": "admin", "reason": "x"}
    ada = {"Authorization": f"Bearer {(await api.post('/v1/operators', json=body)).json()['token']}"}
    await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
    assert (await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED | ada)).status_code == 200
    assert len((await api.get("/v1/clients/ci/keys")).json()["keys"]) == 2


async def test_no_answer_lies_bare_in_the_store_and_another_token_does_not_open_it(
    api: httpx.AsyncClient, store: Memory
) -> None:
    body = {"name": "ada", "role": "admin", "reason": "x"}
    ada = {"Authorization": f"Bearer {(await api.post('/v1/operators', json=body)).json()['token']}"}
    made = (await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED | ada)).json()
    held = b"".join(entry.value for entry in (await store.read(ASKED_PREFIX)).entries.values())
    assert held
    assert made["key"].encode() not in held
    renewed = (await api.post("/v1/operators/ada/rotate", json={"reason": "x", "overlap_s": 0})).json()["token"]
    answer = await api.post(
        "/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED | {"Authorization": f"Bearer {renewed}"}
    )
    assert (answer.status_code, "for another token" in answer.json()["detail"]) == (409, True)


async def test_the_next_leader_answers_as_the_last_one_did(store: Memory) -> None:
    async with contextlib.AsyncExitStack() as gates:
        async with (
            running(control_plane(store, "one"), ObedientGate(store, "gate-1")) as one,
            client(one, store) as api,
        ):
            await api.post("/v1/init", json={})
            await api.post("/v1/clients", json=CI)
            first = await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
        two = await gates.enter_async_context(running(control_plane(store, "two"), ObedientGate(store, "gate-1")))
        async with client(two, store) as api:
            again = await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
            assert again.json() == first.json()
            assert len((await api.get("/v1/clients/ci/keys")).json()["keys"]) == 1


async def as_if_it_had_died(store: Memory) -> None:
    """Of every call only that it began."""
    for name, entry in (await store.read(ASKED_PREFIX)).entries.items():
        began = Remembered.parse(entry.value, name).model_copy(update={"status": 0, "answer": ""})
        store.put(ASKED_PREFIX + name, began.to_bytes())


async def test_what_a_leader_made_and_never_answered_is_told_and_not_made_again(
    api: httpx.AsyncClient, store: Memory
) -> None:
    made = (await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)).json()
    for number in range(120):
        await api.post("/v1/state/notes", json={"what": f"n{number}", "reason": "x"})
    await as_if_it_had_died(store)
    answer = await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
    assert answer.status_code == 409
    assert f"was carried out as revision {made['revision']}" in answer.json()["detail"]
    assert len((await api.get("/v1/clients/ci/keys")).json()["keys"]) == 1


async def test_what_a_leader_began_and_never_made_is_made_now(
    plane: ControlPlane, api: httpx.AsyncClient, store: Memory
) -> None:
    await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
    (name, entry), *_ = (await store.read(ASKED_PREFIX)).entries.items()
    revision = (await plane.page()).revision.number
    began = Remembered.parse(entry.value, name).model_copy(update={"status": 0, "answer": "", "revision": revision})
    store.put(ASKED_PREFIX + name, began.to_bytes())
    assert (await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)).status_code == 200


async def test_a_leader_that_lost_its_session_takes_no_call(api: httpx.AsyncClient, store: Memory) -> None:
    await store.close_session((await store.read(LEADER_KEY)).entries[""].session)
    answer = await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_the_record_of_a_change_names_its_call(api: httpx.AsyncClient, store: Memory) -> None:
    made = (await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)).json()
    records = (await store.read("tekup/state/history/")).entries.items()
    named = {one.number: one.asked for one in (HistoryRecord.parse(entry.value, key) for key, entry in records)}
    assert [number for number, asked in named.items() if asked] == [made["revision"]]


async def test_calls_at_once_under_one_key_make_one_key(api: httpx.AsyncClient) -> None:
    async def ask() -> int:
        return (await api.post("/v1/clients/ci/keys", json={"reason": "x"}, headers=KEYED)).status_code

    told = await asyncio.gather(*(ask() for _ in range(8)))
    assert set(told) <= {200, 409}
    assert 200 in told
    assert len((await api.get("/v1/clients/ci/keys")).json()["keys"]) == 1


def call(number: int, operator: str = "ada") -> Call:
    return Call(operator, "token", f"k{number}", b"same")


async def test_what_is_remembered_is_bounded_in_number_and_the_oldest_goes_first(
    plane: ControlPlane, store: Memory
) -> None:
    now = [1000.0]
    once = Once(store, plane.leadership, lambda: now[0], most=6, most_each=4)
    for number in range(8):
        now[0] += 1
        await once.begin(call(number, "ada" if number % 2 else "eve"))
        await once.end(call(number, "ada" if number % 2 else "eve"), Answer(200, b"{}"))
    assert len((await store.read(ASKED_PREFIX)).entries) == 6
    assert await once.begin(call(7)) == Answer(200, b"{}")
    assert await once.begin(call(1)) is None


async def test_what_is_remembered_is_bounded_in_time(plane: ControlPlane, store: Memory) -> None:
    now = [1000.0]
    once = Once(store, plane.leadership, lambda: now[0])
    await once.begin(call(1))
    await once.end(call(1), Answer(200, b"{}"))
    now[0] += 86_399
    assert await once.begin(call(1)) == Answer(200, b"{}")
    now[0] += 2
    assert await once.begin(call(1)) is None
    await once.end(call(1), Answer(200, b"{}"))
    await once.begin(call(2))
    assert len((await store.read(ASKED_PREFIX)).entries) == 2


async def test_an_answer_too_large_to_keep_is_told_as_such(plane: ControlPlane, store: Memory) -> None:
    once = Once(store, plane.leadership)
    await once.begin(call(1))
    await once.end(call(1), Answer(200, json.dumps("x" * 20_000).encode()))
    with pytest.raises(Conflict, match="too large to keep"):
        await once.begin(call(1))


async def test_an_outcome_nobody_knows_is_looked_up_by_who_asks_again(plane: ControlPlane, store: Memory) -> None:
    once = Once(store, plane.leadership)
    await once.begin(call(1))
    once.leave(call(1))
    with pytest.raises(Refused, match="stands for another request"):
        await once.begin(Call("ada", "token", "k1", b"other"))
    assert await once.begin(call(1)) is None
