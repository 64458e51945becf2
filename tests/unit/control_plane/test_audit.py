"""The audit trail: what is in it, over the API and under the next leader; what is found in one that was changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from control_plane.api import create_app
from control_plane.audit import START, AuditRecord, Draft, Head, hash_of, verified
from control_plane.engine import Engine
from control_plane.kept import AUDIT_HEAD_KEY, AUDIT_PREFIX, HISTORY_PREFIX
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane
from control_plane.trail import Trail, audit_key
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C10")
TOKEN = {"Authorization": "Bearer secret-token"}


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
async def plane(store: Memory) -> AsyncIterator[ControlPlane]:
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        yield plane


@pytest.fixture
async def api(store: Memory, plane: ControlPlane) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), "secret-token"))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN) as client:
        await client.post("/v1/init", json={})
        yield client


async def records(api: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    """All records, oldest first, once there are so many."""

    async def there() -> list[dict[str, Any]] | None:
        found = (await api.get("/v1/audit", params={"after": "0", "limit": "1000"})).json()["records"]
        return found if len(found) >= count else None

    return await eventually(there, f"{count} records of the audit trail", 20)


async def test_changes_are_in_it_by_their_revision_and_refused_ones_by_their_reason(api: httpx.AsyncClient) -> None:
    await api.post("/v1/clients", json={"id": "ci", "reason": "nightly"})
    await api.post("/v1/clients", json={"id": "ci", "reason": "nightly"})
    await api.post("/v1/clients", json={"id": "UPPER", "reason": "typo"})
    await api.post("/v1/clients", json={"id": "ci", "allow": [], "reason": "other"})
    await api.post("/v1/clients", json={"id": "dry", "reason": "look", "dry_run": True})
    await api.request("POST", "/v1/clients", json={"id": "x", "reason": "y"}, headers={"Authorization": "Bearer no"})
    viewer = (await api.post("/v1/operators", json={"name": "vera", "role": "viewer", "reason": "x"})).json()["token"]
    await api.post("/v1/clients", json={"id": "v", "reason": "try"}, headers={"Authorization": f"Bearer {viewer}"})
    found = await records(api, 8)
    told = [(one["who"], one["what"], one["why"], one["result"], one["status"], one["after"]) for one in found]
    assert told == [
        ("control-plane", "init", "first start", "done", 0, 0),
        ("operator", "client.add", "nightly", "done", 0, 1),
        ("operator", "add-client", "nightly", "unchanged", 200, 1),
        ("operator", "add-client", "typo", "refused", 422, 0),
        ("operator", "add-client", "other", "refused", 409, 0),
        ("", "", "", "refused", 401, 0),
        ("operator", "operator.add", "x", "done", 0, 2),
        ("vera", "add-client", "try", "refused", 403, 0),
    ]
    assert "needs the role admin" in found[-1]["said"]
    assert found[1]["before"] == 0


async def test_it_is_paged_and_exported_as_lines_that_verify_by_themselves(api: httpx.AsyncClient) -> None:
    for number in range(30):
        await api.post("/v1/clients", json={"id": f"c{number}", "reason": "x"})
    found = await records(api, 31)
    page = (await api.get("/v1/audit", params={"before": "20", "limit": "5"})).json()["records"]
    assert [one["number"] for one in page] == [19, 18, 17, 16, 15]
    answer = await api.get("/v1/audit?after=0&limit=1000", headers={"Accept": "application/x-ndjson"})
    lines = answer.text.encode().splitlines()
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines] == found
    verdict = (await api.get("/v1/audit/verify")).json()
    assert (verdict["good"], verdict["records"], verdict["hash"]) == (True, 31, verified(lines).hash)
    assert (await api.get("/v1/audit", params={"limit": "1001"})).status_code == 422


async def test_a_record_changed_by_another_hand_is_named(api: httpx.AsyncClient, store: Memory) -> None:
    for number in range(12):
        await api.post("/v1/clients", json={"id": f"c{number}", "reason": "x"})
    await records(api, 13)
    key = audit_key(7)
    [raw] = [entry.value for name, entry in (await store.read(key)).entries.items() if not name]
    store.put(key, raw.replace(b'"who":"operator"', b'"who":"somebody"'))
    verdict = (await api.get("/v1/audit/verify")).json()
    assert (verdict["good"], verdict["tampered"]) == (False, 7)
    store.put(key, raw)
    assert (await api.get("/v1/audit/verify")).json()["good"]


async def test_a_revision_changed_by_another_hand_is_named_by_its_record(api: httpx.AsyncClient, store: Memory) -> None:
    await api.post("/v1/clients", json={"id": "ci", "reason": "honest"})
    await records(api, 2)
    [key] = [name for name in (await store.read(HISTORY_PREFIX)).entries if name.endswith("-0000000001")]
    raw = (await store.read(HISTORY_PREFIX + key)).entries[""].value
    store.put(HISTORY_PREFIX + key, raw.replace(b"honest", b"edited"))
    verdict = (await api.get("/v1/audit/verify")).json()
    assert (verdict["tampered"], "revision 1 is not what was written" in verdict["problem"]) == (2, True)


def chain(count: int) -> tuple[list[bytes], Head]:
    lines, prev = [], START
    for number in range(1, count + 1):
        draft = Draft(at=number, who="ada", what="client.add")
        lines.append(AuditRecord.after_one(draft, number, prev).line())
        prev = hash_of(lines[-1])
    return lines, Head(number=count, hash=prev)


def forged(line: bytes, **fields: object) -> bytes:
    return AuditRecord.model_validate_json(line).model_copy(update=fields).line()


@pytest.mark.parametrize("place", [0, 1, 5, 8, 9])
def test_whichever_record_is_changed_the_first_is_named(place: int) -> None:
    lines, head = chain(10)
    assert verified(lines, head).problem == ""
    for changed in (
        forged(lines[place], who="eve"),
        forged(lines[place], prev="f" * 64),
        lines[place].replace(b",", b", ", 1),
        b"",
        b"{}",
    ):
        verdict = verified([*lines[:place], changed, *lines[place + 1 :]], head)
        assert verdict.tampered == place + 1, verdict
    gone = verified(lines[:place] + lines[place + 1 :], head)
    assert gone.tampered == place + 1


def test_records_made_anew_up_to_the_end_do_not_fit_it() -> None:
    lines, head = chain(5)
    assert verified([*lines[:-1], forged(lines[-1], who="eve")], head).tampered == 5
    assert verified(chain(4)[0], head).problem == "record 5 is missing"


async def test_a_new_leader_goes_on_where_the_last_one_was_and_takes_in_what_that_one_left(store: Memory) -> None:
    gate = ObedientGate(store, "gate-1")
    async with running(control_plane(store, "one"), gate) as first:
        transport = httpx.ASGITransport(create_app(first, Engine(first, store), "secret-token"))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN) as api:
            await api.post("/v1/init", json={})
            await api.post("/v1/clients", json={"id": "a", "reason": "x"})
            await records(api, 2)
            held = {name: entry.value for name, entry in (await store.read(AUDIT_PREFIX)).entries.items()}
            head = (await store.read(AUDIT_HEAD_KEY)).entries[""].value
            await api.post("/v1/clients", json={"id": "b", "reason": "x"})
            await records(api, 3)
    # As a leader leaves it that dies between the change and the trail.
    store.put(audit_key(3), None)
    store.put(AUDIT_HEAD_KEY, head)
    async with running(control_plane(store, "two"), ObedientGate(store, "gate-1")) as second:
        transport = httpx.ASGITransport(create_app(second, Engine(second, store), "secret-token"))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN) as api:
            await api.post("/v1/clients", json={"id": "c", "reason": "x"})
            found = await records(api, 4)
            assert [one["after"] for one in found] == [0, 1, 2, 3]
            assert (await api.get("/v1/audit/verify")).json()["good"]
    after = {name: entry.value for name, entry in (await store.read(AUDIT_PREFIX)).entries.items()}
    assert held.items() <= after.items()


async def test_the_oldest_block_goes_and_what_stays_verifies(store: Memory) -> None:
    leadership = Leadership(store, "one", url="http://one")
    plane = ControlPlane(store, store, leadership, now=lambda: 1000.0)
    async with running(plane):
        trail = Trail(store, leadership, lambda: 1000.0, keep=20, block=10)
        for number in range(35):
            await trail.tell(Draft(at=number, who="ada", what="x"))
        verdict = await trail.verify()
        assert (verdict.problem, verdict.first, verdict.last) == ("", 11, 35)
        assert len((await store.read(AUDIT_PREFIX)).entries) == 25
