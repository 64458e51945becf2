"""A compromised service that dresses its registration up: nothing of it reaches the gate, and it is said."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import pytest

from tests.contract.control_plane.conftest import World
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.feature("E7"), pytest.mark.feature("E5")]

TAGS = [
    "traefik.enable=true",
    "traefik.http.routers.mine.rule=PathPrefix(`/`)",
    "traefik.http.routers.mine.priority=999999",
    "traefik.tcp.routers.mine.rule=HostSNI(`*`)",
]
META = {"version": "1.0.0", "instance": "bad001", "state": "serving", "admin": "1"}
DISGUISES: dict[str, dict[str, Any]] = {
    "mcp-alpha-bad001": {"Tags": TAGS},
    "mcp-alpha-bad002": {"Meta": {**META, "traefik_enable": "true", "instance": "bad002"}},
    "mcp-alpha-bad003": {"Meta": {**META, "instance": "aaaaa1"}},
    "mcp-beta-bad004": {"Meta": {**META, "instance": "bad004"}},
    "mcp-alpha-bad005": {"Meta": {**META, "instance": "bad005", "version": "{{evil}}"}},
}


def gate_shows(world: World) -> tuple[Any, ...]:
    """Routers and servers of the gate's Traefik."""
    url = f"{world.gate.private}/api/rawdata"
    with urllib.request.urlopen(url, timeout=5) as answer:
        raw = json.load(answer)
    servers = {name: one.get("loadBalancer", {}).get("servers") for name, one in raw["services"].items()}
    return sorted(raw["routers"]), servers, raw.get("tcpRouters")


async def test_disguised_registrations_change_nothing_at_the_gate_and_are_said(world: World) -> None:
    await asyncio.to_thread(world.gate.backend, "bad000")
    port = world.gate.backends["bad000"][0]
    before = await asyncio.to_thread(gate_shows, world)
    for at, changes in DISGUISES.items():
        body = {"Name": "mcp-alpha", "ID": at, "Address": "127.0.0.1", "Port": port, "Meta": META, **changes}
        await asyncio.to_thread(world._put, "/v1/agent/service/register", body)

    async def said() -> bool:
        return all(f'"id": "{at}"' in world.log for at in DISGUISES) and "registration.refused" in world.log

    await eventually(said, "the agent to say what it refused", 20)
    # a good one that comes later shows that the agent has looked at all of them
    await world.instance("aaaaa2", "1.0.0")

    async def taken_in() -> bool:
        return "aaaaa2" in json.dumps(await asyncio.to_thread(gate_shows, world))

    await eventually(taken_in, "the good instance behind the gate", 20)
    routers, servers, tcp = await asyncio.to_thread(gate_shows, world)
    new = [name for name in routers if name not in before[0]]
    assert all("aaaaa2" in name for name in new), new
    assert tcp == before[2]
    assert str(port) not in json.dumps(servers)
    assert await world.served()
    log = [json.loads(line) for line in world.log.splitlines()]
    refused = [line["id"] for line in log if line["event"] == "registration.refused"]
    assert sorted(refused) == sorted(DISGUISES), "each is said once"
