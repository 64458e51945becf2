"""What each role may do in a real Consul, and above all what it may not: one row, one attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from compose.local.consul_acl import NODE, token_file
from compose.local.files import repository
from control_plane.consul import Consul
from control_plane.errors import Unavailable
from control_plane.tokens import TokenFile
from tests.support.consul_acls import ConsulWithAcls

pytestmark = [pytest.mark.local, pytest.mark.feature("E7"), pytest.mark.feature("E5")]

SERVICE, GATE, PLANE, PROMETHEUS, OPERATOR, NOBODY = (
    "service-browser",
    "gate",
    "control-plane",
    "prometheus",
    "operator",
    "",
)
EVERYBODY = (SERVICE, GATE, PLANE, PROMETHEUS, OPERATOR, NOBODY)
HASH = "5e" * 32
METRICS = "/v1/agent/metrics?format=prometheus"
SECRET_CHANGE = "hash-in-a-pending-change"
STORED = {
    "tekup/policy/services/search": "{}",
    "tekup/policy/revision": "{}",
    "tekup/keys/k1": json.dumps({"hash": HASH}),
    "tekup/operators/ada": json.dumps({"tokens": [{"hash": HASH}]}),
    "tekup/rules/night": "{}",
    "tekup/state/audit/000000000001": "{}",
    "tekup/state/pending/000001": SECRET_CHANGE,
    "tekup/state/history/000001-0000000001": "{}",
    "tekup/gates/local": "{}",
    "tekup/gates/other": "{}",
    "elsewhere": "of somebody else",
}


def entry(name: str, at: str) -> dict[str, object]:
    return {"Name": name, "ID": at, "Address": "127.0.0.1", "Port": 9, "Meta": {"instance": "a1b2c3"}}


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulWithAcls]:
    with ConsulWithAcls(tmp_path_factory.mktemp("consul")) as made:
        for key, value in STORED.items():
            made.ask("management", "PUT", f"/v1/kv/{key}", value).raise_for_status()
        victim = entry("mcp-search", "mcp-search-a1b2c3")
        made.ask("service-search", "PUT", "/v1/agent/service/register", victim).raise_for_status()
        yield made


REGISTER, LEAF = "/v1/agent/service/register", "/v1/agent/connect/ca/leaf"
MAY_CALL = "/v1/connect/intentions/match?by=destination&name="
KV_TXN = [{"KV": {"Verb": "set", "Key": "tekup/policy/services/search", "Value": "e30="}}]
ON_THE_NODE = {"Node": NODE, "Address": "127.0.0.1", "Service": {"Service": "mcp-search", "ID": "x", "Port": 9}}
MAY_NOT: list[tuple[str, str, str, Any]] = [
    # a service: another's name, under its own id or over another's registration, by whatever door
    (SERVICE, "PUT", REGISTER, entry("mcp-search", "mcp-search-bad001")),
    (SERVICE, "PUT", REGISTER, entry("mcp-browser", "mcp-search-a1b2c3")),
    (SERVICE, "PUT", REGISTER, entry("mcp-browser2", "mcp-browser2-bad001")),
    (SERVICE, "PUT", REGISTER, entry("tekup-gate", "tekup-gate-evil")),
    (SERVICE, "PUT", "/v1/agent/service/deregister/mcp-search-a1b2c3", None),
    (SERVICE, "PUT", "/v1/agent/service/maintenance/mcp-search-a1b2c3?enable=true", None),
    (SERVICE, "PUT", "/v1/catalog/register", ON_THE_NODE),
    (SERVICE, "PUT", "/v1/catalog/deregister", {"Node": NODE, "ServiceID": "mcp-search-a1b2c3"}),
    (SERVICE, "GET", f"{LEAF}/mcp-search", None),
    *((SERVICE, "GET", f"{LEAF}/{name}", None) for name in ("tekup-gate", "tekup-control-plane")),
    (SERVICE, "GET", f"{MAY_CALL}mcp-search", None),
    # … policy, keys, state, sessions
    *((SERVICE, "PUT", f"/v1/kv/{key}", "{}") for key in STORED),
    *((SERVICE, "DELETE", f"/v1/kv/{key}", None) for key in STORED),
    (SERVICE, "PUT", "/v1/kv/tekup/leader", "{}"),
    (SERVICE, "GET", "/v1/kv/tekup/keys/k1", None),
    (SERVICE, "GET", "/v1/kv/tekup/policy/services/search", None),
    (SERVICE, "PUT", "/v1/session/create", {"Name": "x", "Node": NODE}),
    # a gate's agent: policy, keys, another gate's record, sessions elsewhere, other names
    (GATE, "PUT", "/v1/kv/tekup/policy/services/search", "{}"),
    (GATE, "PUT", "/v1/kv/tekup/policy/revision", "{}"),
    (GATE, "DELETE", "/v1/kv/tekup/policy?recurse", None),
    (GATE, "PUT", "/v1/kv/tekup/keys/k1", "{}"),
    (GATE, "PUT", "/v1/kv/tekup/gates/other", "{}"),
    (GATE, "PUT", "/v1/kv/tekup/state/rollouts/search", "{}"),
    (GATE, "GET", "/v1/kv/tekup/state/history/000001-0000000001", None),
    (GATE, "PUT", "/v1/session/create", {"Name": "x", "Node": "another"}),
    (GATE, "PUT", REGISTER, entry("mcp-search", "mcp-search-bad001")),
    (GATE, "PUT", "/v1/agent/service/deregister/mcp-search-a1b2c3", None),
    *((GATE, "GET", f"{LEAF}/{name}", None) for name in ("mcp-search", "tekup-control-plane")),
    # the control plane: what is not the platform's
    (PLANE, "PUT", "/v1/kv/elsewhere", "x"),
    (PLANE, "GET", "/v1/kv/elsewhere", None),
    (PLANE, "PUT", REGISTER, entry("tekup-gate", "tekup-gate-evil")),
    (PLANE, "GET", f"{LEAF}/tekup-gate", None),
    # who only looks
    *((role, "GET", "/v1/kv/tekup/keys/k1", None) for role in (PROMETHEUS, OPERATOR, NOBODY)),
    *((role, "GET", "/v1/kv/tekup/state/pending/000001", None) for role in (PROMETHEUS, OPERATOR, NOBODY, GATE)),
    (PROMETHEUS, "GET", "/v1/kv/tekup/policy/services/search", None),
    *((role, "PUT", "/v1/kv/tekup/policy/services/search", "{}") for role in (PROMETHEUS, OPERATOR, NOBODY)),
    *((role, "PUT", REGISTER, entry("mcp-search", "mcp-search-b")) for role in (PROMETHEUS, OPERATOR, NOBODY)),
    *((role, "PUT", "/v1/session/create", {"Node": NODE}) for role in (PROMETHEUS, OPERATOR, NOBODY)),
    # anybody at all: tokens, policies, the server itself
    *((role, "GET", "/v1/acl/tokens", None) for role in EVERYBODY),
    *((role, "GET", "/v1/acl/policies", None) for role in EVERYBODY),
    *((role, "PUT", "/v1/acl/token", {"Policies": [{"Name": "global-management"}]}) for role in EVERYBODY),
    *((role, "PUT", "/v1/acl/bootstrap", {}) for role in EVERYBODY),
    *((role, "GET", "/v1/operator/keyring", None) for role in EVERYBODY),
    *((role, "GET", path, None) for role in EVERYBODY if role != PROMETHEUS for path in (METRICS, "/v1/agent/self")),
    *((role, "GET", "/v1/snapshot", None) for role in EVERYBODY),
    *((role, "PUT", "/v1/agent/leave", None) for role in EVERYBODY),
    *((role, "PUT", "/v1/agent/token/agent", {"Token": "x"}) for role in EVERYBODY),
    *((role, "PUT", "/v1/config", {"Kind": "proxy-defaults", "Name": "global"}) for role in EVERYBODY),
]


@pytest.mark.parametrize(
    ("role", "method", "path", "body"), MAY_NOT, ids=[f"{r or 'nobody'}-{m}-{p}"[:90] for r, m, p, _ in MAY_NOT]
)
def test_consul_refuses(consul: ConsulWithAcls, role: str, method: str, path: str, body: Any) -> None:
    answer = consul.ask(role, method, path, body)
    assert answer.status_code == httpx.codes.FORBIDDEN, answer.text
    assert HASH not in answer.text


async def test_a_store_that_is_hidden_is_told_from_one_that_is_empty(consul: ConsulWithAcls) -> None:
    shown = [(PLANE, "tekup/nothing/", False), (GATE, "tekup/policy/", False)]
    for role, at, hidden in (*shown, (GATE, "tekup/state/", True), (SERVICE, "tekup/policy/", True)):
        token = TokenFile(token_file(consul.layout, role))
        async with Consul(consul.url, token=token) as store:
            if hidden:
                with pytest.raises(Unavailable, match="hidden from this token; see MCP_CONSUL_TOKEN_FILE"):
                    await store.read(at)
            else:
                assert (await store.read(at)).index > 0


@pytest.mark.parametrize("role", [SERVICE, GATE, PROMETHEUS, OPERATOR, NOBODY])
def test_a_transaction_of_anybody_but_the_control_plane_changes_nothing(consul: ConsulWithAcls, role: str) -> None:
    answer = consul.ask(role, "PUT", "/v1/txn", KV_TXN)
    assert answer.status_code in (httpx.codes.FORBIDDEN, httpx.codes.CONFLICT)
    assert "ermission denied" in answer.text


def keys_seen(consul: ConsulWithAcls, role: str) -> set[str]:
    answer = consul.ask(role, "GET", "/v1/kv/?keys")
    return set(answer.json() if answer.is_success else ())


def test_of_the_store_each_role_is_listed_only_its_own_part(consul: ConsulWithAcls) -> None:
    for role in (SERVICE, NOBODY):
        assert keys_seen(consul, role) == set(), role
    assert keys_seen(consul, PROMETHEUS) == {"tekup/policy/revision", "tekup/rules/night"}
    policy = {key for key in STORED if key.startswith("tekup/policy/")}
    assert keys_seen(consul, GATE) >= policy | {"tekup/keys/k1", "tekup/gates/local"}
    assert not {key for key in keys_seen(consul, GATE) if "state" in key or "other" in key or "operators" in key}
    assert keys_seen(consul, OPERATOR) >= policy | {"tekup/gates/local", "tekup/state/history/000001-0000000001"}
    assert not {
        key
        for key in keys_seen(consul, OPERATOR)
        if "keys" in key or "pending" in key or "operators/" in key or key == "elsewhere"
    }


def test_an_operator_who_reads_everything_there_is_to_read_finds_no_secret(consul: ConsulWithAcls) -> None:
    seen = "".join(
        consul.ask(OPERATOR, "GET", path).text
        for path in ("/v1/kv/?recurse", "/v1/catalog/services", f"/v1/catalog/node/{NODE}", "/v1/session/list",
                     "/v1/health/state/any", "/v1/agent/services", "/v1/internal/ui/services")
    )  # fmt: skip
    held = [consul.token(role.name) for role in consul.roles] + [consul.token("management"), HASH, SECRET_CHANGE]
    assert "mcp-search" in seen
    assert not [secret for secret in held if secret in seen]


def test_prometheus_reads_the_metrics_of_consul_and_with_the_same_right_finds_no_secret(consul: ConsulWithAcls) -> None:
    assert "consul_raft_" in consul.ask(PROMETHEUS, "GET", METRICS).text
    seen = consul.ask(PROMETHEUS, "GET", "/v1/agent/self").text
    held = [consul.token(role.name) for role in consul.roles] + [consul.token("management"), HASH, SECRET_CHANGE]
    assert not [secret for secret in held if secret in seen]


def test_a_service_registers_itself_and_gets_its_own_certificate(consul: ConsulWithAcls) -> None:
    consul.ask(SERVICE, "PUT", REGISTER, entry("mcp-browser", "mcp-browser-abc001")).raise_for_status()
    assert "mcp-browser" in consul.ask(PROMETHEUS, "GET", "/v1/catalog/services").json()
    leaf = consul.ask(SERVICE, "GET", f"{LEAF}/mcp-browser")
    assert leaf.json()["ServiceURI"].endswith("/svc/mcp-browser")
    assert consul.ask(SERVICE, "GET", "/v1/agent/connect/ca/roots").json()["Roots"]
    consul.ask(SERVICE, "GET", f"{MAY_CALL}mcp-browser").raise_for_status()
    consul.ask(SERVICE, "PUT", "/v1/agent/service/deregister/mcp-browser-abc001").raise_for_status()


def test_a_gate_reports_under_its_own_session_and_gets_its_own_certificate(consul: ConsulWithAcls) -> None:
    session = consul.ask(GATE, "PUT", "/v1/session/create", {"TTL": "10s", "LockDelay": "0s"}).json()["ID"]
    assert consul.ask(GATE, "PUT", f"/v1/kv/tekup/gates/local?acquire={session}", "{}").text == "true"
    consul.ask(GATE, "PUT", REGISTER, entry("tekup-gate", "tekup-gate-local")).raise_for_status()
    assert consul.ask(GATE, "GET", f"{LEAF}/tekup-gate").json()["ServiceURI"].endswith("/svc/tekup-gate")
    assert "mcp-search" in consul.ask(GATE, "GET", "/v1/catalog/services").json()
    assert consul.ask(GATE, "GET", "/v1/kv/tekup/keys/k1?raw").json()["hash"] == HASH
    # How it follows a table without reading it.
    assert consul.ask(GATE, "GET", "/v1/kv/tekup/keys?keys&separator=/").json() == ["tekup/keys/"]


def test_the_control_plane_writes_policy_says_who_may_call_whom_and_takes_a_rogue_out(consul: ConsulWithAcls) -> None:
    consul.ask("service-search", "PUT", REGISTER, entry("mcp-search", "mcp-search-rogue1")).raise_for_status()
    assert consul.ask(PLANE, "PUT", "/v1/txn", KV_TXN).is_success
    leaf = consul.ask(PLANE, "GET", f"{LEAF}/tekup-control-plane")
    assert leaf.json()["ServiceURI"].endswith("/svc/tekup-control-plane")
    sources = {"Sources": [{"Name": "tekup-gate", "Action": "allow"}]}
    for name in ("mcp-search", "*"):
        wish = {"Kind": "service-intentions", "Name": name, **sources}
        assert consul.ask(PLANE, "PUT", "/v1/config", wish).text.strip() == "true"
    out = consul.ask(PLANE, "PUT", "/v1/agent/service/deregister/mcp-search-rogue1")
    assert out.is_success, out.text
    assert not consul.ask(GATE, "PUT", "/v1/config", wish).is_success


GRANTS_TOO_MUCH = (
    "acl",
    "keyring",
    "operator",
    "agent",
    "agent_prefix",
    "mesh",
    "query",
    "query_prefix",
    "event_prefix",
)


@pytest.mark.parametrize(
    "path", sorted((repository() / "consul" / "policies").glob("*.hcl")), ids=lambda path: path.stem
)
def test_no_policy_file_grants_acls_the_keyring_or_the_operators_api(path: Path) -> None:
    rules = [line.split()[0] for line in path.read_text().splitlines() if line and line[0] not in " #}"]
    assert rules
    needed = {"prometheus": {"agent_prefix"}}  # reading metrics of the agent takes it; for nothing but reading
    assert not set(rules) & set(GRANTS_TOO_MUCH) - needed.get(path.stem, set())
    assert path.stem != "prometheus" or "write" not in path.read_text()
