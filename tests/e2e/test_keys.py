"""Keys over two real gates: revoked everywhere when that is said, rotated without a refused call, uses told of each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gate import wait_until
from tests.support.load import body, headers
from tests.support.ports import free_ports
from tests.support.stage import SERVICE, Stage, stage

pytestmark = [pytest.mark.local, pytest.mark.timeout(300), pytest.mark.feature("A5")]
SETTING = "MCP_API_KEY_ENCRYPTION_KEY_FILE"
REVOCATIONS = 10


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two gates and two replicas that seal what they write to Consul."""
    folder = tmp_path_factory.mktemp("keys")
    ring = folder / "ring.json"
    ring.write_text(json.dumps({"keys": ["5e" * 32]}))
    ring.chmod(0o600)
    (folder / "stage").mkdir()
    with stage(
        folder / "stage",
        replicas=2,
        agents={SETTING: str(ring)},
        MCP_API_KEY_ENCRYPTION="true",
        MCP_API_KEY_ENCRYPTION_KEY_FILE=str(ring),
    ) as made:
        yield made


def statuses(made: Stage, key: str) -> list[int]:
    """What a call with a key is answered on each gate."""
    sent = headers(key, "tools/call", "ledger_echo")
    asked = body("tools/call", {"name": "ledger_echo", "arguments": {"text": "again"}})
    return [
        httpx.post(f"{gate.public}/{SERVICE}/mcp", headers=sent, json=asked, timeout=30, trust_env=False).status_code
        for gate in made.gates
    ]


def key_of(made: Stage, client: str = "dev", **fields: object) -> dict[str, Any]:
    """A new key."""
    return made.ask("POST", f"/v1/clients/{client}/keys", {"reason": "test", **fields})


def test_a_key_is_refused_on_every_gate_as_soon_as_its_revocation_is_in_force(sealed: Stage) -> None:
    for _ in range(REVOCATIONS):
        made = key_of(sealed)
        assert statuses(sealed, made["key"]) == [200, 200]
        assert sealed.ask("DELETE", f"/v1/keys/{made['id']}?reason=test")["in_force"]
        assert statuses(sealed, made["key"]) == [401, 401]


def test_a_rotated_key_and_its_successor_are_both_good_on_every_gate(sealed: Stage) -> None:
    sealed.ask("POST", "/v1/clients", {"id": "ci", "reason": "test"})
    old = key_of(sealed, "ci", label="laptop")
    new = sealed.ask("POST", "/v1/keys/ci/rotate", {"overlap_s": 3600, "reason": "test"})
    assert new["in_force"]
    assert statuses(sealed, old["key"]) == statuses(sealed, new["key"]) == [200, 200]
    shown = {one["id"]: one for one in sealed.ask("GET", "/v1/clients/ci")["keys"]}
    assert [shown[one["id"]]["used_on"] for one in (old, new)] == [["gate-1", "gate-2"]] * 2
    gone = sealed.ask("POST", f"/v1/keys/{new['id']}/rotate", {"overlap_s": 0, "reason": "test"})
    assert gone["old_expires"] == 0
    assert statuses(sealed, new["key"]) == [401, 401]
    assert statuses(sealed, gone["key"]) == [200, 200]


def test_a_gate_that_does_not_tell_of_uses_is_named_and_holds_nothing_up(sealed: Stage) -> None:
    made = key_of(sealed)
    assert statuses(sealed, made["key"]) == [200, 200]
    (port,) = free_ports(1)
    where = {"Name": "tekup-gate", "ID": "tekup-gate-gate-3", "Address": "127.0.0.1", "Port": port}
    report = json.dumps({"id": "gate-3", "epoch": 1, "number": 0, "at": 0}).encode()
    registered = {**where, "Meta": {"gate": "gate-3"}}
    httpx.put(f"{sealed.consul.url}/v1/agent/service/register", json=registered, trust_env=False).raise_for_status()
    httpx.put(f"{sealed.consul.url}/v1/kv/tekup/gates/gate-3", content=report, trust_env=False).raise_for_status()

    def told() -> bool:
        return bool(sealed.ask("GET", "/v1/keys", replica="r2")["silent"])

    wait_until(told, "the silent gate named", 30)
    shown = sealed.ask("GET", "/v1/keys")
    assert shown["silent"] == [f"gate gate-3 does not answer: http://127.0.0.1:{port}/metrics: ConnectError"]
    (mine,) = [one for one in shown["keys"] if one["id"] == made["id"]]
    assert mine["used_on"] == ["gate-1", "gate-2"]
    sealed.ask("DELETE", "/v1/gates/gate-3?reason=test")


@pytest.mark.feature("E5")
def test_no_hash_and_no_key_lies_readable_in_consul_or_in_a_log(sealed: Stage) -> None:
    made = key_of(sealed)
    assert statuses(sealed, made["key"]) == [200, 200]
    tables = [json.loads((gate.folder / "tables" / "clients.json").read_text())["keys"] for gate in sealed.gates]
    secrets = {key["hash"] for table in tables for key in table.values()} | {made["key"], "5e" * 32}
    found = httpx.get(f"{sealed.consul.url}/v1/kv/tekup/?recurse=true", trust_env=False).json()
    readable = [base64.b64decode(one["Value"] or "").decode() for one in found]
    readable += [path.read_text(errors="replace") for path in sealed.folder.glob("*.log")]
    assert secrets
    assert not [secret[:6] for secret in secrets for text in readable if secret in text]
