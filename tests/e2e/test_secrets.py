"""The platform's own secrets: rotated without a lost call, and nowhere to be found but in their files."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from compose.local.consul_acl import MANAGEMENT, ROLES
from tests.support.crowd import clients
from tests.support.load import Load
from tests.support.metrics import registered
from tests.support.sdk import ERAS, LEGACY, asked, sdk_client

pytestmark = [pytest.mark.local, pytest.mark.timeout(400), pytest.mark.feature("E7")]

TOOL = "filesystem_list_roots"


# -- rotation


def token_files(environment: Any) -> dict[str, str]:
    names = [MANAGEMENT, *(role.name for role in ROLES)]
    return {name: (environment.state / "secrets" / "consul" / f"{name}.token").read_text().strip() for name in names}


def known(environment: Any, secret: str) -> bool:
    url = f"{environment.consul_url}/v1/acl/token/self"
    return httpx.get(url, headers={"X-Consul-Token": secret}).is_success


def gate_keys(environment: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((environment.state / "gate" / "tables" / "secrets.json").read_text())
    return found


@asynccontextmanager
async def through_the_hub(environment: Any, key: str) -> AsyncIterator[list[str]]:
    """An older client that calls without a pause for the length of the block; what went wrong, at its end."""
    problems: list[str] = []
    ending = asyncio.Event()

    async def call() -> None:
        async with sdk_client(f"{environment.gateway_url}/mcp", key, LEGACY) as client:
            while not ending.is_set():
                answer = await asked(client, TOOL, {})
                problems.extend([] if answer.ok else [str(answer)])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(call())
        yield problems
        ending.set()


async def test_everything_is_rotated_twice_under_load_without_a_lost_call_or_handle(environment: Any) -> None:
    url = f"http://127.0.0.1:{environment.ports['pages']}/"
    before, keys_before = token_files(environment), gate_keys(environment)
    with clients(environment, *ERAS) as keys:
        held = {}
        for era in ERAS:
            async with sdk_client(f"{environment.gateway_url}/mcp", keys[era], era) as client:
                opened = await asked(client, "browser_open", {"url": url})
                assert opened.result, opened
                held[era] = opened.result["handle"]
        load = Load(f"{environment.gateway_url}/filesystem/mcp", environment.key, TOOL)
        async with load.running(), through_the_hub(environment, keys[LEGACY]) as problems:
            done = await asyncio.to_thread(environment.tekup_json, "secrets", "rotate", "--all", "--reason", "one")
        assert not load.failures
        assert problems == []
        assert {one["kind"] for one in done} == {"consul-tokens", "gate-keys", "gossip"}
        for era in ERAS:  # signed with what is the previous key now
            async with sdk_client(f"{environment.gateway_url}/mcp", keys[era], era) as client:
                assert (await asked(client, "browser_close", {"handle": held[era]})).ok
        print(f"{load.calls} calls during the rotation: {done}")
    after, keys_after = token_files(environment), gate_keys(environment)
    assert not set(before.values()) & set(after.values())
    assert all(known(environment, token) for token in after.values())
    assert not [role for role, token in before.items() if known(environment, token)]
    assert keys_after["mac"][1:] == keys_before["mac"][:1]
    for service, values in keys_after["services"].items():
        assert values[1:] == keys_before["services"][service][:1], service
        own = json.loads((environment.state / "secrets" / f"{service}.json").read_text())
        assert own == {"service": service, "keys": values}
    async with load.running():
        await asyncio.to_thread(environment.tekup_json, "secrets", "rotate", "--all", "--reason", "two")
    assert not load.failures
    environment.until_all_ready()
    notes = [one for one in environment.tekup_json("history", "--limit", "10")["records"] if one["verb"] == "note"]
    reasons = [one["reason"] for one in notes[:2]]
    assert reasons == [f"secrets rotated: consul-tokens, gate-keys, gossip: {why}" for why in ("two", "one")]
    found = json.loads(environment.tekup("doctor", "--json").stdout)
    wrong = [one["what"] for one in found if not one["ok"]]
    # Instances that a test before this one killed are in the catalog for a minute.
    assert [what for what in wrong if not what.startswith("instance ")] == []


def test_without_a_reason_or_a_kind_nothing_is_rotated(environment: Any) -> None:
    before = token_files(environment)
    for arguments, said in ((("--all",), "a reason is needed"), (("--reason", "x"), "say what to rotate")):
        refused = environment.tekup("secrets", "rotate", *arguments)
        assert refused.returncode == 2
        assert said in refused.stderr
    assert token_files(environment) == before


@pytest.mark.long
def test_a_process_that_does_not_take_its_token_up_keeps_the_old_one_good_and_is_named(environment: Any) -> None:
    (one,) = [process for process in environment.status().processes if process.group == "search"]
    before = token_files(environment)
    process = psutil.Process(one.pid)
    process.suspend()
    try:
        late = environment.tekup("secrets", "rotate", "--consul-tokens", "--reason", "frozen", "--timeout", "12")
    finally:
        process.resume()
    assert late.returncode == 4
    said = " ".join(late.stderr.split())
    assert f"{one.name} did not take the new secret of service-search up within 12 s; old and new are both good" in said
    assert all(known(environment, token) for token in before.values())
    # run again, it ends what was begun: nothing of the first attempt is left
    first_attempt = token_files(environment)
    environment.tekup_json("secrets", "rotate", "--consul-tokens", "--reason", "again")
    left = [role for tokens in (before, first_attempt) for role, token in tokens.items() if known(environment, token)]
    assert left == []
    environment.until_all_ready()


# -- nothing sensitive to be seen


def secrets_of(environment: Any) -> dict[str, str]:
    """Every secret of the environment by where it lies."""
    state: Path = environment.state
    held = {f"{role}.token": token for role, token in token_files(environment).items()}
    held["gossip.key"] = (state / "secrets" / "consul" / "gossip.key").read_text().strip()
    held["operator.token"] = environment.operator_token
    held["dev.key"] = environment.key
    held["the secret part of dev.key"] = environment.key.rsplit("_", 1)[1]
    clients_table = json.loads((state / "gate" / "tables" / "clients.json").read_text())
    for key_id, key in clients_table["keys"].items():
        held[f"hash of {key_id}"] = key["hash"]
    for place, values in {"mac": gate_keys(environment)["mac"], **gate_keys(environment)["services"]}.items():
        held |= {f"{place} {number}": value for number, value in enumerate(values)}
    return held


def found_in(text: str, secrets: dict[str, str]) -> list[str]:
    return [name for name, value in secrets.items() if value in text]


@pytest.fixture(scope="module")
def used(environment: Any) -> Any:
    """The environment after a round of everything that handles secrets."""
    environment.tekup_json("secrets", "rotate", "--all", "--reason", "before looking for secrets")
    key = environment.tekup_json("keys", "create", "dev")
    environment.tekup_json("keys", "revoke", key["id"], "--reason", "only looked at")
    httpx.post(f"{environment.gateway_url}/mcp", headers={"Authorization": "Bearer tk_unknown_" + "0" * 48})
    environment.tekup("up")
    return environment


def processes_of(environment: Any) -> list[psutil.Process]:
    mine = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TEKUP_DIRECTORY") == str(environment.directory):
                mine.append(process)
        except psutil.Error:
            continue
    return mine


def test_no_secret_is_in_the_arguments_or_the_environment_of_any_process(used: Any) -> None:
    secrets, seen = secrets_of(used), 0
    for process in processes_of(used):
        for what in ("cmdline", "environ"):
            try:
                raw = Path(f"/proc/{process.pid}/{what}").read_bytes()
            except OSError:
                continue
            seen += 1
            assert not found_in(raw.decode(errors="replace"), secrets), f"{what} of {process.pid}"
    assert seen > 20


def test_no_secret_is_in_any_log(used: Any) -> None:
    secrets = secrets_of(used)
    logs = list((used.state / "logs").iterdir())
    assert len(logs) > 8
    for path in logs:
        assert not found_in(path.read_text(errors="replace"), secrets), path.name


def test_no_secret_is_in_what_consul_shows_an_operators_token(used: Any) -> None:
    secrets, shown = secrets_of(used), used.consul_token()
    stored = httpx.get(f"{used.consul_url}/v1/kv/?recurse", headers=shown).json()
    texts = {one["Key"]: base64.b64decode(one["Value"] or "").decode() for one in stored}
    assert "tekup/policy/clients/dev" in texts
    for path in ("catalog/services", "catalog/nodes", "catalog/node/tekup", "health/state/any", "session/list",
                 "agent/services", "agent/checks", "internal/ui/services", "internal/ui/nodes"):  # fmt: skip
        answer = httpx.get(f"{used.consul_url}/v1/{path}", headers=shown)
        assert answer.is_success, path
        texts[path] = answer.text
    assert not {where: names for where, text in texts.items() if (names := found_in(text, secrets))}


async def test_no_secret_is_in_traefiks_api_or_on_any_page_of_the_platforms_own(used: Any) -> None:
    secrets = secrets_of(used)
    private = f"http://127.0.0.1:{used.ports['MCP_PRIVATE_PORT']}"
    urls = [f"{private}{path}" for path in ("/api/rawdata", "/api/http/middlewares", "/tekup/state", "/metrics")]
    urls += [f"{used.control_plane_url}/metrics", f"{used.control_plane_url}/ready"]
    for service in ("browser", "filesystem", "search", "hub"):
        for one in await registered(used, service):
            urls += [f"{one.admin_url}{path}" for path in ("/state", "/metrics", "/ready")]
    async with httpx.AsyncClient() as client:
        for url in urls:
            answer = await client.get(url)
            assert answer.status_code == 200, url
            assert not found_in(answer.text, secrets), url


def test_files_with_secrets_are_private_and_so_is_the_folder_around_everything(used: Any) -> None:
    assert used.state.stat().st_mode & 0o077 == 0
    folders = (used.state / "secrets", used.state / "gate" / "tables")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert not [path.name for path in files if path.name != ".agent.lock" and path.stat().st_mode & 0o077]
