"""A control plane, a gate with its agent, and backends in the catalog: everything real but the services."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from control_plane.consul import Consul
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane, Outcome, Wish
from control_plane.model import ClientPolicy, GateReport
from tests.support.consul_process import ConsulProcess
from tests.support.gate import SECRETS, Gate, close, lay_out
from tests.support.plane import running
from tests.support.wait import eventually

ROOT = Path(__file__).parents[3]
WISH = Wish("test", "test")


@dataclass
class World:
    """Everything a test of the agent needs.

    Args:
        server: The Consul it all meets in.
        plane: The control plane, in the test's own process.
        gate: The gate's Traefik, its folder, and the backends.
        key: An API key of client ``dev``, which may do anything.
    """

    server: ConsulProcess
    plane: ControlPlane
    gate: Gate
    key: str = ""
    _agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> str:
        """What the agents have logged."""
        return (self.gate.folder / "agent.log").read_text()

    def start_agent(self, **settings: str) -> subprocess.Popen[bytes]:
        """Start an agent on the gate's folder."""
        env = {
            "PATH": os.environ["PATH"],
            "MCP_CONSUL_URL": self.server.url,
            "MCP_GATE_DIR": str(self.gate.folder),
            "MCP_GATE_ID": "gate",
            "MCP_GATE_PRIVATE_URL": self.gate.private,
            "MCP_SESSION_TTL_S": "2",
            **settings,
        }
        with (self.gate.folder / "agent.log").open("ab") as log:
            command = [sys.executable, "-m", "control_plane.agent"]
            self._agents.append(subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log))
        return self._agents[-1]

    def stop_agent(self) -> None:
        """End the agent in order."""
        for agent in self._agents:
            if agent.poll() is None:
                agent.send_signal(signal.SIGTERM)
            agent.wait(30)
        self._agents.clear()

    async def instance(self, name: str, version: str, state: str = "serving") -> None:
        """Start a backend if it does not run, and show it in the catalog as an instance of alpha."""
        if name not in self.gate.backends:
            await asyncio.to_thread(self.gate.backend, name)
        port = self.gate.backends[name][0]
        self._put(
            "/v1/agent/service/register",
            {
                "Name": "mcp-alpha",
                "ID": f"mcp-alpha-{name}",
                "Address": "127.0.0.1",
                "Port": port,
                "Meta": {"version": version, "instance": name, "state": state, "admin": str(port)},
                "Check": {"HTTP": f"http://127.0.0.1:{port}/ready", "Interval": "1s", "Status": "passing"},
            },
        )

        async def known() -> bool:
            return any(one.id == name and one.state == state for one in self.plane.instances())

        await eventually(known, f"{name} in the catalog")

    def deregister(self, name: str) -> None:
        """Take an instance out of the catalog."""
        self._put(f"/v1/agent/service/deregister/mcp-alpha-{name}", None)

    async def shift(self, version: str) -> Outcome:
        """Give a version all traffic."""
        outcome = await self.plane.set_traffic("alpha", {version: 100}, WISH)
        assert not outcome.waiting_for
        return outcome

    async def report(self) -> GateReport | None:
        """What the gate reports, None while its agent is away."""
        gate = self.plane.gates.all.get("gate")
        return gate.report if gate and gate.live else None

    async def served(self) -> bool:
        """Whether a call is answered by an instance."""
        headers = self.gate_headers()
        with suppress(httpx.HTTPError):
            return (await asyncio.to_thread(self.gate.call, "/alpha/mcp", headers)).status == 200
        return False

    def gate_headers(self) -> dict[str, str]:
        """What a modern client with our key sends."""
        return {"Authorization": f"Bearer {self.key}", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}

    def _put(self, path: str, body: object) -> None:
        raw = json.dumps(body).encode() if body else b""
        urllib.request.urlopen(urllib.request.Request(self.server.url + path, raw, method="PUT"), timeout=5).close()


@pytest.fixture
async def world(own_consul: ConsulProcess, tmp_path: Path) -> AsyncIterator[World]:
    """alpha 1.0.0 with one instance, in force on one gate, called with a key."""
    gate = lay_out(tmp_path / "gate")
    gate.write("tables/secrets.json", json.dumps(SECRETS))
    async with Consul(own_consul.url) as consul:
        plane = ControlPlane(consul, consul, Leadership(consul, "one", ttl_s=2))
        made = World(own_consul, plane, gate)
        try:
            await asyncio.to_thread(gate.start)
            async with running(plane):
                made.start_agent()
                await eventually(made.report, "the gate's report", 20)
                await plane.init(WISH)
                await made.instance("aaaaa1", "1.0.0")
                await plane.rights.add_client(ClientPolicy(id="dev"), WISH)
                made.key = (await plane.rights.create_key("dev", WISH))[0].text
                await eventually(made.served, "the first call to be answered", 20)
                yield made
        finally:
            made.stop_agent()
            await asyncio.to_thread(close, gate)
