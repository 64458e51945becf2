"""Alerts as they go in earnest: Prometheus with our rules, Alertmanager with our routes, and whoever is told."""

from __future__ import annotations

import json
import re
import string
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import isnan
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from observability.rules import Scale, rendered
from tests.support.gate import wait_until
from tests.support.ports import free_ports
from tests.support.programs import ROOT, program
from tests.support.prometheus_process import PrometheusProcess

RUNBOOKS = ROOT / "docs" / "runbooks"
TEMPLATE = ROOT / "observability" / "alertmanager" / "alertmanager.yml.tmpl"
EVERY_S = 2.0
"""How often Prometheus scrapes and evaluates, and how long it waits for what it scrapes."""
WINDOW_S = 6 * EVERY_S
"""No window of a scaled rule is shorter: on a machine with much else to do scrapes and evaluations come late."""
FIRES_S = 120.0
"""The longest an alert may take to come or to go, on a machine with much else to do."""
Json = dict[str, Any]
Labels = dict[str, str]


@dataclass(frozen=True)
class Told:
    """One alert of a message.

    Attributes:
        path: Where it was sent: `/alerts` or `/watchdog`.
        status: `firing` or `resolved`.
    """

    path: str
    status: str
    labels: Labels
    annotations: Labels


class Receiver:
    """Whoever is told; a context manager."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.refuses = False
        """Answers 500 instead."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not receiver.refuses:
                    receiver.told += [
                        Told(self.path, one["status"], one["labels"], one["annotations"]) for one in body["alerts"]
                    ]
                self.send_response(500 if receiver.refuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """What comes is kept, not printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def last(self, name: str, **labels: str) -> Told | None:
        """What was said last of an alert with these labels."""
        return next((one for one in reversed(self.told) if _is(one.labels, name, labels)), None)


def _is(labels: Labels, name: str, wanted: Labels) -> bool:
    return labels["alertname"] == name and wanted.items() <= labels.items()


class AlertmanagerProcess:
    """Alertmanager with our routes, without its patience; a context manager.

    Args:
        folder: Where its configuration, data and log lie.
        alerts_url: Whom alerts are sent to; "" for nobody.
        watchdog_url: Whom the deadman's switch is sent to; "" for nobody.
    """

    def __init__(self, folder: Path, alerts_url: str = "", watchdog_url: str = "") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        values = {
            "ALERT_RECEIVER": f'{{url: "{alerts_url}", send_resolved: true}}' if alerts_url else "",
            "WATCHDOG_RECEIVER": f'{{url: "{watchdog_url}", send_resolved: false}}' if watchdog_url else "",
            # A receiver is given as long as its group waits.
            "WATCHDOG_REPEAT": "5s",
            "GROUP_WAIT": "1s",
            "GROUP_INTERVAL": "5s",
            "REPEAT": "1h",
            "PAGE_REPEAT": "1h",
        }
        self.config = folder / "alertmanager.yml"
        self.config.write_text(string.Template(TEMPLATE.read_text()).substitute(values))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [
            program("alertmanager"),
            f"--config.file={self.config}",
            f"--storage.path={self._folder}/data",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]
        with (self._folder / "alertmanager.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, f"Alertmanager ready; see {self._folder}/alertmanager.log", 60)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def alerts(self) -> list[Json]:
        """What it knows of now, inhibited or not."""
        found: list[Json] = httpx.get(f"{self.url}/api/v2/alerts", timeout=10, trust_env=False).json()
        return found

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/-/ready", timeout=2, trust_env=False).is_success
        return False


class AlertingPrometheus(PrometheusProcess):
    """Prometheus with our rules, scaled, which scrapes what the catalog does not know when it is told of it.

    Args:
        folder: Where its configuration, data and log lie.
        consul_url: Where it finds what to scrape.
        alertmanager: Whom it tells, host and port.
        factor: What every duration of the rules is multiplied by.
    """

    def __init__(self, folder: Path, consul_url: str, alertmanager: str, factor: float) -> None:
        super().__init__(folder, consul_url)
        self.scrape_s = EVERY_S
        self._targets = folder / "targets"
        self._targets.mkdir()
        self.scale = Scale(factor, window_s=WINDOW_S, interval_s=EVERY_S)
        for name, text in rendered(self.scale, "docs/runbooks").items():
            path = folder / "rules" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        path = folder / "prometheus.yml"
        config = yaml.safe_load(path.read_text())
        config["global"] = dict.fromkeys(config["global"], f"{EVERY_S:g}s")
        config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager]}]
        jobs = {job["job_name"]: job for job in config["scrape_configs"]}
        for name in ("control-plane", "consul", "alertmanager", "oauth", "collector", "loki"):
            job = jobs.setdefault(name, {"job_name": name})
            job.pop("static_configs", None)
            job["file_sd_configs"] = [{"files": [f"{self._targets}/{name}.json"], "refresh_interval": "1s"}]
        jobs["consul"] |= {"metrics_path": "/v1/agent/metrics", "params": {"format": ["prometheus"]}}
        config["scrape_configs"] = list(jobs.values())
        path.write_text(yaml.safe_dump(config))

    def scrape(self, job: str, *urls: str) -> None:
        """From now on a job is these."""
        spare = self._targets / f".{job}"
        spare.write_text(json.dumps([{"targets": [url.removeprefix("http://") for url in urls]}]))
        spare.rename(self._targets / f"{job}.json")

    def firing(self, name: str, **labels: str) -> list[Labels]:
        """Labels of the alerts of this name that fire now."""
        wanted = "".join(f', {label}="{value}"' for label, value in labels.items())
        return [found for found, _ in self.values(f'ALERTS{{alertname="{name}", alertstate="firing"{wanted}}}')]


def queries(text: str, language: str = "promql") -> list[str]:
    """The fenced blocks of a runbook in a language."""
    return [found.strip() for found in re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def _filled(query: str, labels: Labels) -> str:
    """A runbook's query about what an alert is about."""
    for name in ("service", "version", "instance", "target", "tool"):
        query = query.replace(name.upper(), labels.get(name, ".*"))
    return query


@dataclass
class Watch:
    """The whole way from a rule to whoever is told."""

    prometheus: AlertingPrometheus
    alertmanager: AlertmanagerProcess
    receiver: Receiver
    patience_s: float = FIRES_S

    def quiet(self, name: str, **labels: str) -> None:
        """An alert does not fire, and whoever is told knows so."""
        assert self.prometheus.firing(name, **labels) == []
        assert not self.told(name, **labels)

    def told(self, name: str, **labels: str) -> bool:
        """Whether the last word on an alert is that it fires."""
        return self._is(name, "firing", labels)

    def fired(self, name: str, **labels: str) -> Told:
        """Wait until whoever is told was told of an alert; what was said."""
        wait_until(lambda: self.told(name, **labels), f"{name} {labels} to be told", self.patience_s)
        found = self.receiver.last(name, **labels)
        assert found
        assert found.annotations["runbook_url"] == f"docs/runbooks/{name}.md"
        assert "no value" not in found.annotations["description"]
        return found

    def cleared(self, name: str, **labels: str) -> None:
        """Wait until whoever is told was told that it is over."""
        wait_until(lambda: self._is(name, "resolved", labels), f"{name} {labels} to be over", self.patience_s)

    @contextmanager
    def fires(self, name: str, **labels: str) -> Iterator[None]:
        """An alert that is quiet before the block, is told within it or soon after."""
        self.quiet(name, **labels)
        yield
        self.fired(name, **labels)

    def leads_to(self, name: str, *, least: bool = False, about: Labels, **cause: str) -> None:
        """Follow the runbook of an alert that fires: one of its queries names the cause before anything else.

        Windows of queries are scaled as those of rules: in five minutes a test has seen several faults come and go.

        Args:
            least: The cause is what has the lowest value, not the highest.
            about: Labels of the alert.
            cause: What the answer's first series has to say.
        """
        labels = self.fired(name, **about).labels
        asked = [
            self.prometheus.scale.expression(_filled(query, labels))
            for query in queries((RUNBOOKS / f"{name}.md").read_text())
        ]
        first: dict[str, Labels] = {}

        def found() -> bool:
            for query in asked:
                answer = [(value, found) for found, value in self.prometheus.values(query) if not isnan(value)]
                first[query] = sorted(answer, key=lambda one: one[0], reverse=not least)[0][1] if answer else {}
            return any(cause.items() <= one.items() for one in first.values())

        wait_until(found, lambda: f"{cause} to come first in one of {first}", 30)

    def _is(self, name: str, status: str, labels: Labels) -> bool:
        last = self.receiver.last(name, **labels)
        return last is not None and last.status == status
