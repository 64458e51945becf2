"""Keys that lie sealed in a real Consul, opened by a real agent for a real gate: or not, and then only these."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from control_plane.loop import Wish
from control_plane.model import ClientPolicy
from control_plane.rights import Rights
from control_plane.sealed import RingFile, Sealing
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.contract.control_plane.conftest import World

WISH = Wish("test", "test")
SETTING = "MCP_API_KEY_ENCRYPTION_KEY_FILE"
pytestmark = [pytest.mark.local, pytest.mark.timeout(120), pytest.mark.feature("E5")]


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    path = tmp_path / "ring.json"
    path.write_text(json.dumps({"keys": ["1f" * 32]}))
    path.chmod(0o600)
    return path


def sealing(world: World, ring: Path) -> Rights:
    """Rights that seal; the control plane's own would have all keys sealed within seconds."""
    return Rights(world.plane._carry_out, time.time, Sealing(RingFile(ring), on=True))


def in_consul(world: World) -> str:
    """Everything that lies in Consul's keys, as a read of it shows."""
    with urllib.request.urlopen(f"{world.server.url}/v1/kv/tekup/?recurse=true", timeout=5) as answer:
        return "\n".join(base64.b64decode(one["Value"] or "").decode() for one in json.load(answer))


async def refused(world: World) -> bool:
    """Whether the gate refuses our key."""
    return (await asyncio.to_thread(world.gate.call, "/alpha/mcp", world.gate_headers())).status == 401


async def test_what_the_agent_cannot_open_is_refused_and_named_and_the_rest_goes_on(world: World, ring: Path) -> None:
    bare, sealed = world.key, ""
    await world.plane.rights.add_client(ClientPolicy(id="late"), WISH)
    made, outcome = await sealing(world, ring).create_key("late", WISH)
    sealed = made.text
    assert not outcome.waiting_for
    report = await world.report()
    assert report
    (problem,) = report.problems
    assert problem.startswith(f"key {made.document.id} refused: sealed by key ")
    assert made.document.hash not in problem
    world.key = sealed
    assert await refused(world)
    world.key = bare
    assert await world.served()
    await world.plane.rights.revoke_key(bare.split("_")[1], WISH)
    assert await refused(world)


async def test_sealed_keys_work_and_go_on_through_a_restart_of_the_agent_without_consul(
    world: World, ring: Path
) -> None:
    world.stop_agent()
    world.start_agent(**{SETTING: str(ring)})
    await eventually(world.report, "the gate's report", 20)
    outcome, left = await sealing(world, ring).reseal_keys(WISH)
    assert (outcome.changed, outcome.waiting_for, left) == (True, (), ())
    assert await world.served()
    held = json.loads((world.gate.folder / "tables" / "clients.json").read_text())["keys"]
    hashes = [key["hash"] for key in held.values()]
    assert hashes
    assert not [text for text in hashes if text in in_consul(world)]
    world.stop_agent()
    world.server.kill()
    await asyncio.to_thread(ring.unlink)
    world.start_agent(**{SETTING: str(ring)})
    assert await world.served()
    assert oct((world.gate.folder / "agent.json").stat().st_mode & 0o777) == "0o600"
    await asyncio.to_thread(world.server.start)
