"""Operators' alert rules through the real thing: Consul, a replica, promtool, keeper, Prometheus, Alertmanager."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.consul import Consul
from tests.support.consul_process import ConsulProcess
from tests.support.ports import free_ports
from tests.support.programs import ROOT, program
from tests.support.prometheus_process import PrometheusProcess
from tests.support.replicas import TOKEN, ObedientAgent
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.feature("C13"), pytest.mark.timeout(180)]
RULE = {"alert": "Always", "expr": "vector(1) > 0", "labels": {"severity": "warning", "service": "search"}}
TESTS = [
    {
        "interval": "1m",
        "input_series": [{"series": "depth", "values": "1 1 9 9 9"}],
        "alert_rule_test": [
            {"eval_time": "1m", "alertname": "Deep", "exp_alerts": []},
            {"eval_time": "4m", "alertname": "Deep", "exp_alerts": [{"exp_labels": {}, "exp_annotations": {}}]},
        ],
    }
]


@dataclass
class Place:
    """The whole, and how to ask it."""

    url: str
    prometheus: PrometheusProcess
    folder: Path
    token: str = TOKEN

    def ask(self, method: str, path: str, body: object = None, **params: str) -> httpx.Response:
        """The API's answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.request(
            method, self.url + path, json=body, params=params, headers=headers, timeout=60, trust_env=False
        )

    def put(self, name: str, *rules: dict[str, Any], **more: object) -> httpx.Response:
        """Add a group."""
        return self.ask("PUT", f"/v1/rules/{name}", {"rules": rules, "interval_s": 1, "reason": "test", **more})


def started(module: str, folder: Path, **settings: str) -> subprocess.Popen[bytes]:
    """A process of ours."""
    env = {"PATH": os.environ["PATH"], **settings}
    with (folder / f"{module}.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", module], env=env, cwd=ROOT, stdout=log, stderr=log)


@contextmanager
def obedient_gate(url: str) -> Iterator[None]:
    """A gate that has everything in force at once, for a whole module."""

    async def report() -> None:
        async with Consul(url) as consul:
            await ObedientAgent(consul).run()

    loop = asyncio.new_event_loop()
    work = loop.create_task(report())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([work])))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(work.cancel)
        thread.join(20)
        loop.close()


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("alertmanager")
    (folder / "alertmanager.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    (port,) = free_ports(1)
    flags = {
        "config.file": folder / "alertmanager.yml",
        "storage.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "cluster.listen-address": "",
    }
    with (folder / "log").open("ab") as log:
        command = [program("alertmanager"), *(f"--{name}={value}" for name, value in flags.items())]
        running = subprocess.Popen(command, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}"
    running.kill()
    running.wait()


@pytest.fixture(scope="module")
def _whole(tmp_path_factory: pytest.TempPathFactory, alertmanager: str) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("rules")
    (folder / "operator.token").write_text(TOKEN)
    (folder / "consul").mkdir()
    (port,) = free_ports(1)
    with ConsulProcess(folder / "consul") as consul, PrometheusProcess(folder / "prometheus", consul.url) as prometheus:
        plane = started(
            "control_plane",
            folder,
            MCP_CONSUL_URL=consul.url,
            MCP_PORT=str(port),
            MCP_OPERATOR_TOKEN_FILE=str(folder / "operator.token"),
            MCP_PROMETHEUS_URL=prometheus.url,
            MCP_PROMTOOL=program("promtool"),
            MCP_ALERTMANAGER_URL=alertmanager,
        )
        rules = folder / "prometheus" / "rules" / "operators"
        keeper = started("control_plane.rule_keeper", folder, MCP_CONSUL_URL=consul.url, MCP_RULES_DIR=str(rules))
        with obedient_gate(consul.url):
            yield Place(f"http://127.0.0.1:{port}", prometheus, rules)
        for process in (plane, keeper):
            process.terminate()
            process.wait(30)


@pytest.fixture
async def place(_whole: Place) -> Place:
    async def begun() -> bool:
        try:
            return (await asyncio.to_thread(_whole.ask, "POST", "/v1/init", {})).is_success
        except httpx.TransportError:
            return False

    await eventually(begun, "a leader with a policy", 60)
    return _whole


def firing(place: Place, alert: str) -> bool:
    """Whether Prometheus fires an alert."""
    return bool(place.prometheus.values(f'ALERTS{{alertname="{alert}",alertstate="firing"}}'))


async def test_a_group_is_live_on_prometheus_within_ten_seconds_fires_and_goes(place: Place) -> None:
    began = time.monotonic()
    done = (await asyncio.to_thread(place.put, "night", RULE)).json()
    took_s = time.monotonic() - began
    assert (done["live"], done["lacking"]) == (True, []), done
    assert took_s < 10
    print(f"live after {took_s:.2f} s")

    async def fires() -> bool:
        return await asyncio.to_thread(firing, place, "Always")

    await eventually(fires, "the alert to fire", 90)
    shown = place.ask("GET", "/v1/rules").json()["groups"]
    assert [(one["group"]["name"], [at["health"] for at in one["loaded"]]) for one in shown] == [("night", ["live"])]
    again = place.put("night", {**RULE, "for_s": 5})
    assert (again.status_code, "--replace" in again.json()["detail"]) == (409, True)
    assert place.put("night", {**RULE, "for_s": 5}, replace=True).json()["live"]
    revision = place.ask("GET", "/v1/status").json()["revision"]
    assert place.ask("DELETE", "/v1/rules/night", reason="mended").is_success

    async def gone() -> bool:
        return not list(place.folder.glob("*.yml"))

    await eventually(gone, "the file to go", 20)
    assert place.ask("POST", "/v1/state/rollback", {"to": revision, "reason": "back"}).is_success
    shown = place.ask("GET", "/v1/rules").json()["groups"]
    assert [one["group"]["rules"][0]["for_s"] for one in shown] == [5]


async def test_what_prometheus_would_not_load_or_a_test_refutes_is_refused_in_its_own_words(place: Place) -> None:
    before = place.ask("GET", "/v1/status").json()["revision"]
    broken = place.put("broken", {"alert": "Broken", "expr": "sum("})
    assert broken.status_code == 422
    assert "unclosed left parenthesis" in broken.json()["detail"] or "parse error" in broken.json()["detail"]
    wrong = [{**TESTS[0], "alert_rule_test": [{"eval_time": "1m", "alertname": "Deep", "exp_alerts": [{}]}]}]
    deep = {"alert": "Deep", "expr": "depth > 5"}
    refuted = place.put("deep", deep, tests=wrong)
    assert (refuted.status_code, "Deep" in refuted.json()["detail"]) == (422, True)
    resources = [{"kind": "AlertRules", "name": "broken", "rules": [{"alert": "B", "expr": "sum("}]}]
    applied = place.ask("POST", "/v1/state/apply", {"resources": resources, "reason": "x"})
    assert applied.status_code == 422, applied.text
    assert place.ask("GET", "/v1/status").json()["revision"] == before
    assert place.put("deep", deep, tests=TESTS).json()["live"]


async def test_a_trial_says_how_often_it_would_have_fired(place: Place) -> None:
    await asyncio.to_thread(place.prometheus.until, "up", "something scraped")
    tried = place.ask("POST", "/v1/rules/test", {"rules": [RULE], "hours": 1}).json()
    assert (tried["good"], tried["unknown"]) == (True, "")
    assert [(one["alert"], one["times"]) for one in tried["fired"]] == [("Always", 1)]
    never = place.ask("POST", "/v1/rules/test", {"rules": [{"alert": "Never", "expr": "vector(0) > 0"}]}).json()
    assert [(one["times"], one["firing_s"]) for one in never["fired"]] == [(0, 0)]
    assert not place.ask("POST", "/v1/rules/test", {"rules": [{"alert": "B", "expr": "sum("}]}).json()["good"]


async def test_silences_are_made_listed_and_ended_and_are_the_operators_own(place: Place) -> None:
    bound = {"name": "sam", "role": "operator", "services": ["search"], "reason": "x"}
    token = place.ask("POST", "/v1/operators", bound).json()["token"]
    sam = Place(place.url, place.prometheus, place.folder, token)
    wide = {"matchers": [{"name": "alertname", "value": ".*", "isRegex": True}], "for_s": 600, "reason": "x"}
    assert sam.ask("POST", "/v1/silences", wide).status_code == 403
    own = {"matchers": [{"name": "service", "value": "search"}], "for_s": 600, "reason": "index is rebuilt"}
    made = sam.ask("POST", "/v1/silences", own)
    assert made.is_success, made.text
    [shown] = sam.ask("GET", "/v1/silences").json()["silences"]
    assert (shown["author"], shown["reason"], shown["state"]) == ("sam", "index is rebuilt", "active")
    assert sam.ask("DELETE", f"/v1/silences/{shown['id']}", reason="done").is_success
    assert place.ask("GET", "/v1/silences").json()["silences"] == []
    told = place.ask("GET", "/v1/audit", limit="3").json()["records"]
    assert [(one["who"], one["what"], one["result"]) for one in told] == [
        ("sam", "expire-silence", "done"),
        ("sam", "add-silence", "done"),
        ("sam", "add-silence", "refused"),
    ]
