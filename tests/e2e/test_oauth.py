"""People who sign in instead of having a key: a real authorization server, the official SDK's flow, both eras."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Environment
from tests.support.authorization import AuthorizationServer, Person, signed_in
from tests.support.documented import problems
from tests.support.foreign import Foreign, add_hub, let_client, let_in
from tests.support.gate import wait_until
from tests.support.mint import Mint
from tests.support.sdk import ERAS, MODERN, asked, sdk_client
from tests.support.stage import WAIT_S, Stage, stage

pytestmark = [pytest.mark.feature("A11"), pytest.mark.local, pytest.mark.timeout(300)]

SCOPES = ["mcp:ledger", "mcp:search", "mcp:*"]
ECHO = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "ledger_echo"}


@dataclass
class World:
    """Everything, and calls by hand."""

    made: Stage
    server: AuthorizationServer
    foreign: Foreign

    @property
    def public(self) -> str:
        """The gate."""
        return self.made.gates[0].public

    def call(self, headers: Any, path: str = "/ledger/mcp", name: str = "ledger_echo") -> httpx.Response:
        """One modern tool call; headers as a dict or as pairs, besides the protocol's own."""
        meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
        params = {"name": name, "arguments": {"text": "hi"}, "_meta": meta}
        own = [*ECHO.items(), ("Accept", "application/json, text/event-stream"), ("Content-Type", "application/json")]
        own = [(key, name if key == "Mcp-Name" else value) for key, value in own]
        pairs = [*own, *(headers.items() if isinstance(headers, dict) else headers)]
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        return httpx.post(f"{self.public}{path}", content=body, headers=pairs, timeout=20, trust_env=False)

    def bearer(self, token: str, path: str = "/ledger/mcp", **more: str) -> httpx.Response:
        """The same with a bearer."""
        return self.call({"Authorization": f"Bearer {token}", **more}, path)

    def resource(self, service: str = "ledger") -> str:
        """What a token has to be for."""
        return f"{self.public}/{service}/mcp" if service else f"{self.public}/mcp"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("oauth")
    parts = folder / "stage"
    parts.mkdir()
    with AuthorizationServer(folder, SCOPES) as server, stage(parts, gates=(2,)) as made:
        add_hub(made)
        foreign = let_in(made, server)
        let_client(made, server)
        found = World(made, server, foreign)
        wait_until(lambda: found.bearer(server.machine_token(found.resource())).is_success, "a bearer gets in", WAIT_S)
        wait_until(lambda: _lists(found), "the hub lists the ledger", WAIT_S)
        yield found


def _lists(world: World) -> bool:
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {"Authorization": f"Bearer {world.made.key}", "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list",
               "Accept": "application/json, text/event-stream"}  # fmt: skip
    return "ledger_echo" in httpx.post(f"{world.public}/mcp", json=body, headers=headers, trust_env=False).text


def refused(answer: httpx.Response, status: int) -> str:
    """The challenge of a refusal, which is JSON-RPC whoever made it."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == status
    return str(answer.headers.get("www-authenticate", ""))


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("path", ["/mcp", "/ledger/mcp"])
async def test_a_person_signs_in_from_nothing_but_the_address(world: World, mode: str, path: str) -> None:
    alice = Person("alice")
    async with signed_in(world.public + path, alice, mode) as client:
        assert client.protocol_version == ERAS[mode]
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"ledger_echo", "ledger_note"}
        assert (await asked(client, "ledger_echo", {"text": "hi"})).result == {"text": "hi"}
    assert len(alice.asked) == 1
    assert "mcp:ledger" in alice.asked[0]


@pytest.mark.parametrize("mode", ERAS)
async def test_a_call_beyond_the_scopes_asks_for_the_missing_one_and_goes_on(world: World, mode: str) -> None:
    world.server.deny("mcp:ledger", "mcp:*")
    carol = Person("carol")
    async with signed_in(f"{world.public}/mcp", carol, mode) as client:
        assert "ledger_echo" not in {tool.name for tool in (await client.list_tools()).tools}
        world.server.deny()
        answer = await asked(client, "ledger_echo", {"text": "hi"})
    if mode == MODERN:
        assert answer.result == {"text": "hi"}
        assert len(carol.asked) == 2
    else:
        # The hub answers older clients by JSON-RPC: they see the reason, and no HTTP challenge.
        assert answer.code == 403


@pytest.mark.parametrize("mode", ERAS)
async def test_a_handle_is_its_users_and_no_other_users_of_the_same_client(world: World, mode: str) -> None:
    alice, bob = Person("alice"), Person("bob")
    url = f"{world.public}/ledger/mcp"
    async with signed_in(url, alice, mode) as hers, signed_in(url, bob, mode) as his:
        opened = await asked(hers, "ledger_open", {})
        assert opened.result
        handle = opened.result["handle"]
        assert (await asked(hers, "ledger_add", {"handle": handle, "entry": "x"})).ok
        assert not (await asked(his, "ledger_add", {"handle": handle, "entry": "y"})).ok
        assert (await asked(his, "ledger_list", {})).result == {"instance": opened.result["instance"], "handles": []}


async def test_keys_work_beside_it_and_owe_it_nothing(world: World) -> None:
    async with sdk_client(f"{world.public}/mcp", world.made.key, MODERN) as client:
        assert (await asked(client, "ledger_echo", {"text": "hi"})).ok
    assert world.bearer(world.made.key).is_success
    before = judged(world)
    assert all(world.bearer(world.made.key).is_success for _ in range(20))
    refused(world.bearer("tk_nobody_00"), 401)
    refused(world.bearer("TK_nobody_00"), 401)
    assert judged(world) == before


def judged(world: World) -> float:
    """How many bearers the app has been asked about."""
    text = httpx.get(f"{world.foreign.url}/metrics", trust_env=False).text
    assert problems("oauth", text) == []
    lines = text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("tekup_oauth_decisions_total"))


def test_each_resource_is_described_to_everybody(world: World) -> None:
    root = f"{world.public}/.well-known/oauth-protected-resource"
    for path, resource in (("", "/mcp"), ("/mcp", "/mcp"), ("/ledger/mcp", "/ledger/mcp")):
        said = httpx.get(f"{root}{path}", headers={"Origin": "https://elsewhere.example"}, trust_env=False)
        assert said.json()["resource"] == world.public + resource
        assert said.json()["authorization_servers"] == [world.server.issuer]
        assert said.headers["access-control-allow-origin"] == "*"
    for path in ("/nosuch/mcp", "/hub/mcp"):
        refused(httpx.get(f"{root}{path}", trust_env=False), 404)
    for method, path in (("POST", "/mcp"), ("GET", "/ledger"), ("GET", "/../mcp")):
        assert httpx.request(method, f"{root}{path}", trust_env=False).headers["content-type"] == "application/json"


def test_who_has_no_key_is_told_where_to_get_a_token(world: World) -> None:
    root = f"{world.public}/.well-known/oauth-protected-resource"
    here = f'resource_metadata="{root}/ledger/mcp"'
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer tk_x_00"}):
        challenge = refused(world.call(headers), 401)
        assert here in challenge
        assert 'scope="mcp:ledger"' in challenge
    assert f'resource_metadata="{root}/mcp"' in refused(world.call({}, "/mcp"), 401)
    assert 'error="invalid_token"' in (challenge := refused(world.bearer("a.b.c"), 401))
    assert here in challenge


ATTACKS: dict[str, Any] = {
    "another issuer's key": lambda world: Mint(number=7).token(**said(world)),
    "none": lambda world: Mint().token({"alg": "none"}, **said(world)),
    "for another resource": lambda world: world.server.machine_token("https://elsewhere.example/mcp"),
    "for another service": lambda world: world.server.machine_token(world.resource("search")),
    "expired": lambda world: Mint().token(**{**said(world), "exp": int(time.time()) - 60}),
    "unknown issuer": lambda world: Mint().token(**{**said(world), "iss": "https://evil.example"}),
    "no JWT": lambda world: "opaque-token",
    "a whole header": lambda world: "x" * 7000,
}


def said(world: World) -> dict[str, Any]:
    """Claims that would do."""
    now = int(time.time())
    return {"iss": world.server.issuer, "aud": world.resource(), "client_id": "machine", "iat": now, "exp": now + 600}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_bearer_that_is_not_good_gets_no_further_than_the_gate(world: World, name: str) -> None:
    assert 'error="invalid_token"' in refused(world.bearer(ATTACKS[name](world)), 401)


def test_the_same_claims_with_the_issuers_own_key_are_good(world: World) -> None:
    assert world.bearer(Mint().token(**said(world))).is_success


def test_authorization_is_taken_once(world: World) -> None:
    good = f"Bearer {world.server.machine_token(world.resource())}"
    key = f"Bearer {world.made.key}"
    for values in ((good, good), (good, key), (key, good), (good, "Basic eDp5"), ("Basic eDp5", good), (good, "")):
        answer = world.call([("Authorization", value) for value in values])
        assert answer.status_code in (400, 401), f"{[value[:12] for value in values]}: {answer.status_code}"
        assert answer.headers["content-type"] == "application/json"


def test_what_the_platform_says_among_itself_cannot_be_said_from_outside(world: World) -> None:
    token = world.server.machine_token(world.resource(), scope="")
    mine = world.bearer(world.server.machine_token(world.resource()))
    assert mine.is_success
    stolen = httpx.get(f"{world.foreign.url}/auth", trust_env=False, headers={
        "X-Forwarded-Uri": "/ledger/mcp", "Authorization": f"Bearer {world.server.machine_token(world.resource())}",
    }).headers["x-tekup-grant"]  # fmt: skip
    for name in ("X-Tekup-Grant", "x-tekup-grant", "X-TEKUP-GRANT"):
        refused(world.bearer(token, **{name: stolen}), 403)
        refused(world.bearer("a.b.c", **{name: stolen}), 401)
        refused(world.call({name: stolen}), 401)
    for name in ("X_Tekup_Grant", "X-Tekup_Grant"):
        assert world.bearer(token, **{name: stolen}).status_code >= 400
    forwarded = {"X-Forwarded-Uri": "/mcp", "X-Forwarded-Method": "GET", "X-Forwarded-Host": "evil.example"}
    elsewhere = world.server.machine_token(world.resource("search"))
    refused(world.bearer(elsewhere, **forwarded, **{"X-Original-URL": "/search/mcp"}), 401)


@pytest.mark.parametrize("path", ["/ledger/mcp/", "//ledger/mcp", "/ledger%2fmcp", "/%6cedger/mcp", "/x/../ledger/mcp",
                                  "/ledger/mcp;x", "/hub/mcp", "/ledger/./mcp", "/LEDGER/mcp"])  # fmt: skip
def test_a_path_in_disguise_is_no_way_in(world: World, path: str) -> None:
    token = world.server.machine_token(world.resource("search"))
    assert world.bearer(token, path).status_code in (400, 401, 404)


def test_a_token_of_a_service_covers_no_other_service(world: World) -> None:
    token = world.server.machine_token(world.resource(), scope="mcp:*")
    assert world.bearer(token).is_success
    refused(world.bearer(token, "/mcp"), 401)


def test_rights_of_the_policy_client_bound_what_scopes_give(world: World) -> None:
    token = world.server.machine_token(world.resource(), scope="mcp:*")
    let_client(world.made, world.server, allow=["ledger_list"])
    try:
        assert "insufficient_scope" not in refused(world.bearer(token), 403)
    finally:
        let_client(world.made, world.server)
    assert world.bearer(token).is_success


def test_nothing_of_a_token_is_in_any_log(world: World) -> None:
    tokens = [world.server.machine_token(world.resource()), Mint(number=7).token(**said(world))]
    assert [world.bearer(token).status_code for token in tokens] == [200, 401]
    for log in (*world.made.folder.glob("*.log"), *world.made.gates[0].folder.glob("*.log")):
        text = log.read_text(errors="replace")
        assert not any(part in text for token in tokens for part in token.split(".")[1:]), log


def test_a_judge_that_is_away_is_said_as_json_and_keys_go_on(world: World) -> None:
    token = world.server.machine_token(world.resource())
    world.foreign.app.end(signal.SIGKILL)
    try:
        answer = world.bearer(token)
        refused(answer, 500)
        assert "sent the call to nobody" in answer.text
        assert answer.headers["retry-after"] == "1"
        described = httpx.get(f"{world.public}/.well-known/oauth-protected-resource/mcp", trust_env=False)
        refused(described, 503)
        assert described.headers["retry-after"] == "1"
        assert world.bearer(world.made.key).is_success
    finally:
        world.foreign.start()
    assert world.bearer(token).is_success


def test_the_issuers_outage_is_not_felt_by_those_who_have_a_token(world: World) -> None:
    token = world.server.machine_token(world.resource())
    world.server.kill()
    try:
        assert world.bearer(token).is_success
    finally:
        world.server.start()


async def test_without_the_control_plane_people_go_on_signing_in(world: World) -> None:
    plane = world.made.replicas["r1"]
    plane.send(signal.SIGSTOP)
    try:
        async with signed_in(f"{world.public}/ledger/mcp", Person("dave"), MODERN) as client:
            assert (await asked(client, "ledger_echo", {"text": "hi"})).ok
    finally:
        plane.send(signal.SIGCONT)


async def test_one_command_lets_people_in(tmp_path: Path, fresh_environment: Environment) -> None:
    with AuthorizationServer(tmp_path, ["mcp:filesystem", "mcp:*"]) as server:
        issuers = tmp_path / "issuers.json"
        issuers.write_text(json.dumps([{"issuer": server.issuer}]))
        fresh_environment.up = fresh_environment.tekup_json("up", "--oauth-issuers", str(issuers))
        added = fresh_environment.tekup("clients", "add", "staff", "--oauth", server.issuer, "--reason", "test")
        assert added.returncode == 0, added.stderr
        url = f"{fresh_environment.gateway_url}/filesystem/mcp"
        async with signed_in(url, Person("erin"), MODERN) as client:
            assert (await asked(client, "filesystem_list_roots", {})).ok
        doctor = fresh_environment.tekup("doctor")
        assert f"issuer {server.issuer}" in doctor.stdout
        assert "its keys are at hand" in doctor.stdout
