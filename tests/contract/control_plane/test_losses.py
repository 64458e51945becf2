"""Lost instances as a real Consul shows them: killed, not ready, drained, and Consul itself killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from control_plane.consul import Consul
from control_plane.losses import Losses
from control_plane.registry import Registry
from tests.support.consul_process import ConsulProcess
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.feature("D1")]
LOST = [("search", "1.0.0")]


@dataclass
class Process:
    """Answers Consul's check until it is killed."""

    name: str
    server: asyncio.Server
    status: int = 200

    @property
    def port(self) -> int:
        return int(self.server.sockets[0].getsockname()[1])

    @classmethod
    async def started(cls, name: str) -> Process:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {made.status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            writer.close()

        made = cls(name, await asyncio.start_server(answer, "127.0.0.1", 0))
        return made

    def kill(self) -> None:
        self.server.close()


class World:
    """A Consul and whoever follows it."""

    def __init__(self, consul: ConsulProcess, registry: Registry, losses: Losses) -> None:
        self.consul, self.registry, self.losses = consul, registry, losses
        self.processes: list[Process] = []

    async def started(self, name: str) -> Process:
        """A process that lives and is registered."""
        self.processes.append(await Process.started(name))
        await self.register(self.processes[-1])
        return self.processes[-1]

    async def register(self, process: Process, state: str = "serving") -> None:
        meta = {"version": "1.0.0", "instance": process.name, "state": state, "admin": str(process.port)}
        body = {
            "Name": "mcp-search",
            "ID": f"mcp-search-{process.name}",
            "Address": "127.0.0.1",
            "Port": process.port,
            "Meta": meta,
            "Check": {"HTTP": f"http://127.0.0.1:{process.port}/ready", "Interval": "1s", "Status": "passing"},
        }
        await asyncio.to_thread(self._put, "register", json.dumps(body).encode())

    async def deregister(self, process: Process) -> None:
        await asyncio.to_thread(self._put, f"deregister/mcp-search-{process.name}", b"")

    async def shows(self, **wanted: bool) -> None:
        """Wait until the catalog shows just these instances, passing or not."""

        async def look() -> bool:
            return {one.id: one.passing for one in self.registry.instances} == wanted

        await eventually(look, f"the catalog to show {wanted}")

    def lost(self, later_s: float = 0) -> list[tuple[str, str]]:
        return self.losses.turn(time.monotonic() + later_s, leading=True)

    def _put(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(f"{self.consul.url}/v1/agent/service/{path}", body, method="PUT")
        urllib.request.urlopen(request, timeout=5).close()


@pytest.fixture
async def world(own_consul: ConsulProcess) -> AsyncIterator[World]:
    losses = Losses()
    async with Consul(own_consul.url) as consul:
        registry = Registry(consul, losses)
        task = asyncio.create_task(registry.run())
        made = World(own_consul, registry, losses)
        yield made
        task.cancel()
        for process in made.processes:
            process.kill()


async def test_who_is_killed_is_lost_and_who_is_not_ready_or_drains_is_not(world: World) -> None:
    killed, unready, drained = [await world.started(name) for name in ("aaaaaa", "bbbbbb", "cccccc")]
    await world.shows(aaaaaa=True, bbbbbb=True, cccccc=True)
    unready.status = 503
    await world.register(drained, state="draining")
    await world.shows(aaaaaa=True, bbbbbb=False, cccccc=True)
    await world.deregister(drained)
    await world.shows(aaaaaa=True, bbbbbb=False)
    assert world.lost(later_s=60) == []
    killed.kill()
    await world.shows(aaaaaa=False, bbbbbb=False)
    assert world.lost() == LOST
    assert world.lost(later_s=60) == []


async def test_a_consul_that_is_killed_and_comes_back_loses_nobody_who_lives(world: World) -> None:
    for name in ("aaaaaa", "bbbbbb"):
        await world.started(name)
    await world.shows(aaaaaa=True, bbbbbb=True)
    world.consul.kill()
    await asyncio.to_thread(world.consul.start)
    read_s = time.monotonic()

    async def read_again() -> bool:
        return world.registry.answered_s["search"] > read_s

    await eventually(read_again, "the catalog of the Consul that came back")
    await world.shows(aaaaaa=True, bbbbbb=True)
    assert world.lost(later_s=60) == []
