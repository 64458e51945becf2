"""Operators and the audit trail over a real Consul and three replicas: as each sees it, and as leaders change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from control_plane.model import Table
from control_plane.trail import audit_key
from tests.support.consul_process import ConsulProcess
from tests.support.replicas import Crew, replicas
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.feature("C9"), pytest.mark.feature("C10"), pytest.mark.timeout(180)]


@pytest.fixture
async def three_replicas(own_consul: ConsulProcess, tmp_path: Path) -> AsyncIterator[Crew]:
    async with replicas(own_consul, tmp_path, ttl_s=2, mirrors=True) as crew:
        yield crew


async def as_operator(crew: Crew, name: str, token: str, method: str, path: str, body: object = None) -> httpx.Response:
    """The answer of one replica to whoever shows a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return await crew.http.request(method, crew.members[name].url + path, json=body, headers=headers)


async def test_a_token_is_good_at_every_replica_and_revoked_at_every_replica_and_all_of_it_is_in_the_trail(
    three_replicas: Crew,
) -> None:
    crew = three_replicas
    body = {"name": "vera", "role": "viewer", "reason": "on call"}
    made = (await crew.ask("POST", "/v1/operators", body)).json()
    for name in crew.members:
        assert (await as_operator(crew, name, made["token"], "GET", "/v1/who")).json()["name"] == "vera"
        refused = await as_operator(crew, name, made["token"], "POST", "/v1/clients", {"id": "x", "reason": "try"})
        assert refused.status_code == 403, refused.text
    stored = await crew.consul.read("tekup/")
    assert made["token"].rpartition("_")[2] not in str(stored.entries)
    assert (await crew.ask("DELETE", "/v1/operators/vera?reason=left")).is_success
    for name in crew.members:
        assert (await as_operator(crew, name, made["token"], "GET", "/v1/who")).status_code == 401
    told = await trail(crew, 5)
    assert [(one["who"], one["what"], one["result"]) for one in told[-5:]] == [
        ("operator", "operator.add", "done"),
        *[("vera", "add-client", "refused")] * 3,
        ("operator", "operator.revoke", "done"),
    ]
    # One that another hand writes stops every change until somebody has accepted it.
    await put(crew, Table.OPERATORS.prefix + "eve", b'{"name":"eve","role":"admin","services":[],"tokens":[]}')

    async def noticed() -> bool:
        answer = await crew.ask("POST", "/v1/clients", {"id": "later", "reason": "x"})
        return answer.status_code == 409 and "tekup/operators/ does not fit revision" in answer.json()["detail"]

    await eventually(noticed, "the change by another hand to be noticed", 20)
    assert (await crew.ask("POST", "/v1/repair", {"reason": "accepted"})).is_success


async def trail(crew: Crew, more: int, after: int = 0) -> list[dict[str, object]]:
    """All of the trail above a record, once there are so many."""

    async def there() -> list[dict[str, object]] | None:
        answer = await crew.ask("GET", f"/v1/audit?after={after}&limit=1000")
        found: list[dict[str, object]] = answer.json()["records"]
        return found if len(found) >= more else None

    return await eventually(there, f"{more} records of the trail", 20)


async def test_the_trail_goes_on_under_the_next_leader_and_what_is_changed_in_it_is_named(three_replicas: Crew) -> None:
    crew = three_replicas
    last = int(str((await trail(crew, 1))[-1]["number"]))
    old = await crew.until_led()
    for number in range(5):
        assert (await crew.ask("POST", "/v1/clients", {"id": f"before-{number}", "reason": "x"})).is_success

    async def mirrored() -> bool:
        return len(log(crew, old)) > 5

    await eventually(mirrored, "the leader's git mirror", 20)
    await crew.kill(old)
    new = await crew.until_led(but=old)
    for number in range(5):
        assert (await crew.ask("POST", "/v1/clients", {"id": f"after-{number}", "reason": "x"}, of=new)).is_success
    crew.start(old)
    await crew.until_all_stand()
    await mirrors_agree(crew, old, new)
    found = await trail(crew, 10, last)
    revisions = [one["after"] for one in found]
    assert revisions == list(range(revisions[0], revisions[0] + 10)), "each revision once, whoever led"  # type: ignore[call-overload, operator]
    verdict = (await crew.ask("GET", "/v1/audit/verify")).json()
    assert (verdict["good"], verdict["last"]) == (True, last + 10)
    key = audit_key(last + 3)
    raw = (await crew.consul.read(key)).entries[""].value
    await put(crew, key, json.dumps({**json.loads(raw), "who": "somebody"}).encode())
    verdict = (await crew.ask("GET", "/v1/audit/verify")).json()
    assert (verdict["good"], verdict["tampered"]) == (False, last + 3)
    await put(crew, key, raw)
    assert (await crew.ask("GET", "/v1/audit/verify")).json()["good"]


async def mirrors_agree(crew: Crew, old: str, new: str) -> None:
    """The new leader's git repository, made from the history, goes on with the commits of the old one's."""
    number = len(await crew.records()) - 1

    async def there() -> bool:
        return log(crew, new)[-1:] == [f"1/{number} operator x"]

    await eventually(there, f"revision {number} in the new leader's mirror", 20)
    before, after = (log(crew, name, "%H") for name in (old, new))
    assert len(before) > 5
    assert after[: len(before)] == before
    assert len(after) == number + 1


def log(crew: Crew, name: str, form: str = "%(trailers:key=Revision,valueonly,separator=) %an %s") -> list[str]:
    """The commits of a replica's mirror, oldest first."""
    folder = crew.members[name].folder / "mirrors" / name
    command = ["git", f"--git-dir={folder}", "log", "--reverse", f"--format={form}", "main"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()


async def put(crew: Crew, key: str, raw: bytes) -> None:
    """Write as another hand would."""
    (await crew.http.put(f"{crew.server.url}/v1/kv/{key}", content=raw)).raise_for_status()
