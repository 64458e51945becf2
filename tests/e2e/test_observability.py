"""The whole stack for who is on call, started by one command around a real environment, and its outages."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from compose.local.observability_settings import EXTRAS
from tests.e2e.conftest import Environment, make_environment
from tests.support.gate import wait_until
from tests.support.load import Load
from tests.support.on_call import loki_count, loki_lines
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(3600)]

SEEN_S = 60.0
ALWAYS = {"instances", "gates", "traefik", "control-plane", "consul", "prometheus", "loki", "jaeger", "collector"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment with everything, that is up."""
    made = make_environment(tmp_path_factory.mktemp("watched"))
    with (made.directory / "tekup.toml").open("a") as settings:
        settings.write("".join(f"MCP_{name.upper()}_PORT = 0\n" for name in EXTRAS))
        settings.write("MCP_CONTROL_PLANE_REPLICAS = 2\n")
    try:
        made.up = made.tekup_json("up", "--observability")
        yield made
    finally:
        made.tekup("down")


def targets(environment: Environment) -> dict[str, list[dict[str, Any]]]:
    """What Prometheus scrapes, by job."""
    answer = httpx.get(f"{environment.up['prometheus']}/api/v1/targets?state=active", timeout=10, trust_env=False)
    found: dict[str, list[dict[str, Any]]] = {}
    for target in answer.json()["data"]["activeTargets"]:
        found.setdefault(target["labels"]["job"], []).append(target)
    return found


@pytest.mark.feature("D3")
def test_everything_that_runs_is_scraped_and_answers(watched: Environment) -> None:
    def all_up() -> bool:
        found = targets(watched)
        return found.keys() >= ALWAYS and all(one["health"] == "up" for job in found.values() for one in job)

    wait_until(all_up, "all targets up", SEEN_S)
    planes = targets(watched)["control-plane"]
    assert sorted(one["labels"]["replica"] for one in planes) == ["control-plane", "control-plane-2"]

    def peers() -> object:
        asked = {"query": "consul_raft_peers"}
        answer = httpx.get(f"{watched.up['prometheus']}/api/v1/query", params=asked, timeout=10, trust_env=False)
        return answer.json()["data"]["result"]

    wait_until(peers, "what Consul counts now and then", SEEN_S)


@pytest.mark.feature("D2")
def test_the_call_that_up_makes_of_each_service_is_found_in_loki_and_so_is_every_process(watched: Environment) -> None:
    for service in ("browser", "filesystem", "search"):
        query = f'{{service_name="{service}"}} | event="call" | tool=~"{service}_.+"'
        wait_until(lambda query=query: loki_lines(watched.up["loki"], query), f"a call of {service}", SEEN_S)  # type: ignore[misc]
    for process in ("traefik", "agent", "control-plane", "hub", "consul", "supervisor"):
        query = f'{{service_name="{process}"}}'
        wait_until(lambda query=query: loki_lines(watched.up["loki"], query), f"lines of {process}", SEEN_S)  # type: ignore[misc]


def test_status_doctor_and_another_up_know_them(watched: Environment) -> None:
    for name in EXTRAS:
        process = watched.process(name)
        assert (process.state, process.url) == ("ready", watched.up[name])
    doctor = watched.tekup("doctor")
    assert doctor.returncode == 0, doctor.stdout
    again = watched.tekup("up", "--observability")
    assert "settings or programs have changed" not in again.stderr
    assert all(f"{name} " in again.stdout and str(watched.up[name]) in again.stdout for name in EXTRAS)


@pytest.mark.feature("D2", "D4")
async def test_calls_go_on_while_loki_and_jaeger_hang_or_are_dead_and_their_lines_arrive_later(
    watched: Environment,
) -> None:
    async def send(name: str, number: signal.Signals) -> None:
        process = await asyncio.to_thread(watched.process, name)
        assert process.pid
        os.kill(process.pid, number)

    tool = "filesystem_list_roots"
    query = f'{{service_name="filesystem"}} | event="call" | tool="{tool}"'
    before = loki_count(watched.up["loki"], query)
    async with Load(f"{watched.gateway_url}/filesystem/mcp", watched.key, tool).running() as calls:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for name in ("loki", "jaeger"):
                await send(name, number)
            await calls.more(100)
    assert not calls.failures

    async def all_there() -> bool:
        return await asyncio.to_thread(loki_count, watched.up["loki"], query) >= before + calls.calls

    await eventually(all_there, "all lines of calls made meanwhile", SEEN_S)
    await asyncio.to_thread(watched.until_all_ready, SEEN_S)


def test_down_stops_all_of_it(watched: Environment) -> None:
    assert watched.tekup("down").returncode == 0
    assert watched.running() == []
