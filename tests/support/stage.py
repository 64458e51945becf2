"""Everything real around the `ledger` service in several versions: Consul, gates with agents, replicas, Prometheus.

Each part is a process of its own, so a test may kill, freeze and replace it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import httpx
import psutil

from control_plane.leadership import LEADER_KEY
from tests.support.consul_cluster import ConsulCluster
from tests.support.consul_process import ConsulProcess
from tests.support.cut import Cut
from tests.support.gate import MAC, Gate, close, lay_out, wait_until
from tests.support.ports import free_ports
from tests.support.prometheus_process import PrometheusProcess

ROOT = Path(__file__).parents[2]
SERVICE = "ledger"
TOKEN = "stage-operator-token"
WAIT_S = 60.0
Json = dict[str, Any]


@dataclass
class Process:
    """A process of the stage, ended as a group."""

    name: str
    command: list[str]
    env: dict[str, str]
    log: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(self.command, env=self.env, cwd=ROOT, stdout=log, stderr=log,
                                            start_new_session=True)  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.running
        return self.running.pid

    def send(self, number: int) -> None:
        """Send its process a signal."""
        assert self.running
        self.running.send_signal(number)

    def end(self, number: int = signal.SIGTERM, within_s: float = 30) -> None:
        """End it; at once after a while."""
        if self.running is None:
            return
        self.running.send_signal(signal.SIGCONT)  # Popen's own signals nobody once the process is reaped
        self.running.send_signal(number)
        try:
            self.running.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
        self.running = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.running is not None and psutil.pid_exists(self.running.pid) and self.running.poll() is None


@dataclass
class Stage:
    """The whole.

    Args:
        folder: Where everything lies.
        consul: Where it meets.
        gates: Each with its Traefik.
        agents: Each gate's agent.
        replicas: Control planes, by name.
        urls: Their APIs.
        prometheus: What calls were like.
        lines: Each replica's line to Consul, by name; none where replicas reach it themselves.
        agent_settings: Of every agent.
        out: Replicas that are not asked unless named: the test has killed, frozen or cut them off.
        mtls: Whether all prove themselves to each other by certificates.
        collector: Where everybody sends spans, "" for nowhere.
        edges: Settings of gates' public entrypoints, by the gate's number from 1.
    """

    folder: Path
    consul: ConsulProcess | ConsulCluster
    gates: list[Gate]
    prometheus: PrometheusProcess
    agents: list[Process] = field(default_factory=list)
    replicas: dict[str, Process] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    instances: list[Process] = field(default_factory=list)
    key: str = ""
    lines: dict[str, Cut] = field(default_factory=dict)
    agent_settings: dict[str, str] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    mtls: bool = False
    collector: str = ""
    edges: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Json | None = None, replica: str = "") -> Json:
        """Ask the API of a replica, the first one not out unless told; fails with what it said.

        What was not carried out for want of a leader is asked again, as the API bids (docs/contracts.md, "Replicas of
        the control plane"): a Consul whose disk is busy for seconds costs a leader its session.
        """
        end = time.monotonic() + WAIT_S
        while (answer := self.answer(method, path, body, replica)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
            if "retry-after" not in answer.headers or time.monotonic() > end:
                break
            time.sleep(0.2)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return cast("Json", answer.json())

    def answer(self, method: str, path: str, body: Json | None = None, replica: str = "") -> httpx.Response:
        """The same, whatever it says."""
        url = self.urls[replica or next(name for name in self.urls if name not in self.out)]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.request(method, url + path, json=body, headers=headers, timeout=40, trust_env=False)

    def rollout(self, replica: str = "") -> Json:
        """The ledger's last rollout."""
        return self.ask("GET", f"/v1/services/{SERVICE}/rollout", replica=replica)

    def verb(self, verb: str, **fields: object) -> Json:
        """Steer the ledger's rollout."""
        return self.ask("POST", f"/v1/services/{SERVICE}/rollout/{verb}", {"reason": "test", **fields})

    def begin(self, version: str, **fields: object) -> Json:
        """Start a rollout of the ledger."""
        return self.ask("POST", f"/v1/services/{SERVICE}/rollout", {"version": version, "reason": "test", **fields})

    def reached(self, *phases: str, within_s: float = WAIT_S, replica: str = "") -> Json:
        """Wait until the rollout is in one of these phases."""
        found: list[Json] = []

        def there() -> bool:
            answer = self.answer("GET", f"/v1/services/{SERVICE}/rollout", replica=replica)
            found[:] = [answer.json()]
            return answer.is_success and found[0]["phase"] in phases

        try:
            wait_until(there, f"rollout in {' or '.join(phases)}", within_s)
        except BaseException:
            print(json.dumps(found, indent=1))
            raise
        return found[0]

    def policy(self) -> Json:
        """The ledger's policy."""
        return cast("Json", self.ask("GET", f"/v1/services/{SERVICE}")["policy"])

    def leader(self) -> str:
        """Which replica leads, as Consul has it; "" while none does."""
        answer = httpx.get(f"{self.consul.url}/v1/kv/{LEADER_KEY}", timeout=10, trust_env=False)
        found = answer.json()[0] if answer.is_success else {}
        return str(json.loads(base64.b64decode(found["Value"]))["replica"]) if found.get("Session") else ""

    # -- parts

    def add_gate(self, ttl_s: int = 2) -> None:
        """Another gate, with its agent, whose session lives so long at least."""
        number = len(self.gates) + 1
        folder = self.folder / f"gate-{number}"
        gate = lay_out(folder, mtls="on" if self.mtls else "off", collector=self.collector,
                       **self.edges.get(number, {}))  # fmt: skip
        gate.write("tables/secrets.json", json.dumps(self.secrets))
        gate.start()
        self.gates.append(gate)
        env = {
            "MCP_CONSUL_URL": self.consul.url,
            "MCP_GATE_DIR": str(gate.folder),
            "MCP_GATE_ID": f"gate-{number}",
            "MCP_GATE_PRIVATE_URL": gate.private,
            "MCP_SESSION_TTL_S": str(ttl_s),
            **self.agent_settings,
        }
        self.agents.append(self._process(f"agent-{number}", "control_plane.agent", env).start())

    def add_replica(self, name: str, **settings: str) -> Process:
        """Another replica of the control plane."""
        port = free_ports(1)[0]
        self.urls[name] = f"http://127.0.0.1:{port}"
        env = {
            "MCP_CONSUL_URL": self.consul.url,
            "MCP_OPERATOR_TOKEN_FILE": str(self.folder / "operator.token"),
            "MCP_PORT": str(port),
            "MCP_REPLICA": name,
            "MCP_PROMETHEUS_URL": self.prometheus.url,
            "MCP_PROMETHEUS_SCRAPE_S": f"{self.prometheus.scrape_s:g}",
            "MCP_GATE_INTERNAL_URL": self.internal_url,
            "MCP_SECRETS_FILE": str(self._secrets_of("control-plane")),
            **settings,
        }
        self.replicas[name] = self._process(f"replica-{name}", "control_plane", env).start()
        wait_until(lambda: self.answers(name), f"replica {name} up; see {self.folder}", 30)
        return self.replicas[name]

    def answers(self, name: str) -> bool:
        """Whether a replica serves its API."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.urls[name]}/health", timeout=2, trust_env=False).is_success
        return False

    def add_instance(
        self, version: str, drills: list[Json] | None = None, within: Sequence[str] = (), **variables: str
    ) -> Process:
        """An instance of the ledger, with drills of its version's; `within` is a command that runs it.

        Like the hub it heeds the folder's `levels`, where a test may say what is logged.
        """
        number = len(self.instances) + 1
        env = {
            "MCP_SECRETS_FILE": str(self._secrets_of(SERVICE)),
            "MCP_CONSUL_URL": self.consul.url,
            "MCP_VERSION": version,
            "MCP_DRAIN_QUIET_S": "0.5",
            "MCP_DRAIN_DEADLINE_S": "10",
            "MCP_LEDGER_FILE": str(self.folder / f"ledger-{number}"),
            "MCP_DRILL_FILE": str(self.drill_file(version)),
            "MCP_LOG_LEVEL_FILE": str(self.folder / "levels"),
            **variables,
        }
        if drills is not None:
            self.drill(version, drills)
        made = self._process(f"{SERVICE}-{number}", "tests.support.ledger_service", env)
        made.command[:0] = within
        made.start()
        self.instances.append(made)
        return made

    def drill_file(self, version: str) -> Path:
        """Where the drills of a version lie."""
        return self.folder / f"drill-{version}.json"

    def drill(self, version: str, drills: list[Json]) -> None:
        """Put drills of a version in force; instances read them again at each call."""
        path = self.drill_file(version)
        spare = path.with_suffix(".tmp")
        spare.write_text(json.dumps(drills))
        spare.rename(path)

    def serving(self, version: str, count: int = 1) -> None:
        """Wait until so many instances of a version serve, as the control plane sees it."""
        said = ""

        def there() -> bool:
            nonlocal said
            shown = self.answer("GET", f"/v1/services/{SERVICE}")
            said = shown.text
            mine = [
                one
                for one in (shown.json()["instances"] if shown.is_success else ())
                if one["version"] == version and one["passing"] and one["state"] == "serving"
            ]
            return len(mine) >= count

        wait_until(there, lambda: f"{count} instance(s) of {version} serving: {said}", WAIT_S)

    @property
    def secrets(self) -> Json:
        """What the gates know."""
        return cast("Json", json.loads((self.folder / "secrets.json").read_text()))

    @property
    def internal_url(self) -> str:
        """The first gate's internal entrypoint."""
        url = self.gates[0].internal
        return url.replace("http://", "https://") if self.mtls else url

    def add_hub(self) -> Process:
        """An instance of the hub."""
        env = {
            "MCP_SECRETS_FILE": str(self._secrets_of("hub")),
            "MCP_CONSUL_URL": self.consul.url,
            "MCP_VERSION": "1.0.0",
            "MCP_GATE_INTERNAL_URL": self.internal_url,
            "MCP_LOG_LEVEL_FILE": str(self.folder / "levels"),
        }
        made = self._process("hub", "services.hub", env).start()
        self.instances.append(made)
        return made

    def _secrets_of(self, service: str) -> Path:
        path = self.folder / f"secrets-{service}.json"
        if not path.exists():
            path.write_text(json.dumps({"service": service, "keys": self.secrets["services"][service]}))
            path.chmod(0o600)
        return path

    def _process(self, name: str, module: str, env: dict[str, str]) -> Process:
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": os.environ.get("HOME", "/"),
                 "MCP_MTLS": "on" if self.mtls else "off", "MCP_OTLP_URL": self.collector, **env}  # fmt: skip
        return Process(name, [sys.executable, "-m", module], given, self.folder / f"{name}.log")

    def close(self) -> None:
        """Leave no process behind."""
        for process in (*self.instances, *self.replicas.values(), *self.agents):
            process.end(signal.SIGKILL)
        for gate in self.gates:
            close(gate)


@contextlib.contextmanager
def stage(
    folder: Path, *, gates: Sequence[int] = (2, 2), replicas: int = 1, line: Callable[[str], Cut] | None = None,
    registry: Callable[[Path], ConsulProcess | ConsulCluster] = ConsulProcess,
    agents: Mapping[str, str] | None = None, mtls: bool = False,
    metrics: Callable[[Path, str], PrometheusProcess] = PrometheusProcess, collector: str = "",
    edges: Mapping[int, Mapping[str, str]] | None = None, **settings: str,
) -> Iterator[Stage]:  # fmt: skip
    """A stage with one stable version, 1.0.0, in force on every gate, and a client that may do anything.

    Args:
        folder: An empty folder.
        gates: Each one's agent's session lives so many seconds at least.
        replicas: Of the control plane.
        line: Makes each replica a line to Consul's URL.
        registry: Makes Consul, one server or several.
        agents: Settings of every agent.
        mtls: Everybody proves itself by a certificate; Consul needs a CA for it.
        metrics: Makes Prometheus in a folder, on Consul's URL.
        collector: Where everybody sends spans, "" for nowhere.
        edges: Settings of gates' public entrypoints, by the gate's number from 1.
        settings: Of every replica.
    """
    known = {"mac": [MAC], "services": {name: [secrets.token_hex(32)] for name in (SERVICE, "hub", "control-plane")}}
    (folder / "secrets.json").write_text(json.dumps(known))
    (folder / "operator.token").write_text(TOKEN)
    consul_folder, metrics_folder = folder / "consul", folder / "prometheus"
    consul_folder.mkdir()
    metrics_folder.mkdir()
    with registry(consul_folder) as consul, metrics(metrics_folder, consul.url) as prometheus:
        made = Stage(folder, consul, [], prometheus, agent_settings=dict(agents or {}), mtls=mtls, collector=collector,
                     edges=edges or {})  # fmt: skip
        try:
            for ttl_s in gates:
                made.add_gate(ttl_s)
            for name in (f"r{number + 1}" for number in range(replicas)):
                if line:
                    made.lines[name] = line(consul.url)
                own = {"MCP_CONSUL_URL": made.lines[name].url} if line else {}
                made.add_replica(name, **own, **settings)
            _begin(made, len(gates))
            yield made
        finally:
            made.close()


def _begin(made: Stage, gates: int) -> None:
    wait_until(lambda: len(made.ask("GET", "/v1/status")["gates"]) == gates, "every gate's first report", WAIT_S)
    wait_until(lambda: made.answer("POST", "/v1/init", {}).is_success, "a leader", WAIT_S)
    made.add_instance("1.0.0")
    made.serving("1.0.0")
    wait_until(lambda: made.answer("GET", f"/v1/services/{SERVICE}").json()["policy"], "the ledger taken in", WAIT_S)
    made.ask("POST", "/v1/clients", {"id": "dev", "reason": "test"})
    made.key = made.ask("POST", "/v1/clients/dev/keys", {"reason": "test"})["key"]
