"""The number of a service's instances follows its load, with everything real and every call counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.load import Load
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(180), pytest.mark.feature("C11")]
ADDED_S = 15
DECIDED_S = 10
SLOW_S = 0.2


async def asked(environment: Any, *args: str) -> Any:
    return await asyncio.to_thread(environment.tekup_json, *args)


async def decided(environment: Any) -> bool:
    return bool((await asked(environment, "autoscale", "show", "search"))["versions"])


def serving(environment: Any) -> int:
    return sum(one.group == "search" and one.ready for one in environment.status().processes)


def starting(environment: Any, service: str) -> float:
    """How long the last instance of a service took to be ready once its process was begun, by the supervisor's log."""
    lines = [json.loads(line) for line in (environment.state / "logs" / "supervisor.log").read_text().splitlines()]
    took = [line["after_s"] for line in lines if line["event"] == "ready" and line["process"].startswith(service)]
    return float(took[-1])


async def counted(environment: Any, number: int, what: str, within_s: float) -> float:
    """Wait until so many instances of search serve; how long that took."""
    began_s = time.monotonic()

    async def there() -> bool:
        await asyncio.sleep(0.3)
        return await asyncio.to_thread(serving, environment) == number

    await eventually(there, what, within_s)
    return time.monotonic() - began_s


def slow(environment: Any) -> Callable[[], None]:
    """Make search take its time, whatever the machine is; undone by what is returned."""
    version = environment.process("search").version
    drill = environment.state / "drills" / f"search-{version}.json"
    drill.write_text(json.dumps([{"delay_ms": int(1000 * SLOW_S)}]))
    return lambda: drill.unlink(missing_ok=True)


async def test_load_adds_an_instance_within_15_s_its_end_removes_it_and_no_call_is_lost(environment: Any) -> None:
    fast_again = slow(environment)
    load = Load(
        f"{environment.gateway_url}/mcp", environment.key, "search_grep", {"pattern": "lighthouse", "path": "."}
    )
    bounds = ("--min", "1", "--max", "2", "--in-flight", "3", "--down-cooldown", "6", "--up-cooldown", "5")
    try:
        await asked(environment, "autoscale", "set", "search", *bounds, "--reason", "test")
        await eventually(lambda: decided(environment), "a first decision", 20)
        refused = await asyncio.to_thread(environment.tekup, "scale", "search=3")
        assert refused.returncode == 2
        async with load.running(workers=2):
            assert await counted(environment, 1, "one instance is enough for two calls", 20) < 20
            async with load.running(workers=6):
                added_s = await counted(environment, 2, "a second instance", 40)
                await load.more(60)
            removed_s = await counted(environment, 1, "the second instance to go", 60)
            await load.more(20)
        shown = await asked(environment, "autoscale", "show", "search")
        started_s = starting(environment, "search")
        print(f"added after {added_s:.1f} s (started in {started_s:.1f} s), removed after {removed_s:.1f} s")
        print(f"{load.calls} calls, {len(load.failures)} kinds of failure")
        assert not load.failures
        # The rest is the machine's: how long it takes to start a process while others keep it busy.
        assert added_s - started_s < DECIDED_S
        assert added_s < ADDED_S or started_s > ADDED_S - DECIDED_S
        assert shown["versions"][0]["wanted"] == 1
        assert "calls under way, 3 meant for each instance" in shown["versions"][0]["why"]
    finally:
        fast_again()
        await asked(environment, "autoscale", "off", "search", "--reason", "test")
        await asked(environment, "scale", "search=1")


@pytest.mark.long
async def test_what_is_only_recommended_is_told_in_status_and_metrics_and_done_by_nobody(environment: Any) -> None:
    async def metrics() -> str:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(f"{environment.control_plane_url}/metrics")).text

    async def told() -> bool:
        shown = await asyncio.to_thread(environment.tekup, "status")
        return "filesystem" in shown.stdout and "should have 2 instances and has 1" in " ".join(shown.stdout.split())

    before = len(environment.status().processes)
    try:
        await asked(environment, "autoscale", "set", "filesystem", "--min", "2", "--recommend", "--reason", "test")
        await eventually(told, "`tekup status` to tell of it", 20)
        version = environment.process("filesystem").version
        assert f'tekup_autoscale_wanted{{service="filesystem",version="{version}"}} 2.0' in await metrics()
        assert len(environment.status().processes) == before
    finally:
        await asked(environment, "autoscale", "off", "filesystem", "--reason", "test")
