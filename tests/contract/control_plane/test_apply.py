"""Rules and copies in force on a real Traefik, in the order that loses no call."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from control_plane.gateway import InternalGate
from control_plane.model import Instance, InstanceState, Lane, Rule
from control_plane.shadow import Comparison, compare
from control_plane.told import counted, shadowed
from control_plane.traefik import Traefik
from tests.support.applied import World
from tests.support.gate import MODERN, SECRETS, SERVICE_KEYS, Load, Maker, close, lay_out
from tests.support.lines import whole_lines
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(120), pytest.mark.feature("C7", "C8")]
COPIED = "alpha_1-0-0~alpha_1-1-0"
SHADOW = (Rule(name="shadow", lanes=(Lane(version="1.0.0", weight_pct=100),), mirror="1.1.0"),)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A gate with nothing in force."""
    gate = lay_out(tmp_path / "gate")
    gate.write("tables/secrets.json", json.dumps(SECRETS))
    try:
        await asyncio.to_thread(gate.start)
        async with Traefik(gate.private) as traefik:
            yield World(gate, traefik)
    finally:
        close(gate)


async def test_no_call_is_lost_while_copies_and_their_mirror_come_and_go(world: World) -> None:
    old, new = world.instance("aaaaa1", "1.0.0"), world.instance("aaaaa3", "1.1.0")
    assert (await world.apply((), old)).problems == ()
    with Load(world.gate, "/mcp", Maker.modern("tools/call", "alpha_read")) as calls:
        for _ in range(2):
            assert (await world.apply(SHADOW, old, new)).problems == ()
            assert COPIED in world.routers()
            await world.copied()
            await asyncio.to_thread(calls.more, 50)
            # The mirror goes, its rule stays; the rule goes; all as ordinary calls.
            gone = world.instance("aaaaa3", "1.1.0", InstanceState.DRAINING)
            assert (await world.apply(SHADOW, old, gone)).problems == ()
            assert COPIED not in world.routers()
            assert (await world.apply((), old, new)).problems == ()
            await asyncio.to_thread(calls.more, 50)
    assert calls.lost == {}
    assert calls.seen.keys() == {"aaaaa1"}


async def test_a_target_with_copies_stands_in_the_table_only_once_traefik_shows_it(world: World) -> None:
    old, new = world.instance("aaaaa1", "1.0.0"), world.instance("aaaaa3", "1.1.0")
    await world.apply((), old, new)
    template = world.gate.folder / "dynamic/gate.yml"
    good = template.read_text()
    world.gate.write("dynamic/gate.yml", good.replace("    copies:", "    absent:"))
    applied = await world.apply(SHADOW, old, new)
    table = json.loads((world.gate.folder / "tables/services.json").read_text())["services"]["alpha"]
    assert any(COPIED in problem for problem in applied.problems)
    assert table["rules"][0]["lanes"] == [{"target": "alpha_1-0-0", "weight_pct": 100}]
    assert world.gate.call("/mcp", Maker.modern("tools/call", "alpha_read")).status == 200
    world.gate.write("dynamic/gate.yml", good)

    async def mended() -> bool:
        return (await world.apply(SHADOW, old, new)).problems == ()

    await eventually(mended, "Traefik to show the target with copies", 20)
    table = json.loads((world.gate.folder / "tables/services.json").read_text())["services"]["alpha"]
    assert table["rules"][0]["lanes"] == [{"target": COPIED, "weight_pct": 100}]


class Kits:
    """Instances of the demo service under the name alpha."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self.admin: dict[str, int] = {}

    def _spawn(self, name: str, version: str) -> Path:
        secrets = self._folder / "alpha.secrets.json"
        secrets.write_text(json.dumps({"service": "alpha", "keys": SECRETS["services"]["alpha"]}))  # type: ignore[index]
        secrets.chmod(0o600)
        given = {"MCP_SECRETS_FILE": str(secrets), "MCP_VERSION": version, "MCP_INSTANCE": name}
        log = self._folder / f"{name}.log"
        demo = Path(__file__).parents[1] / "kit" / "demo_service.py"
        with log.open("wb") as out:
            env = {**given, "PATH": os.environ["PATH"], "PYTHONPATH": str(demo.parents[3])}
            self._running.append(
                subprocess.Popen([sys.executable, str(demo), "alpha"], env=env, stdout=out, stderr=subprocess.STDOUT)
            )
        return log

    async def start(self, name: str, version: str) -> Instance:
        """One that serves."""
        log = self._spawn(name, version)

        async def serving() -> dict[str, int] | None:
            lines = [json.loads(line) for line in whole_lines(log) if line.startswith("{")]
            return next((line for line in lines if line["event"] == "serving"), None)

        where = await eventually(serving, f"{name} to serve; see {log}", 30)
        self.admin[name] = where["admin_port"]
        return Instance("alpha", version, name, "127.0.0.1", where["port"])

    def end(self) -> None:
        """Leaves no process behind."""
        for process in self._running:
            process.kill()
            process.wait()


@pytest.fixture
def kits(tmp_path: Path) -> Iterator[Kits]:
    """Starts instances on the kit."""
    made = Kits(tmp_path)
    yield made
    made.end()


def ask(world: World, tool: str, arguments: dict[str, object]) -> int:
    """A tool call of a modern client; its HTTP status."""
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    accepted = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    headers = Maker.modern("tools/call", tool) | accepted
    return world.gate.http.post(f"{world.gate.public}/mcp", headers=headers, content=body).status_code


async def test_what_two_versions_on_the_kit_make_of_the_same_calls_is_compared(world: World, kits: Kits) -> None:
    old, new = await kits.start("aaaaa1", "1.0.0"), await kits.start("aaaaa3", "1.1.0")
    assert (await world.apply(SHADOW, old, new)).problems == ()
    for number in range(20):
        assert await asyncio.to_thread(ask, world, "alpha_add", {"a": number, "b": 1}) == 200
    for _ in range(5):
        assert await asyncio.to_thread(ask, world, "alpha_whoami", {}) == 200
    assert await asyncio.to_thread(ask, world, "alpha_sleep", {"seconds": 0}) == 200
    key = bytes.fromhex(SERVICE_KEYS["control-plane"])
    async with InternalGate([world.gate.internal], hmac.digest(key, b"caller", "sha256").hex()) as gateway:

        async def all_compared() -> Comparison | None:
            sides, problems = await shadowed(gateway, (old, new))
            assert problems == ()
            found = compare(sides, sides)
            return found if found.compared >= 25 else None

        found = await eventually(all_compared, "25 pairs", 20)
        loads = [await counted(gateway, one) for one in (old, new)]
    async with httpx.AsyncClient(trust_env=False) as http:
        refused = (await http.get(f"http://127.0.0.1:{kits.admin[new.id]}/metrics")).text
    # Both add alike; each says who it is; what may change something did not run twice.
    assert (found.matched, found.differing) == (20, 5)
    assert found.examples.keys() == {"alpha_whoami"}
    assert found.latency_ratio is not None
    assert all(one is not None and one.in_flight_seconds > 0 for one in loads)
    assert 'tekup_mirrored_calls_total{outcome="refused",tool="alpha_sleep"} 1.0' in refused
    calls = [line for line in refused.splitlines() if line.startswith("tekup_tool_calls_total{")]
    assert calls
    assert all(line.endswith(" 0.0") for line in calls)
