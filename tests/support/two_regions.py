"""Two regions: each a Consul, a replica of the control plane as a process, and a gate that obeys; links can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from control_plane.consul import Consul
from tests.support.consul_process import ConsulProcess
from tests.support.cut import Cut, cut_proxy
from tests.support.ports import free_ports
from tests.support.replicas import PATIENCE_S, TOKEN, Member, ObedientAgent
from tests.support.wait import eventually

SECRET = "5ec2e7" * 8
WITHIN_S = 40.0
Json = dict[str, Any]


@dataclass
class Place:
    """One region.

    Args:
        name: Which.
        consul: The test's own line to its Consul.
        member: Its control plane.
        link: The way of the other region to its API.
    """

    name: str
    consul: Consul
    member: Member
    link: Cut
    http: httpx.AsyncClient

    async def ask(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        """Ask its operators' API."""
        return await self.http.request(method, self.member.url + path, json=body)

    async def told(self, method: str, path: str, body: Json | None = None) -> Json:
        """The same, where it has to be done."""
        answer = await self.ask(method, path, body)
        assert answer.is_success, f"{self.name}: {answer.status_code} {answer.text}"
        found: Json = answer.json()
        return found

    async def region(self, verb: str, **body: object) -> Json:
        """A verb of `tekup region`."""
        return await self.told("POST", f"/v1/region/{verb}", {"reason": "test", **body})

    async def shown(self) -> Json:
        """`tekup region show`."""
        return await self.told("GET", "/v1/region")

    async def add(self, client: str) -> httpx.Response:
        """Add a client."""
        return await self.ask("POST", "/v1/clients", {"id": client, "reason": f"for {client}"})

    async def clients(self) -> set[str]:
        """The clients it knows."""
        return {one["id"] for one in (await self.told("GET", "/v1/clients"))["clients"]}

    async def until_is(self, part: str) -> None:
        """Wait until it is home, or follower."""

        async def so() -> bool:
            return bool((await self.shown())["part"] == part)

        await eventually(so, f"{self.name} to be {part}", WITHIN_S)

    async def until_knows(self, client: str) -> None:
        """Wait until a client is known there."""

        async def so() -> bool:
            return client in await self.clients()

        await eventually(so, f"{self.name} to know {client}", WITHIN_S)

    async def stop(self) -> None:
        """End its control plane at once."""
        assert self.member.process
        self.member.process.kill()
        await asyncio.to_thread(self.member.process.wait)
        self.member.process = None

    async def start(self) -> None:
        """Start it, and wait until it stands."""
        self.member.start()

        async def stands() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return bool((await self.ask("GET", "/ready")).json().get("led"))
            return False

        await eventually(stands, f"{self.name}'s control plane", 60)


def _lay_out(folder: Path) -> Path:
    folder.mkdir()
    (folder / "operator.token").write_text(TOKEN)
    secret = folder / "region.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    return secret


@contextlib.asynccontextmanager
async def place(name: str, server: ConsulProcess, folder: Path, **settings: str) -> AsyncIterator[Place]:
    """One region, with an empty policy."""
    secret = _lay_out(folder)
    async with contextlib.AsyncExitStack() as stack:
        consul = await stack.enter_async_context(Consul(server.url))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, headers=headers))
        straight = await stack.enter_async_context(cut_proxy(server.url))
        (port,) = free_ports(1)
        own = {"MCP_REGION_SECRET_FILE": str(secret), **settings}
        member = Member(f"cp-{name}", port, straight, folder, 2, own)
        made = Place(name, consul, member, await stack.enter_async_context(cut_proxy(member.url)), http)
        agent = asyncio.create_task(ObedientAgent(consul).run())
        try:
            await made.start()

            async def begun() -> bool:
                return (await made.ask("POST", "/v1/init", {})).is_success

            await eventually(begun, "an empty policy", 30)
            yield made
        finally:
            if made.member.process:
                await made.stop()
            agent.cancel()
            await asyncio.wait([agent])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextlib.asynccontextmanager
async def two_regions(folder: Path) -> AsyncIterator[tuple[Place, Place]]:
    """West, which is home, and east, which follows it."""
    async with contextlib.AsyncExitStack() as stack:
        places = []
        for name in ("west", "east"):
            server = stack.enter_context(ConsulProcess(_made(folder / f"consul-{name}")))
            places.append(await stack.enter_async_context(place(name, server, folder / name)))
        west, east = places
        await west.region("take-over", peer=east.link.url)
        await east.region("follow", peer=west.link.url)
        yield west, east
