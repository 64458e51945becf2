"""The control plane's own calls through a real gate to real instances on the kit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError

import httpx
import pytest

from control_plane.contract import breaches
from control_plane.delivery import ProbeCall
from control_plane.errors import Unavailable
from control_plane.gateway import InternalGate, read_proof
from control_plane.metrics import PlaneMetrics, Standing
from control_plane.model import Instance
from control_plane.probing import Pace, Probing, Wishes, prove
from tests.contract.control_plane.conftest import World
from tests.support.gate import SERVICE_KEYS
from tests.support.guest import introduce, kit_instance
from tests.support.wait import eventually

pytestmark = pytest.mark.local

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "tests" / "contract" / "kit" / "demo_service.py"
WITHIN_S = 30
PROBE = ProbeCall(tool="ledger_list")


@dataclass
class Guests:
    """Starts instances on the kit in a world, and calls them as the control plane."""

    world: World
    folder: Path
    gate: InternalGate
    _life: ExitStack = field(default_factory=ExitStack)

    async def start(
        self, service: str, instance: str, version: str, command: list[str | Path], **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start an instance, and wait until the gate leads to it."""
        secrets_file = introduce(self.folder, service)
        running = self._life.enter_context(
            kit_instance(
                command,
                secrets_file=secrets_file,
                consul_url=self.world.server.url,
                log=self.folder / f"{service}-{instance}.log",
                version=version,
                MCP_INSTANCE=instance,
                **variables,
            )
        )
        target = f"{service}_{version.replace('.', '-')}"
        for each in (f"{target}_{instance}", target):
            await eventually(lambda each=each: self.offers(service, each), f"{each} to answer", WITHIN_S)  # type: ignore[misc]
        return running

    async def ledger(self, instance: str, version: str = "1.0.0", **variables: str) -> subprocess.Popen[bytes]:
        """Start an instance of the ledger."""
        command: list[str | Path] = [sys.executable, "-m", "tests.support.ledger_service"]
        return await self.start(
            "ledger", instance, version, command, MCP_LEDGER_FILE=str(self.folder / "ledger"), **variables
        )

    async def offers(self, service: str, target: str) -> bool:
        """Whether a target offers something."""
        with contextlib.suppress(Unavailable):
            return bool((await self.gate.offer(service, target)).tools)
        return False

    def registered(self, instance: str) -> Instance | None:
        """An instance as the catalog shows it."""
        return next((one for one in self.world.plane.instances() if one.id == instance), None)

    def close(self) -> None:
        """End them all."""
        self._life.close()


@pytest.fixture
def proof(tmp_path: Path) -> str:
    own = tmp_path / "control-plane.json"
    own.write_text(json.dumps({"service": "control-plane", "keys": [SERVICE_KEYS["control-plane"]]}))
    own.chmod(0o600)
    return read_proof(own)


@pytest.fixture
async def guests(world: World, tmp_path: Path, proof: str) -> AsyncIterator[Guests]:
    (tmp_path / "secrets").mkdir()
    async with InternalGate(["http://127.0.0.1:9", world.gate.internal], proof) as gate:
        made = Guests(world, tmp_path, gate)
        try:
            yield made
        finally:
            await asyncio.to_thread(made.close)


async def ready(instance: Instance) -> int:
    """The status of an instance's own readiness."""

    def ask() -> int:
        try:
            with urllib.request.urlopen(f"{instance.url}/ready", timeout=5) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code

    return await asyncio.to_thread(ask)


@contextlib.asynccontextmanager
async def probing(guests: Guests) -> AsyncIterator[Probing]:
    """Probing at work on everything in the catalog."""

    async def none() -> Wishes:
        return Wishes()

    plane = guests.world.plane
    metrics = PlaneMetrics(lambda: Standing(True, 1, 1, 1, 0))
    made = Probing(plane.instances, guests.gate, none, plane.leadership, metrics, Pace(every_s=0.5))
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.feature("C6")
async def test_an_offer_is_read_completely_and_only_the_control_plane_sees_probes_and_who_answered(
    guests: Guests,
) -> None:
    await guests.start("demo", "ddddd1", "2.0.0", [sys.executable, DEMO, "demo"])
    offer = await guests.gate.offer("demo", "demo_2-0-0_ddddd1")
    assert (offer.version, sorted(offer.protocols)) == ("2.0.0", ["2026-07-28"])
    assert {"demo_echo", "demo_add", "demo_read"} <= offer.tools.keys()
    assert offer.probes == {"demo_echo": {"text": "probe"}}
    assert offer.prompts
    assert any("{" in uri for uri in offer.resources)
    assert not breaches(offer, await guests.gate.offer("demo", "demo_2-0-0"))

    sent = guests.world.gate_headers() | {"Accept": "application/json, text/event-stream"}
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        answer = await http.post(f"{guests.world.gate.public}/demo/mcp", headers=sent, json=body)
    listed = {tool["name"]: tool for tool in answer.json()["result"]["tools"]}
    assert "dev.tekup/probe" not in json.dumps(listed)
    assert listed == {name: dict(tool) for name, tool in offer.tools.items()}
    assert not [name for name in answer.headers if name.startswith("x-tekup")]


@pytest.mark.feature("D8")
async def test_another_that_answers_in_the_place_of_a_version_or_instance_is_noticed(guests: Guests) -> None:
    await guests.ledger("aaaaa2", "1.0.0")
    newer = await guests.ledger("aaaaa3", "1.1.0")
    calls = [PROBE]
    for target in ("ledger_1-0-0", "ledger_1-1-0", "ledger_1-1-0_aaaaa3"):
        assert await prove(guests.gate, "ledger", target, calls) == ""
    answered = await guests.gate.call("ledger", "ledger_1-1-0", "ledger_list", {})
    assert (answered.instance, answered.version, answered.problem) == ("aaaaa3", "1.1.0", "")

    guests.world.stop_agent()  # or the gate would soon know no such target
    newer.kill()
    newer.wait()
    for target in ("ledger_1-1-0", "ledger_1-1-0_aaaaa3"):

        async def noticed(target: str = target) -> str | None:
            problem = (await guests.gate.call("ledger", target, "ledger_list", {})).problem
            return problem if "in its place" in problem else None

        assert await eventually(noticed, target, WITHIN_S) == "answered by 1.0.0 (aaaaa2) in its place"
    with pytest.raises(Unavailable, match=r"answered by 1\.0\.0"):
        await guests.gate.offer("ledger", "ledger_1-1-0")
    assert "no live instance" in (await guests.gate.call("ledger", "ledger_9-9-9", "ledger_list", {})).problem


@pytest.mark.feature("D8")
async def test_an_instance_that_is_ready_and_fails_its_calls_is_noticed_and_one_that_finds_itself_sick_leaves(
    guests: Guests,
) -> None:
    drills = guests.folder / "drills.json"
    await guests.ledger("aaaaa2", MCP_DRILL_FILE=str(drills))
    await guests.ledger("aaaaa3")
    async with probing(guests) as found:

        async def shown(instance: str, wanted: str) -> bool:
            return found.state("ledger", "1.0.0", instance).shown == wanted

        await eventually(lambda: shown("aaaaa2", "ok"), "ok", WITHIN_S)
        drills.write_text('[{"tool": "*", "error": "drill"}]')
        await eventually(lambda: shown("aaaaa2", "failing: ledger_list: drill"), "the drill to be noticed", WITHIN_S)
        state = await eventually(lambda: _sick(found, "aaaaa2"), "three failures", WITHIN_S)
        assert "drill" in state
        there = guests.registered("aaaaa2")
        assert there is not None
        assert there.live
        assert await ready(there) == 200
        assert await shown("aaaaa3", "ok")

        drills.write_text('[{"tool": "*", "error": "drill", "probe": true}]')

        async def left() -> bool:
            now = guests.registered("aaaaa2")
            return now is not None and not now.live

        await eventually(left, "the sick instance to leave", WITHIN_S)
        assert await ready(there) == 503
        await eventually(lambda: shown("aaaaa2", "unknown"), "it to be forgotten", WITHIN_S)
        assert await shown("aaaaa3", "ok")
        drills.unlink()
        await eventually(lambda: shown("aaaaa2", "ok"), "it to come back", WITHIN_S)


async def _sick(found: Probing, instance: str) -> str:
    state = found.state("ledger", "1.0.0", instance)
    return state.problem if state.sick else ""


async def test_a_gate_that_is_away_is_named_with_its_setting(proof: str) -> None:
    async with InternalGate(["http://127.0.0.1:9"], proof) as gate:
        with pytest.raises(Unavailable, match=r"no gate answers at http://127\.0\.0\.1:9.*MCP_GATE_INTERNAL_URL"):
            await gate.call("ledger", "ledger_1-0-0", "ledger_list", {})


async def test_a_wrong_proof_is_a_problem_of_the_call(world: World) -> None:
    async with InternalGate([world.gate.internal], "0" * 64) as gate:
        answered = await gate.call("alpha", "alpha_1-0-0", "alpha_read", {})
    assert answered.instance == ""
    assert "Proof" in answered.problem


async def test_an_answer_that_does_not_say_who_gave_it_proves_nothing(world: World, proof: str) -> None:
    """A service that is not on the kit."""
    async with InternalGate([world.gate.internal], proof) as gate:
        answered = await gate.call("alpha", "alpha_1-0-0", "alpha_read", {})
    assert answered.problem
