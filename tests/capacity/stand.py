"""A real stage that grows: gates, services, instances and clients, and what they cost."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil

from tests.bench.keys import crowd, settled
from tests.bench.tools import wait_until
from tests.support.gate import is_open
from tests.support.load import body, headers
from tests.support.ports import free_ports
from tests.support.stage import Stage

OLD, NEW = "1.0.0", "1.1.0"
MOST_ROLLOUTS = 100
TOOLS_EACH = 500
FINDS = 20
BAKE_S = 3600
"""Longer than anybody measures, so that no rollout ends meanwhile."""
WAIT_S = 300.0
IDLE_S = 20.0
PER_S = 1000
"""More than anything here calls."""
CHANGES = 40
MIB = 1 << 20
FIND = "hub_find_tools"
LIVE = re.compile(r"^go_memstats_next_gc_bytes (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """What the platform costs at one size.

    Args:
        gate_mib: What the first gate's Traefik keeps alive.
        change_ms: From a change to its being in force on every gate, in the middle of forty.
        change_writes: What Consul's log grows by for a change.
        idle_writes: The same in a minute in which nothing happens.
        idle_cpu_pct: Of a processor, what control plane and agents take meanwhile.
    """

    gate_mib: float
    change_ms: float
    change_writes: float
    idle_writes: float
    idle_cpu_pct: float


@dataclass(frozen=True)
class HubCost:
    """What many tools cost at the hub.

    Args:
        find_ms: Of a search among all of them, in the middle of twenty.
        hub_mib: What the hub's process holds in memory.
    """

    find_ms: float
    hub_mib: float


@dataclass
class Grown:
    """A stage, and how many of what it has.

    Args:
        stage: The stage.
        load: The load program, which serves as instances of anything.
        life: Ends what is started.
    """

    stage: Stage
    load: Path
    life: ExitStack
    services: int = 0
    clients: int = 1
    rollouts: int = 0
    _changes: int = 0

    def cost(self) -> Cost:
        """Measure it, once all is quiet."""
        self.settled()
        before = self.written()
        took_ms = []
        for _ in range(CHANGES):
            self._changes += 1
            wish = {"per_s": PER_S + self._changes, "reason": "capacity"}
            took_ms.append(float(self.stage.ask("PUT", "/v1/clients/dev/limits/size", wish)["in_force_ms"]))
        self.settled()
        changed = (self.written() - before) / CHANGES
        before, spent_s = self.written(), self.spent_s()
        time.sleep(IDLE_S)  # what happens by itself is what is measured
        idle = (self.written() - before) * 60 / IDLE_S
        cpu_pct = 100 * (self.spent_s() - spent_s) / IDLE_S
        return Cost(self.gate_mib(), statistics.median(took_ms), changed, idle, cpu_pct)

    def hub_cost(self) -> HubCost:
        """Measure the hub, the last instance there is, once it knows the tools of every service."""
        last = f"{_name(self.services - 1)}_other_{TOOLS_EACH - 1}"
        took_ms = []
        with httpx.Client(base_url=self.stage.gates[0].public, timeout=30, trust_env=False) as client:
            wait_until(lambda: self._found(client, last)[0] == last, f"the hub to know {last}", WAIT_S)
            for number in range(FINDS):
                began = time.perf_counter()
                self._found(client, f"{_name(number % self.services)}_other_{number + 1}")
                took_ms.append(1000 * (time.perf_counter() - began))
        held = psutil.Process(self.stage.instances[-1].pid).memory_info().rss
        return HubCost(statistics.median(took_ms), held / MIB)

    def _found(self, client: httpx.Client, words: str) -> list[str]:
        """Names of the tools that the hub finds first for some words."""
        asked = body("tools/call", {"name": FIND, "arguments": {"query": words}})
        sent = headers(self.stage.key, "tools/call", FIND)
        answer = client.post("/mcp", json=asked, headers=sent).json()
        said = answer["result"]["content"][0]["text"] if "result" in answer else "{}"
        return [str(one["name"]) for one in json.loads(said).get("tools", ())] or [""]

    def gate_mib(self) -> float:
        """What the first gate's last collection of garbage left: half of where Go begins the next."""
        text = httpx.get(f"{self.stage.gates[0].private}/traefik-metrics", timeout=30, trust_env=False).text
        found = LIVE.search(text)
        assert found, "Traefik tells nothing of its memory"
        return float(found[1]) / 2 / MIB

    def written(self) -> int:
        """The last index of Consul's log."""
        found = httpx.get(f"{self.stage.consul.url}/v1/agent/self", timeout=30, trust_env=False).json()
        return int(found["Stats"]["raft"]["applied_index"])

    def spent_s(self) -> float:
        """Processor time of control planes and agents."""
        found = [psutil.Process(one.pid) for one in (*self.stage.replicas.values(), *self.stage.agents)]
        return sum(sum(one.cpu_times()[:2]) for one in found)

    def settled(self) -> None:
        """Wait until every gate has the newest revision."""
        wait_until(lambda: settled(self.stage), "the newest revision on every gate", WAIT_S)

    def grow_tools(self, to: int) -> None:
        """So many tools, of services that have many each, and a hub."""
        if not self.services:
            self.stage.add_hub()
        self.grow_services(to // TOOLS_EACH, TOOLS_EACH)

    def grow_services(self, to: int, tools: int = 1) -> None:
        """So many services of two instances each, all of them served, with so many tools each."""
        new = range(self.services, to)
        names = [_name(number) for number in new]
        for gate in self.stage.gates:
            path = gate.folder / "tables" / "secrets.json"
            known = json.loads(path.read_text())
            known["services"] |= {name: ["ab" * 32] for name in names}
            gate.write("tables/secrets.json", json.dumps(known))
        self._register([_Instance(number, at, OLD) for number in new for at in (0, 1)], tools)
        self.services = to

        def taken_in() -> bool:
            shown = self.stage.ask("GET", "/v1/services")["services"]
            return sum(bool(one["policy"]) for one in shown if one["name"] in names) == len(names)

        wait_until(taken_in, f"{len(names)} more services taken in", WAIT_S)

    def _register(self, instances: Sequence[_Instance], tools: int = 1) -> None:
        """Have them served, each on a port of its own, and in Consul's catalog."""
        ports = free_ports(len(instances))
        lines = [
            f"127.0.0.1:{port} {one.version} {one.id} {_name(one.service)}\n"
            for port, one in zip(ports, instances, strict=True)
        ]
        command: list[str | Path] = [self.load, "fleet", str(tools)]
        fleet = self.life.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, text=True))
        self.life.callback(fleet.kill)
        assert fleet.stdin
        fleet.stdin.write("".join(lines))
        fleet.stdin.close()
        wait_until(lambda: all(is_open(port) for port in ports), "all instances to listen", WAIT_S)
        with httpx.Client(base_url=self.stage.consul.url, timeout=60, trust_env=False) as consul:
            for one, port in zip(instances, ports, strict=True):
                consul.put("/v1/agent/service/register", json=one.entry(port)).raise_for_status()

    def grow_rollouts(self, to: int) -> None:
        """So many rollouts under way at once, of a hundred services that have an instance of a new version each."""
        if not self.services:
            self.grow_services(MOST_ROLLOUTS)
            self._register([_Instance(number, 2, NEW) for number in range(MOST_ROLLOUTS)])
        for number in range(self.rollouts, to):
            wait_until(partial(self._begun, _name(number)), f"a rollout of {_name(number)}", WAIT_S)
        self.rollouts = to

    def _begun(self, service: str) -> bool:
        """Whether its rollout has begun; it is not while the new instance is unknown or the API has no time for us."""
        wish = {"version": NEW, "steps": [{"weight_pct": 1, "bake_s": BAKE_S}], "reason": "capacity"}
        return self.stage.answer("POST", f"/v1/services/{service}/rollout", wish).is_success

    def grow_clients(self, to: int) -> None:
        """So many clients, each with a key and limits."""
        crowd(self.stage, self.clients, to)
        self.clients = to

    def grow_instances(self, to: int) -> None:
        """So many instances of the ledger, each a process."""
        while len(self.stage.instances) < to:
            self.stage.add_instance(OLD)
        self.stage.serving(OLD, to)


def _name(number: int) -> str:
    return f"s{number}"


@dataclass(frozen=True)
class _Instance:
    service: int
    number: int
    version: str

    @property
    def id(self) -> str:
        return f"{self.service:04x}{self.number:02x}"

    def entry(self, port: int) -> dict[str, object]:
        """What Consul is told of it."""
        return {
            "Name": f"mcp-{_name(self.service)}",
            "ID": f"mcp-{_name(self.service)}-{self.id}",
            "Address": "127.0.0.1",
            "Port": port,
            "Meta": {"version": self.version, "instance": self.id, "state": "serving", "admin": str(port)},
            "Check": {"TTL": "1h", "Status": "passing"},
        }
