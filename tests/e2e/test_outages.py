"""What callers notice when parts die: nothing. And what operators are told."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from typing import Any

import httpx
import pytest

from compose.local.status import ProcessStatus
from tests.support.drill import recovered
from tests.support.load import Load
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]


def load(environment: Any) -> Load:
    return Load(f"{environment.gateway_url}/filesystem/mcp", environment.key, "filesystem_list_roots")


async def tekup(environment: Any, *args: str) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = await asyncio.to_thread(environment.tekup, *args)
    return done


async def process(environment: Any, name: str) -> ProcessStatus:
    found: ProcessStatus = await asyncio.to_thread(environment.process, name)
    return found


def send(running: ProcessStatus, number: signal.Signals) -> None:
    assert running.pid, f"{running.name} does not run"
    os.kill(running.pid, number)


async def killed_and_back(environment: Any, name: str) -> None:
    """Kill a process and wait until its successor is ready."""
    before = await process(environment, name)
    send(before, signal.SIGKILL)

    async def back() -> bool:
        now = await process(environment, name)
        return now.pid not in (None, before.pid) and now.ready

    await eventually(back, f"{name} to be back", 60)


async def policy_can_be_changed(environment: Any) -> None:
    """A client is added and removed again, in force on the gate each time."""

    async def added() -> bool:
        return (await tekup(environment, "clients", "add", "after", "--reason", "test")).returncode == 0

    async def removed() -> bool:
        return (await tekup(environment, "clients", "remove", "after", "--reason", "test")).returncode == 0

    await eventually(added, "a change to be in force again", 60)
    await eventually(removed, "the change to be undone", 60)


@pytest.mark.feature("C1", "C2", "A5", "C12")
@pytest.mark.parametrize("name", ["control-plane", "agent", "consul"])
async def test_callers_notice_nothing_when_a_part_beside_the_path_dies(environment: Any, name: str) -> None:
    async with load(environment).running() as calls:
        await killed_and_back(environment, name)
        await calls.more(200)
        await policy_can_be_changed(environment)
        await calls.more(100)
    assert not calls.failures


@pytest.mark.feature("A12", "B5")
async def test_a_killed_instance_costs_only_the_calls_it_was_in(environment: Any) -> None:
    await tekup(environment, "scale", "filesystem=2")
    try:
        async with load(environment).running(workers=4) as calls:
            await calls.more(200)
            await killed_and_back(environment, "filesystem")
            await calls.more(200)
        # Four workers, each with one call in the dead one and one more on a connection not yet known to be closed.
        assert calls.failures.total() <= 8, calls.failures
    finally:
        await tekup(environment, "scale", "filesystem=1")


@pytest.mark.long
@pytest.mark.feature("C1")
@pytest.mark.drill
async def test_a_consul_that_comes_back_empty_takes_neither_routes_nor_keys_and_it_is_said(
    fresh_environment: Any,
) -> None:
    environment = fresh_environment
    await asyncio.to_thread(environment.start)
    consul = await process(environment, "consul")
    async with load(environment).running() as calls:
        # The supervisor brings it back within seconds; its data goes while it is down.
        send(consul, signal.SIGSTOP)
        shutil.rmtree(environment.state / "consul")
        send(consul, signal.SIGKILL)

        async def said() -> bool:
            return "Consul holds no policy any more" in await asyncio.to_thread(
                (environment.state / "logs" / "agent.log").read_text
            )

        await eventually(said, "the agent to say that Consul is empty", 60)
        await calls.more(300)

        async def gate_is_back() -> bool:
            listed = await tekup(environment, "gates", "list")
            return "Consul holds no policy" in " ".join(listed.stdout.split())

        await eventually(gate_is_back, "the gate's report to name it", 30)
        refused = await tekup(environment, "state", "init", "--reason", "test")
        assert refused.returncode == 2
        assert "its data is lost" in " ".join(refused.stderr.split())
        await calls.more(100)
    assert not calls.failures
    began_s = time.monotonic()
    assert (await tekup(environment, "state", "init", "--force", "--reason", "test")).returncode == 0
    await policy_can_be_changed(environment)
    await tekup(environment, "clients", "add", "anew", "--reason", "test")
    made = await tekup(environment, "keys", "create", "anew", "--reason", "test")
    again = Load(f"{environment.gateway_url}/filesystem/mcp", made.stdout.split()[0], "filesystem_list_roots")

    async def served() -> bool:
        await again.run(1, workers=1)
        return bool(again.versions)

    await eventually(served, "the services to be taken in anew", 30)
    recovered("Consul's data, begun anew without a backup", time.monotonic() - began_s, 90)


@pytest.mark.feature("C1")
async def test_a_gate_restarted_while_consul_is_down_serves_from_its_files(fresh_environment: Any) -> None:
    environment = fresh_environment
    await asyncio.to_thread(environment.start)
    consul, traefik = await process(environment, "consul"), await process(environment, "traefik")
    # Stopped, not killed: the supervisor would bring it back.
    send(consul, signal.SIGSTOP)
    try:
        send(traefik, signal.SIGKILL)
        calls = load(environment)

        async def served() -> bool:
            await calls.run(1, workers=1)
            return bool(calls.versions)

        await eventually(served, "the restarted gate to serve", 30)
        counted = load(environment)
        await counted.run(200)
        assert not counted.failures
        wrong = Load(f"{environment.gateway_url}/filesystem/mcp", "tk_no_key", "filesystem_list_roots")
        await wrong.run(5, workers=1)
        assert not wrong.versions
    finally:
        send(consul, signal.SIGCONT)


async def test_the_operators_api_wants_a_token_and_listens_on_loopback(environment: Any) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{environment.control_plane_url}/v1/status")).status_code == 401
    assert environment.control_plane_url.startswith("http://127.0.0.1:")
