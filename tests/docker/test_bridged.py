"""Servers of other people in containers, one each: the server as a user of its own, and its one way out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from tests.docker.test_isolation import METADATA, outsider
from tests.support.command_line import REPOSITORY, told
from tests.support.container_environment import UP_S, ContainerEnvironment
from tests.support.engine import Engine
from tests.support.gate import wait_until
from tests.support.leftovers import LABEL

pytestmark = [pytest.mark.docker, pytest.mark.feature("B11", "E2", "E3", "E4")]
RUNS = (
    *("setup", "mcp-gateway", "consul", "consul-access", "control-plane", "mcp-agent", "mcp-hub"),
    *("mcp-pear", "mcp-time", "way-out-time"),
)
"""Of the environment what these servers need."""
DECLARED = "declared"
PEAR = {"command": ["python3", "/server/hostile_child.py"], "limits": {"memory_mb": 150, "processes": 30}}
TIME = {
    "command": ["mcp-server-time", "--local-timezone", "UTC"],
    "probe": {"tool": "get_current_time", "arguments": {"timezone": "UTC"}},
}


def folder_of(folder: Path, name: str, declaration: dict[str, Any]) -> Path:
    """A server's folder, as somebody would write it."""
    made = folder / name
    made.mkdir()
    (made / "declaration.json").write_text(json.dumps({"name": name, "version": "2.0", **declaration}))
    return made


def bridged(engine: Engine, *arguments: str) -> str:
    """What the command for such servers prints."""
    command = [sys.executable, "-m", "compose.containers.bridged", *arguments]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=dict(engine.env), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def outside(engine: Engine, images: str, run_prefix: str) -> Iterator[str]:
    """Somebody whom nobody declares."""
    with outsider(engine, run_prefix) as address:
        yield address


@contextmanager
def declared_host(engine: Engine, prefix: str) -> Iterator[None]:
    """Somebody in the network that the way out leads to."""
    place = ("--network", f"{prefix}-bridged_outside", "--network-alias", DECLARED, "--label", f"{LABEL}={prefix}")
    command = ("--entrypoint", "python", "tekup/mcp-control-plane:latest", "-m", "http.server", "8000")
    made = engine.docker("run", "--detach", *place, *command)
    try:
        yield
    finally:
        engine.docker("rm", "--force", "--volumes", made)


@pytest.fixture(scope="module")
def running(
    engine: Engine, images: str, third_parties: list[str], run_prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ContainerEnvironment]:  # fmt: skip
    """Development's environment with two such servers: one that does on demand what it should not, one published."""
    folder = tmp_path_factory.mktemp("bridged")
    pear = folder_of(folder, "pear", PEAR)
    shutil.copy(REPOSITORY / "tests/support/hostile_child.py", pear)
    time = folder_of(folder, "time", {**TIME, "hosts": [f"{DECLARED}:8000"]})
    shutil.copy(REPOSITORY / "tests/docker/time.lock", time / "requirements.lock")
    (time / "secrets").mkdir()
    folders = (str(pear), str(time))
    bridged(engine, "--build", *folders)
    laid_over = folder / "bridged.yml"
    laid_over.write_text(bridged(engine, *folders))
    made = ContainerEnvironment(engine.env, "dev", folder, f"{run_prefix}-bridged", laid_over=(laid_over,))
    life = ExitStack()
    try:
        made.said("up", "-d", "--no-build", *RUNS)
        life.enter_context(declared_host(engine, run_prefix))
        made.operator_token = made.said("exec", "-T", "control-plane", "cat", "/run/tekup/operator.token").strip()
        (folder / "operator.token").write_text(made.operator_token)
        begun = ("state", "init", "--reason", "a test")
        wait_until(lambda: made.tekup(*begun).returncode == 0, "the control plane to begin", UP_S)
        allowed = ("clients", "add", "team", "--allow", "*", "--reason", "a test")
        assert made.tekup(*allowed).returncode == 0
        made.key = told(made.tekup("keys", "create", "team", "--json", "--reason", "a test"))["key"]
        yield made
    finally:
        life.close()
        made.stop()


async def called(running: ContainerEnvironment, mode: str, tool: str, **arguments: Any) -> str:
    """What a tool answers at the hub, once it is there."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {running.key}"}, timeout=60) as http,
        Client(streamable_http_client(f"{running.gateway_url}/mcp", http_client=http), mode=mode) as client,
    ):
        result = await client.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        said = "".join(block.text for block in result.content if isinstance(block, TextContent))
        assert not result.is_error, said
        return said


@pytest.fixture(scope="module", autouse=True)
def served(running: ContainerEnvironment) -> None:
    """Both are at the gate."""

    def listed() -> bool:
        sent = {"Authorization": f"Bearer {running.key}", "Accept": "application/json, text/event-stream"}
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        try:
            said = httpx2.post(f"{running.gateway_url}/mcp", json=asked, headers=sent, timeout=10).text
        except httpx2.HTTPError:
            return False
        return "pear_echo" in said and "time_get_current_time" in said

    try:
        wait_until(listed, "both servers to be listed by the hub", UP_S)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{running.compose('logs', '--tail', '30').stdout}") from error


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_both_answer_through_gate_and_hub(running: ContainerEnvironment, mode: str) -> None:
    assert await called(running, mode, "pear_echo", text=mode) == mode
    assert "Europe/Paris" in await called(running, mode, "time_get_current_time", timezone="Europe/Paris")


async def test_a_server_is_a_user_of_its_own_who_can_read_nothing_of_the_platform_s(
    running: ContainerEnvironment,
) -> None:
    files = ["/run/tekup", "/run/tekup/secrets.json", "/run/tekup/consul.token", "/proc/1/environ", "/proc/7/environ"]
    found = json.loads(await called(running, "2026-07-28", "pear_look", files=files))
    read = found.pop("files")
    assert found == {"user": 10002, "groups": [10002], "no_new_privileges": "1", "capabilities": ["0" * 16]}
    assert read["/run/tekup/secrets.json"] == read["/run/tekup/consul.token"] == "PermissionError"
    assert ":read" not in read["/run/tekup"]
    assert read["/proc/1/environ"] != "read"
    assert read["/proc/7/environ"] != "read"
    environment = await called(running, "2026-07-28", "pear_environment")
    assert "MCP_" not in environment
    kept = running.said("exec", "-T", "--user", "10001", "mcp-pear", "cat", "/run/tekup/secrets.json")
    assert json.loads(kept)["keys"][0] not in environment, "and it would have been there to be read"


async def test_a_server_that_declares_nobody_reaches_nobody(running: ContainerEnvironment, outside: str) -> None:
    gateway = ".".join([*outside.split(".")[:3], "1"])
    asked = [
        *(("mcp-gateway", 3000), ("consul", 8500), ("mcp-hub", 3004), ("control-plane", 3010), ("mcp-time", 3005)),
        *(("way-out-time", 3128), (outside, 8000), (gateway, 22), METADATA),
    ]
    found = json.loads(await called(running, "2026-07-28", "pear_reach", places=asked))
    assert {name for name, said in found.items() if said == "reached"} == {"mcp-gateway:3000", "consul:8500"}


def test_a_way_out_leads_to_the_declared_hosts_alone(running: ContainerEnvironment) -> None:
    fetch = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=20).status)
    except urllib.error.HTTPError as error:
        print(error.code, "declaration" in error.read().decode())
    except OSError as error:
        print(type(error).__name__)
"""
    way = "http://way-out-time:3128"
    asked = (f"http://{DECLARED}:8000/", f"http://{DECLARED}:8001/", "http://control-plane:3010/")
    own = ("exec", "-T", "--user", "10002", "--env", f"http_proxy={way}", "mcp-time", "python3", "-c", fetch)
    assert running.said(*own, *asked).split("\n") == ["200", "403 True", "403 True", ""]
    past = ("exec", "-T", "--user", "10002", "mcp-time", "python3", "-c", fetch)
    assert running.said(*past, asked[0]).strip() == "URLError"
    assert "way_out.refused" in running.said("logs", "--no-log-prefix", "way-out-time")


def test_a_server_is_bounded_by_its_container(running: ContainerEnvironment, engine: Engine) -> None:
    (about,) = json.loads(engine.docker("inspect", running.said("ps", "--quiet", "mcp-pear").strip()))
    held = about["HostConfig"]
    assert held["Memory"] == held["MemorySwap"] == (150 + 256) << 20
    assert held["PidsLimit"] == 30 + 64
    assert held["NanoCpus"] > 0
    assert held["ReadonlyRootfs"]
    assert sorted(name.removeprefix("CAP_") for name in held["CapAdd"]) == ["KILL", "SETGID", "SETUID"]
