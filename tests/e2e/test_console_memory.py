"""The memory of a page of the console over an hour of a busy night, in a real Chromium whose clock runs ahead."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from playwright.async_api import Browser, CDPSession, Page, Response

from tests.support.console_world import TOKEN, World, console_world, instance, served
from tests.support.operator_browser import chromium, log_in

pytestmark = [
    pytest.mark.local,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.feature("C14"),
    pytest.mark.asyncio(loop_scope="module"),
]
SERVICES = 20
HOUR_S = 3600
BURST_S = 5
"""Rollouts that run are looked at so often: then the page hears of all of them, and reads itself again."""
WARM_S = 600
"""What a page takes at first, caches and compiled script, is no growth."""
SAMPLE_S = 150
LOOKS = 5
"""For a sample: an answer that the page is just putting in place is held for that moment, whole."""
MOST_BYTES_PER_HOUR = 1_000_000
MOST_NODES_PER_HOUR = 200
FRAGMENT = "x-console-fragment"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[tuple[World, str, Browser]]:
    async with console_world() as made:
        before = [instance(f"service-{number:02d}", "1.0.0", number) for number in range(SERVICES)]
        after = [instance(f"service-{number:02d}", "1.1.0", SERVICES + number) for number in range(SERVICES)]
        await made.register(*before)
        await made.register(*before, *after)
        async with served(made) as url, chromium() as browser:
            yield made, url, browser


@dataclass
class Watched:
    """A page somebody keeps open, and what it takes."""

    world: World
    page: Page
    devtools: CDPSession
    heaps: list[tuple[float, float]] = field(default_factory=list)
    nodes: list[tuple[float, float]] = field(default_factory=list)

    async def burst(self, second: int) -> None:
        """What five seconds of a busy night bring: looks at rollouts, now and then a shift or an instance."""
        number = second // BURST_S
        for each in range(10):
            self.world.events.tell("rollout", {"service": f"service-{each:02d}", "looked": time.time()})
        share = number % 50 + 1
        wish = {"weights_pct": {"1.1.0": share}, "reason": f"look {number}"}
        answer = await self.world.api.put(f"/v1/services/service-{number % SERVICES:02d}/traffic", json=wish)
        assert answer.is_success, answer.text
        await self._read_again()

    async def _read_again(self) -> None:
        """Let the page's clock run until it has read itself again and put in place what differs."""
        read = asyncio.ensure_future(self.page.wait_for_event("response", _is_fragment, timeout=60_000))
        while not read.done():
            await self.page.clock.run_for(BURST_S * 1000 // 4)
            await asyncio.sleep(0.01)
        await (await read).finished()

    async def sample(self, second: int) -> None:
        """Note what is held once nothing more can be thrown away."""
        looks = [await self._look() for _ in range(LOOKS)]
        heaps, nodes = zip(*looks, strict=True)
        self.heaps.append((second, min(heaps)))
        self.nodes.append((second, min(nodes)))

    async def _look(self) -> tuple[float, float]:
        await self.devtools.send("HeapProfiler.collectGarbage")
        held = (await self.devtools.send("Runtime.getHeapUsage"))["usedSize"]
        return float(held), float((await self.devtools.send("Memory.getDOMCounters"))["nodes"])


def _is_fragment(response: Response) -> bool:
    return FRAGMENT in response.request.headers


def per_hour(samples: list[tuple[float, float]]) -> float:
    """By how much something grows in an hour, by least squares."""
    return statistics.linear_regression(*zip(*samples, strict=True)).slope * HOUR_S


@pytest.mark.parametrize("path", ["/", "/services/service-03"])
async def test_a_page_kept_open_for_an_hour_of_events_takes_no_more_memory(
    world: tuple[World, str, Browser], path: str
) -> None:
    made, url, browser = world
    me = await log_in(browser, url, TOKEN)
    await me.page.clock.install()
    await me.go(path)
    watched = Watched(made, me.page, await me.page.context.new_cdp_session(me.page))
    for second in range(0, WARM_S + HOUR_S, BURST_S):
        await watched.burst(second)
        if second >= WARM_S and second % SAMPLE_S == 0:
            await watched.sample(second)
    grown, more = per_hour(watched.heaps), per_hour(watched.nodes)
    print(f"{path}: {watched.heaps[0][1]:,.0f} bytes at first, {watched.heaps[-1][1]:,.0f} in the end; by regression"
          f" over {len(watched.heaps)} samples {grown:+,.0f} bytes and {more:+,.0f} nodes in an hour")  # fmt: skip
    print("nodes at each sample:", *(f"{count:.0f}" for _, count in watched.nodes))
    assert len(watched.heaps) == HOUR_S // SAMPLE_S
    assert grown < MOST_BYTES_PER_HOUR
    assert more < MOST_NODES_PER_HOUR
    assert me.problems == []
    await me.page.context.close()
