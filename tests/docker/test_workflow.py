"""What the request's workflow section types, against the development environment."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import mcp
import pytest

from tests.support.container_environment import ContainerEnvironment
from tests.support.engine import Engine
from tests.support.engine_install import NoEngine
from tests.support.gate import wait_until
from tests.support.sdk import sdk_client
from tests.support.wait import eventually

pytestmark = [pytest.mark.docker, pytest.mark.feature("F1", "F2")]

SOON_S = 120.0
EDIT_S = 20.0
"""Far above the two seconds that are promised, which a test of a busy machine cannot hold anybody to."""
WORDS = "The folders you may use;"
SERVICES = ("browser", "filesystem", "search", "hub")
ONE_SHOT = {"setup", "first-call"}


def states(environment: ContainerEnvironment) -> dict[str, dict[str, Any]]:
    """What `docker compose ps` says of each container, by service; the last of several."""
    return {one["Service"]: one for one in environment.containers()}


def instances(environment: ContainerEnvironment, service: str) -> list[dict[str, Any]]:
    """The passing instances of a service, as the control plane has them."""
    answer = environment.ask("GET", "/v1/services")
    (mine,) = [one for one in answer.json()["services"] if one["name"] == service]
    return [one for one in mine["instances"] if one["passing"] and one["state"] == "serving"]


def test_up_starts_everything_healthy_and_a_second_up_changes_nothing(dev: ContainerEnvironment) -> None:
    before = states(dev)
    assert {name for name, one in before.items() if one["State"] != "running"} == ONE_SHOT
    assert all(before[name]["ExitCode"] == 0 for name in ONE_SHOT)
    healthy = {name for name, one in before.items() if one["Health"] == "healthy"}
    assert {"mcp-gateway", "control-plane", *(f"mcp-{name}" for name in SERVICES)} <= healthy
    dev.said("up", "-d", "--no-build")
    after = states(dev)
    same = {name for name in before if name not in ONE_SHOT}
    assert {name: after[name]["ID"] for name in same} == {name: before[name]["ID"] for name in same}


def test_only_the_gate_and_the_operators_api_are_published_and_on_loopback_alone(dev: ContainerEnvironment) -> None:
    ports = [(name, port) for name, one in states(dev).items() for port in one["Publishers"] or ()]
    published = {(name, port["URL"]) for name, port in ports if port["PublishedPort"]}
    assert published == {("mcp-gateway", "127.0.0.1"), ("control-plane", "127.0.0.1")}


def test_logs_are_json_lines_that_say_whose_they_are(dev: ContainerEnvironment) -> None:
    for name in SERVICES:
        said = dev.said("logs", "--no-log-prefix", "--no-color", f"mcp-{name}")
        lines = [json.loads(line[line.index("{") :]) for line in said.splitlines() if "{" in line]
        assert lines, said
        assert {line["service"] for line in lines} == {name}


async def test_a_scaled_service_is_found_by_the_gate_with_no_other_step_and_scaled_in_without_a_lost_call(
    dev: ContainerEnvironment,
) -> None:
    async with sdk_client(f"{dev.gateway_url}/filesystem/mcp", dev.key, "2026-07-28") as client:

        async def works() -> None:
            for _ in range(20):
                assert not (await client.call_tool("filesystem_list_roots", {})).is_error

        try:
            dev.said("up", "-d", "--no-build", "--scale", "mcp-filesystem=3")

            async def three() -> bool:
                return len(instances(dev, "filesystem")) == 3

            await eventually(three, "three instances", SOON_S)
            await works()
        finally:
            dev.said("up", "-d", "--no-build", "--scale", "mcp-filesystem=1")

        async def one() -> bool:
            return len(instances(dev, "filesystem")) == 1

        await eventually(one, "one instance again", SOON_S)
        await works()


async def test_an_edit_is_served_without_a_build(dev: ContainerEnvironment) -> None:
    source = Path(dev.settings["MCP_SOURCE"]) / "services/filesystem/tools/looking.py"
    before = source.read_text()
    assert WORDS in before

    async def described(words: str) -> bool:
        with suppress(mcp.MCPError, httpx2.HTTPError, ExceptionGroup):
            async with sdk_client(f"{dev.gateway_url}/filesystem/mcp", dev.key, "2026-07-28") as client:
                tools = {tool.name: tool for tool in (await client.list_tools()).tools}
                return (tools["filesystem_list_roots"].description or "").startswith(words)
        return False

    began = time.monotonic()
    source.write_text(before.replace(WORDS, f"Edited. {WORDS}"))
    try:
        await eventually(lambda: described("Edited. "), "the edited description", EDIT_S)
        print(f"served after {time.monotonic() - began:.1f} s")
    finally:
        source.write_text(before)
    await eventually(lambda: described(WORDS), "the old one", EDIT_S)


async def test_a_rebuilt_service_is_restarted_and_serves(dev: ContainerEnvironment) -> None:
    dev.said("build", "mcp-search")
    dev.said("restart", "mcp-search")

    async def serves() -> bool:
        return states(dev)["mcp-search"]["Health"] == "healthy" and bool(instances(dev, "search"))

    async def answers() -> bool:
        with suppress(mcp.MCPError):  # the control plane knows of it a moment before the gate sends anybody there
            async with sdk_client(f"{dev.gateway_url}/search/mcp", dev.key, "2026-07-28") as client:
                return not (await client.call_tool("search_status", {})).is_error
        return False

    await eventually(serves, "search", SOON_S)
    await eventually(answers, "a call of it to be answered", 10)


def test_a_killed_instance_is_back_by_itself(dev: ContainerEnvironment, engine: Engine) -> None:
    container = states(dev)["mcp-hub"]["ID"]
    began = engine.docker("inspect", "--format", "{{.State.StartedAt}}", container)
    # by the process, as a crash would: who is killed by `docker kill` stays so
    with suppress(NoEngine):
        engine.docker("exec", container, "python", "-c", "import os, signal; os.kill(-1, signal.SIGKILL)")

    def back() -> bool:
        started = engine.docker("inspect", "--format", "{{.State.StartedAt}}", container)
        return started != began and states(dev)["mcp-hub"]["Health"] == "healthy"

    wait_until(back, "the hub back", SOON_S)


@pytest.fixture
def fresh(
    engine: Engine, images: str, third_parties: list[str], run_prefix: str, tmp_path: Path
) -> ContainerEnvironment:
    """An environment that is not started; the test takes it down."""
    return ContainerEnvironment(engine.env, "dev", tmp_path, f"{run_prefix}-fresh")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MCP_ENV", "testing", "'development', 'staging' or 'production'"),
        ("MCP_SEARCH_MEMORY", "64m", "search needs 128m at least"),
    ],
)
def test_a_wrong_setting_stops_the_start_before_anything_runs(
    fresh: ContainerEnvironment, name: str, value: str, said: str
) -> None:
    fresh.settings[name] = value
    try:
        done = fresh.compose("up", "-d", "--no-build")
        assert done.returncode != 0
        assert 'service "setup" didn\'t complete successfully: exit 78' in done.stderr
        assert said in fresh.said("logs", "--no-log-prefix", "setup")
        assert {one["State"] for one in states(fresh).values()} <= {"created", "exited"}
    finally:
        fresh.stop()


def test_a_taken_port_stops_the_start_before_anything_runs(fresh: ContainerEnvironment) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        fresh.settings["MCP_GATEWAY_PORT"] = str(holder.getsockname()[1])
        try:
            done = fresh.compose("up", "-d", "--no-build")
            assert done.returncode != 0
            assert "address already in use" in done.stderr
            assert {one["State"] for one in states(fresh).values()} <= {"created", "exited"}
        finally:
            fresh.stop()
