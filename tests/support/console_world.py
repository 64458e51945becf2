"""The console over a control plane in memory: for unit tests, and served to a browser for states that are large."""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette

from control_plane.api import create_app
from control_plane.api.events import Events
from control_plane.console import create_console
from control_plane.console.alerts import Alerts
from control_plane.console.links import Links
from control_plane.console.trail import Trail
from control_plane.console.who import Known
from control_plane.consul import Consul
from control_plane.engine import Engine
from control_plane.errors import Unavailable
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane
from control_plane.model import Instance
from tests.support.fake_metrics import FakeMetrics
from tests.support.gateways import FakeGateway
from tests.support.memory import Memory
from tests.support.plane import ObedientGate
from tests.support.ports import free_ports
from tests.support.wait import eventually

TOKEN = "secret-token"
CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass
class World:
    """A replica with everything around it.

    Args:
        app: API and console.
    """

    store: Memory
    gate: ObedientGate
    plane: ControlPlane
    engine: Engine
    metrics: FakeMetrics
    gateway: FakeGateway
    events: Events
    app: Starlette
    api: httpx.AsyncClient

    def browser(self, **headers: str) -> httpx.AsyncClient:
        """Somebody with a browser, not logged in."""
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://console.test", headers=headers)

    async def operator(self) -> httpx.AsyncClient:
        """Somebody who has logged in."""
        browser = self.browser()
        answer = await browser.post("/console/login", data={"token": TOKEN})
        assert answer.status_code == 303, answer.text
        return browser

    async def register(self, *instances: Instance) -> None:
        """Have these instances registered, all of them taken in."""
        await self.store.register(*instances)

        async def taken_in() -> bool:
            services = (await self.api.get("/v1/services")).json()["services"]
            known = sum(len(one["instances"]) for one in services)
            return known == len(instances) and all(one["policy"] for one in services)

        await eventually(taken_in, f"{len(instances)} instances taken in", 60)


def instance(service: str, version: str, number: int, *, passing: bool = True) -> Instance:
    """An instance."""
    return Instance(service, version, f"{number:06x}", "127.0.0.1", 20_000 + number, passing=passing)


def fields(page: str) -> dict[str, str]:
    """The hidden fields of a page's confirm form, as a browser would send them."""
    form = page[page.index('class="card confirm"') :]
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form)
    return {name: html.unescape(value) for name, value in found}


@contextlib.asynccontextmanager
async def console_world(
    *,
    accept_new: bool = True,
    links: Links | None = None,
    known: Known | None = None,
    alerts: Alerts | None = None,
    consul: Consul | None = None,
) -> AsyncIterator[World]:
    """The whole, led, with an empty policy and a gate that obeys; over a real Consul if one is given."""
    memory, metrics, gateway = Memory(), FakeMetrics(), FakeGateway()
    store = consul or memory
    gate = ObedientGate(store, "gate-1")
    leadership = Leadership(store, "replica-1", url="http://replica-1")
    plane = ControlPlane(store, store, leadership, in_force_timeout_s=5, now=time.time, accept_new=accept_new)
    engine = Engine(plane, store, metrics=metrics, gateway=gateway, turn_s=0.05)
    events, trail = Events(plane, store), Trail(store)
    app = create_app(plane, engine, TOKEN, None, events)
    async with httpx.AsyncClient(trust_env=False) as http:
        console = create_console(
            app, events, trail, secret=TOKEN, known=known or plane.operators.of, replica="replica-1",
            alerts=alerts or Alerts(http), links=links, asked=plane.once.answered,
        )  # fmt: skip
        app.mount("/console", console)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers=bearer) as api,
            asyncio.TaskGroup() as tasks,
        ):
            runs = (_patient(gate), plane.run(), engine.run(), events.run(), trail.run())
            work = [tasks.create_task(run) for run in runs]
            async with asyncio.timeout(20):
                await plane.leadership.held()
            begun = await eventually(lambda: _begun(api), "a policy")
            assert begun
            try:
                yield World(memory, gate, plane, engine, metrics, gateway, events, app, api)
            finally:
                memory.away = False
            for task in work:
                task.cancel()


async def _patient(gate: ObedientGate) -> None:
    """Report again after the store was away."""
    while True:
        with contextlib.suppress(Unavailable):
            await gate.run()
        await asyncio.sleep(0.05)


async def _begun(api: httpx.AsyncClient) -> bool:
    return (await api.post("/v1/init", json={})).is_success


@contextlib.asynccontextmanager
async def served(world: World) -> AsyncIterator[str]:
    """The application behind a port, for a real browser; gives its URL."""
    port = free_ports(1)[0]
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 0.5
    config.errorlog = None
    stop = asyncio.Event()
    running = asyncio.create_task(serve(cast("ASGIFramework", world.app), config, shutdown_trigger=stop.wait))
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False) as http:

        async def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return (await http.get(f"{url}/health")).is_success
            return False

        await eventually(answers, "the application served")
    try:
        yield url
    finally:
        stop.set()
        await running
