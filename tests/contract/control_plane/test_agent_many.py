"""The agent beside a real Traefik with so many clients that their table stays and changes lie beside it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from control_plane.agent.beside import LARGE
from control_plane.consul import Consul
from control_plane.loop import Wish
from control_plane.model import ClientPolicy, Table
from control_plane.ports import Write
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.contract.control_plane.conftest import World

WISH = Wish("test", "test")
AT_ONCE = 60
pytestmark = [pytest.mark.local, pytest.mark.timeout(180), pytest.mark.feature("A5", "C2")]


async def crowded(world: World) -> None:
    """Many clients, and one change since, so that the agent has written them whole."""
    crowd = [ClientPolicy(id=f"c{number:04d}") for number in range(LARGE)]
    writes = [Write(Table.CLIENTS.prefix + one.key, one.to_bytes()) for one in crowd]
    async with Consul(world.server.url) as consul:
        for at in range(0, len(writes), AT_ONCE):
            await consul.commit(writes[at : at + AT_ONCE])
    assert not (await world.plane.repair(WISH)).waiting_for


def whole(world: World) -> bytes:
    return (world.gate.folder / "tables/clients.json").read_bytes()


async def test_a_revocation_among_many_clients_leaves_the_large_table_alone_and_outlives_every_restart(
    world: World,
) -> None:
    await crowded(world)
    before, key_id = whole(world), world.key.split("_")[1]
    assert await world.served()
    assert not (await world.plane.rights.revoke_key(key_id, WISH)).waiting_for
    assert not await world.served()
    assert whole(world) == before
    # Killed, so that nothing but the tables can tell.
    for agent in world._agents:
        agent.kill()
    world.stop_agent()
    await asyncio.to_thread(world.gate.stop)
    await asyncio.to_thread(world.gate.start)
    assert (await asyncio.to_thread(world.gate.call, "/alpha/mcp", world.gate_headers())).status == 401
    world.start_agent()
    world.key = (await world.plane.rights.create_key("dev", WISH))[0].text
    assert await world.served()
    assert not (await world.plane.rights.remove_client("dev", WISH)).waiting_for
    assert not await world.served()


async def test_changes_that_somebody_spoils_or_deletes_are_written_again(world: World) -> None:
    await crowded(world)
    await world.plane.rights.revoke_key(world.key.split("_")[1], WISH)
    path = world.gate.folder / "tables/clients-changes.json"
    for spoil in (path.unlink, lambda: path.write_text("{")):
        spoil()

        async def good() -> bool:
            state = await asyncio.to_thread(world.gate.state)
            return path.exists() and path.read_bytes() != b"{" and not state["clients"]["problems"]

        await eventually(good, "the changes to be put back", 30)
        assert json.loads(whole(world))["changes"]
        assert not await world.served()
    world.key = (await world.plane.rights.create_key("dev", WISH))[0].text
    assert await world.served()
