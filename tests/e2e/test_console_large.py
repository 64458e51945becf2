"""The console over a large state in a real Consul: 200 services, 1,000 instances, 10,000 versions of the policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from control_plane.consul import Consul
from control_plane.kept import REVISION_KEY, history_key
from control_plane.model import HistoryRecord, Revision
from control_plane.ports import Write
from tests.support.console_world import TOKEN, World, console_world, served
from tests.support.consul_process import ConsulProcess
from tests.support.operator_browser import chromium, log_in
from tests.support.wait import eventually

pytestmark = [
    pytest.mark.local,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.feature("C14"),
    pytest.mark.asyncio(loop_scope="module"),
]
SERVICES, INSTANCES, VERSIONS = 200, 1000, 10_000
AT_ONCE = 60
FIRST_PAINT_MS = 1000.0


@dataclass
class Large:
    """The world and where it is served."""

    world: World
    consul: Consul
    url: str
    browser: Browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Large]:
    limits = {"http_max_conns_per_client": 1000}  # as consul/agent.json has it
    with ConsulProcess(tmp_path_factory.mktemp("consul"), limits=limits) as server:
        async with Consul(server.url) as consul, console_world(consul=consul, accept_new=False) as world:
            await register(server.url)
            await eventually(lambda: registered(world), "all instances registered", 240)
            await take_in(world)
            await write_history(world, consul)
            async with served(world) as url, chromium() as browser:
                yield Large(world, consul, url, browser)


async def register(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        for first in range(0, INSTANCES, 20):
            entries = (entry(number) for number in range(first, first + 20))
            await asyncio.gather(*(http.put("/v1/agent/service/register", json=one) for one in entries))


def entry(number: int) -> dict[str, object]:
    """What an instance registers: each service has five, the fifth of a newer version."""
    name, version = f"service-{number % SERVICES:03d}", "1.1.0" if number >= 4 * SERVICES else "1.0.0"
    return {
        "Name": f"mcp-{name}",
        "ID": f"mcp-{name}-{number:06x}",
        "Address": "127.0.0.1",
        "Port": 20_000 + number,
        "Meta": {"version": version, "instance": f"{number:06x}", "state": "serving", "admin": "1"},
        "Check": {"TTL": "1h", "Status": "passing"},
    }


async def registered(world: World) -> bool:
    return len(world.plane.instances()) == INSTANCES


async def take_in(world: World) -> None:
    """All services in one change; one by one takes long where Consul's disk is busy."""
    lanes = [{"version": "1.0.0", "weight_pct": 90}, {"version": "1.1.0", "weight_pct": 10}]
    services = [
        {"kind": "Service", "name": f"service-{number:03d}", "stable": "1.0.0", "lanes": lanes}
        for number in range(SERVICES)
    ]
    wish = {"resources": services, "reason": "all of them"}
    answer = await eventually(lambda: world.api.post("/v1/state/apply", json=wish), "an answer")
    assert answer.is_success, answer.text


async def write_history(world: World, consul: Consul) -> None:
    """As many versions as are kept, as if they had been made."""
    found = (await consul.read(REVISION_KEY)).entries[""]
    now = Revision.parse(found.value, "revision")
    last = HistoryRecord.parse((await consul.read(history_key(now.epoch, now.number))).entries[""].value, "record")
    records = [
        last.model_copy(update={"number": number, "changes": last.changes[:1], "reason": f"change {number}"})
        for number in range(now.number + 1, VERSIONS + 1)
    ]
    fence = world.plane.leadership.fence()
    for first in range(0, len(records), AT_ONCE):
        lot = records[first : first + AT_ONCE]
        await consul.commit([Write(history_key(one.epoch, one.number), one.to_bytes()) for one in lot], fence)
    raised = now.model_copy(update={"number": VERSIONS})
    await consul.commit([Write(REVISION_KEY, raised.to_bytes())], fence)


async def test_the_first_paint_comes_within_a_second(large: Large) -> None:
    me = await log_in(large.browser, large.url, TOKEN)
    for path in ("/", "/history", "/services/service-007", "/history/9000"):
        paints = [await painted_ms(me.page, f"{large.url}/console{path}") for _ in range(3)]
        print(f"first paint of {path}: {', '.join(f'{one:.0f}' for one in paints)} ms")
        assert min(paints) < FIRST_PAINT_MS, path
    await me.page.context.close()


async def painted_ms(page: Page, url: str) -> float:
    await page.goto(url)
    script = """() => new Promise((done) => new PerformanceObserver((list) => done(list.getEntries()[0].startTime))
        .observe({ type: "paint", buffered: true }))"""
    return float(await page.evaluate(script))


async def test_what_changes_is_on_the_page_within_a_second(large: Large) -> None:
    me = await log_in(large.browser, large.url, TOKEN)
    for share in (10, 20, 30):
        wish = {"weights_pct": {"1.1.0": share}, "reason": "x"}
        answer = await large.world.api.put("/v1/services/service-003/traffic", json=wish)
        assert answer.is_success, answer.text
        began_s = time.monotonic()
        await me.says(f"1.1.0 {share} %")
        print(f"behind: {time.monotonic() - began_s:.2f} s")
    await me.page.context.close()
