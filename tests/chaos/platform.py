"""Everything real that chaos happens to: three Consul servers, two gates, three replicas, two hubs, three instances."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import string
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from compose.local.authority import CA, issue, make_authority
from compose.local.certificates import Shelf
from tests.chaos.calls import Caller, Note
from tests.chaos.ground import BAD_KEY, Ground
from tests.chaos.pen import Writer
from tests.support.consul_cluster import ConsulCluster
from tests.support.cut import Cut, cut_proxy
from tests.support.gate import wait_until
from tests.support.lines import whole_lines
from tests.support.ports import free_ports
from tests.support.programs import ROOT, program
from tests.support.stage import SERVICE, Json, Process, Stage, stage
from tests.support.wire import served, trusting

STABLE, CANARY = "1.0.0", "1.1.0"
INSTANCES = 3
HUBS = 2
READY_S = 60.0
BY_TLS = 2
"""The gate whose clients check its certificate."""
JAEGER = ROOT / "observability" / "jaeger" / "jaeger.yml.tmpl"
SMALL_DISK = "size=160m"
LEDGER = Note(
    "ledger_note",
    lambda entry: {"entry": entry, "hold_ms": random.choice((0, 0, 5, 30))},
    lambda noted: (noted["instance"], noted["entry"]),
)


class SmallDiskCluster(ConsulCluster):
    """Three servers, of which one lies on a disk so small that it can be filled, where the machine allows a mount.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.small: Path | None = folder / "s3"
        self.small.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", SMALL_DISK, "tmpfs", str(self.small)], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            self.small = None
        super().__init__(folder)

    def __exit__(self, *given: object) -> None:
        super().__exit__(*given)
        if self.small is not None:
            subprocess.run(["umount", str(self.small)], check=True, capture_output=True)

    def led(self) -> bool:
        """Whether the server that is spoken to knows a leader."""
        return bool(self._mine.leader())

    def lose_data(self) -> None:
        """Forget everything; for servers that were killed."""
        for server in self._servers:
            server.lose_data()

    def lose_disk_of_one(self) -> None:
        """Kill a server that nobody speaks to, with its data."""
        one = next(server for server in self._servers if server is not self._mine)
        one.kill()
        one.lose_data()

    def lose_follower(self) -> None:
        """Kill a server that neither leads nor is spoken to."""
        leads = self._mine.leader()
        next(one for one in self._servers if one is not self._mine and one.address != leads).kill()

    @property
    def pid(self) -> int:
        """The process id of the server that is spoken to."""
        return self._mine.pid

    def snapshot(self) -> bytes:
        """All it holds."""
        return httpx.get(f"{self.url}/v1/snapshot", timeout=30, trust_env=False).raise_for_status().content

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot."""
        url = f"{self.url}/v1/snapshot"
        httpx.put(url, content=snapshot, timeout=60, trust_env=False).raise_for_status()


@dataclass
class Platform(Ground):
    """The whole, and how it is seen to be well.

    Args:
        stage: The parts.
        portal: Where load and proxies run, so that faults may block.
        cluster: Consul.
        lines: Each ledger instance's line to Consul.
        hubs: The hubs.
        jaeger: Where spans go.
        random: Chooses victims; seeded.
        snapshot: Consul's, of the beginning.
        versions: Versions that may answer.
        pen: Writes the policy in the running row.
        calls: The load of the running row.
    """

    stage: Stage
    portal: BlockingPortal
    cluster: SmallDiskCluster
    lines: list[Cut]
    hubs: list[Process]
    jaeger: Process
    random: random.Random
    snapshot: bytes = b""
    versions: tuple[str, ...] = (STABLE, CANARY)
    pen: Writer = field(init=False)
    calls: Caller = field(init=False)

    @property
    def ledgers(self) -> list[Process]:
        """Instances of the stable version."""
        return [one for one in self.stage.instances if one.env.get("MCP_VERSION") == STABLE and one not in self.hubs]

    def caller(self, name: str) -> Caller:
        """Clients whose entries begin with `name`."""
        gates = [gate.public for gate in self.stage.gates]
        trust = trusting(self.authority / CA)
        return Caller(gates, (f"/{SERVICE}/mcp", "/mcp"), LEDGER, self.stage.key, BAD_KEY, name, trust)

    @property
    def authority(self) -> Path:
        """The CA that clients trust."""
        return self.stage.folder / "authority"

    def certify(self, age: timedelta = timedelta()) -> None:
        """Have the gate that speaks TLS show a new certificate, made so long ago."""
        gate = self.stage.gates[BY_TLS - 1]
        pair = issue(self.authority, datetime.now(UTC) - age)
        Shelf(gate.folder).put(pair, pair.leaf())
        wait_until(lambda: served(gate.public, "localhost") == pair.leaf(), "the new certificate to be shown", READY_S)

    def steps(self, prefix: str) -> Mapping[str, list[str]]:
        """What the ledgers have of each entry that begins so."""
        found: dict[str, list[str]] = {}
        for path in self.stage.folder.glob("ledger-[0-9]*"):
            if path.suffix:
                continue
            for line in whole_lines(path):
                step, _, entry = line.partition(" ")
                if entry.startswith(prefix):
                    found.setdefault(entry, []).append(step)
        return found

    def there(self, within_s: float) -> None:
        """Wait until one leads, and all instances serve."""
        wait_until(self._led, "every replica to stand by one leader", within_s)
        wait_until(lambda: self.serving(SERVICE, STABLE) >= INSTANCES, "all instances to serve", within_s)

    def answer(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        """What the operators' API answers, whatever that is."""
        return self.stage.answer(method, path, body)

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """What it answers, once some replica leads; fails with what it said."""
        return self.stage.ask(method, path, body)

    def _led(self) -> bool:
        leaders = set()
        with contextlib.suppress(httpx.HTTPError):
            for name in self.stage.replicas:
                shown = self.stage.answer("GET", "/v1/status", replica=name)
                leaders.add(shown.json()["leader"] if shown.is_success else "")
        return len(leaders) == 1 and "" not in leaders


@contextlib.contextmanager
def platform(folder: Path, seed: int) -> Iterator[Platform]:
    """All parts, up and well.

    Args:
        folder: An empty folder.
        seed: Chooses victims.
    """
    with start_blocking_portal() as portal, contextlib.ExitStack() as life:

        def line(url: str) -> Cut:
            return life.enter_context(portal.wrap_async_context_manager(cut_proxy(url)))

        (folder / "authority").mkdir()
        make_authority(folder / "authority", datetime.now(UTC))
        jaeger, url = _jaeger(folder)
        life.callback(jaeger.end, signal.SIGKILL)
        made = life.enter_context(
            stage(
                folder,
                replicas=3,
                line=line,
                registry=SmallDiskCluster,
                collector=url,
                edges={BY_TLS: {"tls": "files"}},
                MCP_SESSION_TTL_S="2",
            )
        )
        cluster = cast("SmallDiskCluster", made.consul)
        lines = [line(cluster.url) for _ in range(INSTANCES - 1)]  # the stage's own first instance has none
        for each in lines:
            made.add_instance(STABLE, MCP_CONSUL_URL=each.url)
        hubs = [made.add_hub() for _ in range(HUBS)]
        made.serving(STABLE, INSTANCES)
        made.ask("POST", "/v1/clients", {"id": "written", "reason": "chaos"})
        _until_hubs_serve(made)
        ready = Platform(made, portal, cluster, lines, hubs, jaeger, random.Random(seed), cluster.snapshot())
        ready.certify()
        yield ready


def _jaeger(folder: Path) -> tuple[Process, str]:
    """Jaeger, which takes everybody's spans, and where."""
    names = ("API_ADDRESS", "OTLP_ADDRESS", "ADMIN_ADDRESS", "GRPC_ADDRESS")
    values = {name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(4), strict=True)}
    values |= {"DATA_DIR": str(folder / "jaeger"), "RETENTION": "3600s"}
    config = folder / "jaeger.yml"
    config.write_text(string.Template(JAEGER.read_text()).substitute(values))
    env = {"PATH": os.environ["PATH"], "SPAN_STORAGE_TYPE": "badger", "GOMEMLIMIT": "256MiB"}
    command = [program("jaeger"), f"--config-file={config}"]
    started = Process("jaeger", command, env, folder / "jaeger.log").start()

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://{values['ADMIN_ADDRESS']}/", timeout=2, trust_env=False).is_success
        return False

    wait_until(answers, f"Jaeger up; see {folder}/jaeger.log", READY_S)
    return started, f"http://{values['OTLP_ADDRESS']}"


def _until_hubs_serve(made: Stage) -> None:
    def there() -> bool:
        shown = made.answer("GET", "/v1/services/hub")
        found = shown.json()["instances"] if shown.is_success else ()
        return sum(bool(one["passing"] and one["state"] == "serving") for one in found) >= HUBS

    wait_until(there, "the hubs to serve", READY_S)
