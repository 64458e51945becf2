"""A real Prometheus of the test's own, with our configuration and a scrape each second, on a given Consul."""

from __future__ import annotations

import signal
import string
import subprocess
from pathlib import Path
from typing import Self

import httpx

from tests.support.gate import wait_until
from tests.support.ports import free_ports
from tests.support.programs import ROOT, program

TEMPLATE = ROOT / "observability" / "prometheus" / "prometheus.yml.tmpl"
SCRAPE_S = 1.0
START_S = 60.0
NOBODY = "127.0.0.1:9"
NOT_HERE = tuple(
    f"{name}_TARGETS"
    for name in ("CONSUL", "PROMETHEUS", "ALERTMANAGER", "LOKI", "JAEGER", "COLLECTOR", "OAUTH", "USAGE")
)


def configuration(consul_url: str, token: Path, control_plane: str = NOBODY, alertmanager: str = "") -> str:
    """Our configuration, filled in for a test."""
    values = {
        "CONSUL_DATACENTER": "dc1",
        "CONSUL_SCHEME": "http",
        "CONSUL_CA_FILE": "",
        "CONSUL_TOKEN_FILE": str(token),
        "CONSUL_ADDRESS": consul_url.removeprefix("http://"),
        "CONTROL_PLANE_TARGETS": f'{{targets: ["{control_plane}"], labels: {{replica: "control-plane"}}}}',
        **dict.fromkeys(NOT_HERE, ""),
        "ALERTMANAGER_TARGETS": f'"{alertmanager}"' if alertmanager else "",
        "SCRAPE_INTERVAL": f"{SCRAPE_S:g}s",
        "RULES_DIR": str(token.parent / "rules"),
    }
    return string.Template(TEMPLATE.read_text()).substitute(values)


class PrometheusProcess:
    """One server; a context manager.

    Args:
        folder: Where its configuration, data and log lie.
        consul_url: Where it finds what to scrape.
        alertmanager: Whom it tells of alerts, host:port; "" for nobody.
    """

    def __init__(self, folder: Path, consul_url: str, alertmanager: str = "") -> None:
        self._folder = folder
        (port,) = free_ports(1)
        self._address = f"127.0.0.1:{port}"
        self.url = f"http://{self._address}"
        self.scrape_s = SCRAPE_S
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "consul.token"
        token.write_text("a Consul without ACLs minds no token")
        (folder / "prometheus.yml").write_text(configuration(consul_url, token, alertmanager=alertmanager))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start and wait until it answers."""
        command = [
            program("prometheus"),
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address={self._address}",
            "--enable-feature=exemplar-storage,auto-reload-config",
            "--config.auto-reload-interval=1s",
        ]
        with (self._folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, f"Prometheus ready; see {self._folder}/prometheus.log", START_S)

    def freeze(self) -> None:
        """Let it answer nothing any more."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process, "it does not run"
        return self._process.pid

    def values(self, query: str) -> list[tuple[dict[str, str], float]]:
        """What a query gives now: labels and value of each series."""
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": query}, timeout=10, trust_env=False)
        found = answer.json()["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def until(self, query: str, what: str, within_s: float = 30.0) -> None:
        """Wait until a query gives anything."""
        wait_until(lambda: self.values(query), f"{what}: {query}", within_s)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process, "it does not run"
        self._process.send_signal(number)

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"Prometheus has ended; see {self._folder}/prometheus.log"
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False
