"""Load balancing and traffic shifting through the real gate, every call counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.load import Load
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
TOOL = "filesystem_list_roots"


def load(environment: Any) -> Load:
    return Load(f"{environment.gateway_url}/filesystem/mcp", environment.key, TOOL)


async def tekup(environment: Any, *args: str) -> Any:
    return await asyncio.to_thread(environment.tekup_json, *args)


async def calls_by_instance(environment: Any) -> dict[str, int]:
    """Calls of the tool that each filesystem instance has counted itself."""
    async with httpx.AsyncClient() as client:
        url = f"{environment.consul_url}/v1/health/service/mcp-filesystem?passing"
        found = (await client.get(url, headers=environment.consul_token())).json()
        counts = {}
        for node in found:
            meta = node["Service"]["Meta"]
            text = (await client.get(f"http://127.0.0.1:{meta['admin']}/metrics")).text
            counts[meta["instance"]] = sum(
                int(float(line.rsplit(" ", 1)[1]))
                for line in text.splitlines()
                if line.startswith("tekup_tool_calls_total") and f'"{TOOL}"' in line and '"ok"' in line
            )
    return counts


@pytest.fixture
def three_instances(environment: Any) -> Iterator[Any]:
    environment.tekup_json("scale", "filesystem=3")
    yield environment
    environment.tekup_json("scale", "filesystem=1")


@pytest.fixture
def two_versions(environment: Any) -> Iterator[Any]:
    environment.tekup_json("scale", "filesystem=1", "--version", "1.1.0")
    yield environment
    stable = environment.tekup_json("traffic", "show", "filesystem")["policy"]["stable"]
    environment.tekup_json("traffic", "set", "filesystem", f"{stable}=100", "--reason", "test ends")
    environment.tekup_json("scale", "filesystem=0", "--version", "1.1.0")


@pytest.mark.feature("A1")
@pytest.mark.parametrize("calls", [600, pytest.param(3_000, marks=pytest.mark.long)])
async def test_three_instances_share_calls_alike(three_instances: Any, calls: int) -> None:
    async def all_in() -> bool:
        before = await calls_by_instance(three_instances)
        probe = load(three_instances)
        await probe.run(60)
        after = await calls_by_instance(three_instances)
        return len(before) == 3 and all(after[one] > before[one] for one in before)

    await eventually(all_in, "calls on all three instances")
    before = await calls_by_instance(three_instances)
    counted = load(three_instances)
    await counted.run(calls)
    after = await calls_by_instance(three_instances)
    assert not counted.failures
    shares = [100 * (after[one] - before[one]) / calls for one in before]
    assert all(30 <= share <= 36 for share in shares), shares


@pytest.mark.feature("C1", "F3")
async def test_a_new_instance_gets_traffic_soon_after_it_is_ready(environment: Any) -> None:
    before = set(await calls_by_instance(environment))
    scaling = asyncio.create_task(tekup(environment, "scale", "filesystem=2"))
    try:
        async with load(environment).running(workers=2):

            async def registered() -> str | None:
                return next(iter(set(await calls_by_instance(environment)) - before), None)

            newcomer = await eventually(registered, "the new instance's registration", 60)
            ready_s = time.monotonic()

            async def called() -> bool:
                return (await calls_by_instance(environment))[newcomer] > 0

            await eventually(called, "a call on the new instance", 10)
            took_s = time.monotonic() - ready_s
        assert took_s < 5, f"{took_s:.1f} s"
    finally:
        await scaling
        await tekup(environment, "scale", "filesystem=1")


@pytest.mark.feature("C2", "C3")
@pytest.mark.parametrize("calls", [1_000, pytest.param(5_000, marks=pytest.mark.long)])
async def test_a_tenth_of_the_calls_go_to_the_version_that_was_given_a_tenth(two_versions: Any, calls: int) -> None:
    done = await tekup(two_versions, "traffic", "set", "filesystem", "1.1.0=10", "--reason", "test")
    assert done["in_force"]
    counted = load(two_versions)
    await counted.run(calls)
    assert not counted.failures
    assert counted.versions["1.1.0"] == pytest.approx(calls / 10, rel=0.05)


@pytest.mark.feature("C2", "C3")
@pytest.mark.parametrize("shifts", [6, pytest.param(20, marks=pytest.mark.long)])
async def test_shifts_under_load_lose_nothing(two_versions: Any, shifts: int) -> None:
    async with load(two_versions).running() as counted:
        for step in range(shifts):
            share = (10, 50, 90, 0)[step % 4]
            done = await tekup(two_versions, "traffic", "set", "filesystem", f"1.1.0={share}", "--reason", "test")
            assert done["in_force"]
            await counted.more(50)
    assert not counted.failures
    assert min(counted.versions.values()) > 5 * shifts, counted.versions


@pytest.mark.feature("C3", "G7")
def test_what_cannot_be_is_refused_with_its_reason_and_changes_nothing(environment: Any) -> None:
    before = environment.tekup_json("traffic", "show", "filesystem")
    for wish, said in (
        (["9.9.9=10"], "no instance of version 9.9.9"),
        (["nonsense"], "is not VERSION=PCT"),
        ([f"{before['policy']['stable']}=50"], "weights sum to 50, not 100"),
    ):
        refused = environment.tekup("traffic", "set", "filesystem", *wish, "--reason", "test")
        assert refused.returncode == 2
        assert said in refused.stderr
    assert environment.tekup("traffic", "set", "nowhere", "1=100", "--reason", "test").returncode == 2
    assert environment.tekup_json("traffic", "show", "filesystem") == before
