"""A stage whose alerts are told, under steady calls of few a second."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx

from tests.support.alerting import AlertingPrometheus, AlertmanagerProcess, Receiver, Watch
from tests.support.consul_cluster import ConsulCluster
from tests.support.consul_process import ConsulProcess
from tests.support.load import body, headers
from tests.support.stage import SERVICE, Stage, stage

FACTOR = 0.005
"""Five minutes are 1.5 s, an hour 18 s; no window is shorter than six scrapes of two seconds each."""
TOOLS: dict[str, dict[str, object]] = {
    "ledger_list": {},
    "ledger_echo": {"text": "again"},
    "ledger_note": {"entry": "noted"},
}
PAUSE_S = 0.05


class Traffic:
    """Calls of the ledger's tools in turn, 10 to 20 a second, whatever becomes of them; a context manager."""

    def __init__(self, made: Stage) -> None:
        self._stage = made
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(2)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while True:
                for tool, arguments in TOOLS.items():
                    if self._ended.wait(PAUSE_S):
                        return
                    asked = body("tools/call", {"name": tool, "arguments": arguments})
                    with contextlib.suppress(httpx.HTTPError):
                        url = f"{self._stage.gates[0].public}/{SERVICE}/mcp"
                        client.post(url, json=asked, headers=headers(self._stage.key, "tools/call", tool))


@dataclass
class Watched:
    """The stage and its watch."""

    stage: Stage
    watch: Watch

    @property
    def prometheus(self) -> AlertingPrometheus:
        """What evaluates the rules."""
        return self.watch.prometheus

    @contextlib.contextmanager
    def drill(self, *drills: dict[str, object], version: str = "1.0.0") -> Iterator[None]:
        """A version misbehaves for the length of a block."""
        self.stage.drill(version, list(drills))
        try:
            yield
        finally:
            self.stage.drill(version, [])

    def open_books(self, count: int) -> None:
        """Open handles and keep them."""
        for _ in range(count):
            self.call("ledger_open")

    def call(self, tool: str, **arguments: object) -> httpx.Response:
        """One call through the first gate."""
        asked = body("tools/call", {"name": tool, "arguments": arguments})
        url = f"{self.stage.gates[0].public}/{SERVICE}/mcp"
        return httpx.post(
            url, json=asked, headers=headers(self.stage.key, "tools/call", tool), timeout=30, trust_env=False
        )

    def write(self, gate: int, path: str, change: Callable[[dict[str, object]], None]) -> None:
        """Change one of a gate's tables by hand."""
        found = self.stage.gates[gate]
        table = json.loads((found.folder / path).read_text())
        change(table)
        found.write(path, json.dumps(table))


def consul(folder: Path) -> ConsulProcess:
    """One Consul that tells of itself."""
    return ConsulProcess(folder, telemetry={"prometheus_retention_time": "60s"})


@contextlib.contextmanager
def watched(
    folder: Path,
    *,
    gates: int = 2,
    replicas: int = 2,
    factor: float = FACTOR,
    registry: Callable[[Path], ConsulProcess | ConsulCluster] = consul,
    traffic: bool = True,
    mtls: bool = False,
) -> Iterator[Watched]:
    """A stage with everything sound, whose alerts are told; with mutual TLS, `registry` makes a Consul with a CA."""
    (folder / "stage").mkdir()
    with (
        Receiver() as receiver,
        AlertmanagerProcess(folder / "alertmanager", f"{receiver.url}/alerts", f"{receiver.url}/watchdog") as manager,
    ):

        def metrics(at: Path, consul_url: str) -> AlertingPrometheus:
            return AlertingPrometheus(at, consul_url, manager.address, factor)

        with stage(
            folder / "stage", gates=(2,) * gates, replicas=replicas, registry=registry, metrics=metrics, mtls=mtls,
            MCP_PROBE_EVERY_S="3", MCP_PROBE_TIMEOUT_S="3",
        ) as made:  # fmt: skip
            prometheus = cast("AlertingPrometheus", made.prometheus)
            prometheus.scrape("control-plane", *made.urls.values())
            prometheus.scrape("consul", made.consul.url)
            prometheus.scrape("alertmanager", manager.url)
            with Traffic(made) if traffic else contextlib.nullcontext():
                yield Watched(made, Watch(prometheus, manager, receiver))
