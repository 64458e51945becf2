"""Operators' receivers through a real Alertmanager: checked by amtool, live within seconds, tried, told their own."""

from __future__ import annotations

import asyncio
import json
import string
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.api import create_app
from control_plane.engine import Engine
from control_plane.model import Table
from control_plane.receiver_keeper import AlertmanagerFile
from control_plane.receiving import Amtool
from control_plane.rule_keeper import Keeper
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running
from tests.support.ports import free_ports
from tests.support.programs import ROOT, program
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.feature("C10"), pytest.mark.timeout(180)]
TEMPLATE = ROOT / "observability" / "alertmanager" / "alertmanager.yml.tmpl"
TOKEN = {"Authorization": "Bearer secret-token"}


@dataclass
class Heard:
    """Whoever is told, by webhook or as Slack is."""

    url: str = ""
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    refuses: bool = False

    def alerts(self, path: str) -> list[str]:
        """Names of the alerts that came to a path, in the order they came."""
        told = [call for call in self.calls if call[0] == path]
        return [one["labels"]["alertname"] for _, _, body in told for one in body.get("alerts", ())]


@pytest.fixture(scope="module")
def heard() -> Iterator[Heard]:
    made = Heard()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.calls.append((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(400 if made.refuses else 200)
            self.end_headers()
            self.wfile.write(b"ok")  # as Slack says it, without which Alertmanager takes it for a refusal

        def log_message(self, *_: object) -> None:
            """What comes is kept, not printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@dataclass
class Managed:
    """An Alertmanager as the platform lays it out."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory, heard: Heard) -> Iterator[Managed]:
    folder = tmp_path_factory.mktemp("alertmanager")
    values = dict.fromkeys(("GROUP_WAIT", "GROUP_INTERVAL", "WATCHDOG_REPEAT"), "1s")
    values |= dict.fromkeys(("REPEAT", "PAGE_REPEAT"), "1h")
    values |= {"ALERT_RECEIVER": f'{{url: "{heard.url}/platform"}}', "WATCHDOG_RECEIVER": ""}
    base = string.Template(TEMPLATE.read_text()).substitute(values)
    (folder / "alertmanager.yml").write_text(base)
    (folder / "live.yml").write_text(base)
    (folder / "secrets").mkdir()
    (port,) = free_ports(1)
    flags = {
        "config.file": folder / "live.yml",
        "storage.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "cluster.listen-address": "",
        "enable-feature": "receiver-name-in-metrics",
    }
    with (folder / "log").open("ab") as log:
        command = [program("alertmanager"), *(f"--{name}={value}" for name, value in flags.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield Managed(f"http://127.0.0.1:{port}", folder)
    process.terminate()
    process.wait(30)


@pytest.fixture
async def api(alertmanager: Managed) -> AsyncIterator[httpx.AsyncClient]:
    store, folder = Memory(), alertmanager.folder
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        plane.receivers.amtool, plane.receivers.url = Amtool(Path(program("amtool"))), alertmanager.url
        file = AlertmanagerFile(
            folder / "alertmanager.yml", folder / "live.yml", alertmanager.url, str(folder / "secrets")
        )
        keeping = asyncio.create_task(Keeper(store, Table.RECEIVERS, file.write).run())
        transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), "secret-token"))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN, timeout=60) as http:
            await http.post("/v1/init", json={})

            async def answers() -> bool:
                return "not answer" not in str(await plane.receivers.live([]))

            await eventually(answers, "Alertmanager", 60)
            yield http
        keeping.cancel()


async def put(api: httpx.AsyncClient, name: str, **fields: object) -> httpx.Response:
    """Have a receiver."""
    return await api.put(f"/v1/receivers/{name}", json={"reason": "test", "replace": True, **fields})


async def fire(alertmanager: Managed, **labels: str) -> None:
    """Have an alert."""
    alert = {"labels": labels, "startsAt": datetime.now(UTC).isoformat()}
    async with httpx.AsyncClient(trust_env=False) as http:
        (await http.post(f"{alertmanager.url}/api/v2/alerts", json=[alert])).raise_for_status()


async def test_a_receiver_is_live_within_ten_seconds_and_is_told_what_is_its_own(
    api: httpx.AsyncClient, alertmanager: Managed, heard: Heard
) -> None:
    (alertmanager.folder / "secrets" / "pager").write_text("s3cret")
    fields = {"by": "webhook", "url": f"{heard.url}/night", "token_secret": "pager"}
    began = time.monotonic()
    done = await put(api, "night", **fields, severities=["critical"], services=["search"])
    took_s = time.monotonic() - began
    assert (done.status_code, done.json()["health"]) == (200, "live"), done.text
    assert took_s < 10
    print(f"live after {took_s:.2f} s")
    await fire(alertmanager, alertname="Theirs", severity="critical", service="search")
    await fire(alertmanager, alertname="Milder", severity="warning", service="search")
    await fire(alertmanager, alertname="Elsewhere", severity="critical", service="hub")

    async def told() -> bool:
        return {"Theirs", "Milder", "Elsewhere"} <= set(heard.alerts("/platform")) and "Theirs" in heard.alerts(
            "/night"
        )

    await eventually(told, "everybody to be told", 60)
    assert set(heard.alerts("/night")) == {"Theirs"}
    assert {call[1] for call in heard.calls if call[0] == "/night"} == {"Bearer s3cret"}
    shown = (await api.get("/v1/receivers")).json()["receivers"]
    assert [(one["receiver"]["name"], one["health"]) for one in shown] == [("night", "live")]
    assert "s3cret" not in str(shown)


async def test_a_test_message_reaches_its_receiver_and_nobody_else(
    api: httpx.AsyncClient, alertmanager: Managed, heard: Heard
) -> None:
    (alertmanager.folder / "secrets" / "chat").write_text(f"{heard.url}/chat")
    await put(api, "night", by="webhook", url=f"{heard.url}/night", severities=["critical"])
    chat = await put(api, "chat", by="slack", url_secret="chat", services=["hub"])
    assert chat.json()["health"] == "live", chat.text
    heard.calls.clear()
    for name in ("night", "chat"):
        tried = await api.post(f"/v1/receivers/{name}/test", json={"reason": "is it on?"})
        assert tried.json() == {"delivered": True, "why": "", "dry_run": False}, tried.text
    assert {path for path, _, _ in heard.calls} == {"/night", "/chat"}
    assert heard.alerts("/night") == ["ReceiverTest"]
    assert not [one for one in heard.calls if one[0] == "/platform"]
    heard.refuses = True
    try:
        lost = (await api.post("/v1/receivers/night/test", json={"reason": "and now?"})).json()
    finally:
        heard.refuses = False
    assert (lost["delivered"], "could not deliver" in lost["why"]) == (False, True)


async def test_what_alertmanager_would_not_take_is_refused_in_its_own_words_and_nothing_changes(
    api: httpx.AsyncClient, alertmanager: Managed
) -> None:
    revision = (await api.get("/v1/status")).json()["revision"]
    wrong = await put(api, "bad", by="webhook", url="http://:0bad:port/")
    assert (wrong.status_code, "receivers bad" in wrong.json()["detail"]) == (422, True), wrong.text
    assert str(alertmanager.folder) not in wrong.text
    resources = [{"kind": "Receiver", "name": "bad", "by": "webhook", "url": "http://:0bad:port/"}]
    applied = await api.post("/v1/state/apply", json={"resources": resources, "reason": "x"})
    assert applied.status_code == 422, applied.text
    assert (await api.get("/v1/status")).json()["revision"] == revision
    mail = await put(api, "mail", by="email", to="a@b.example", sender="c@d.example", smarthost="mail.example:25")
    assert mail.json()["health"] == "live", mail.text


async def test_a_removed_receiver_is_told_nothing_and_comes_back_by_a_rollback(
    api: httpx.AsyncClient, heard: Heard
) -> None:
    await put(api, "night", by="webhook", url=f"{heard.url}/night")
    revision = (await api.get("/v1/status")).json()["revision"]
    assert (await api.delete("/v1/receivers/night", params={"reason": "moved"})).is_success
    refused = await api.post("/v1/receivers/night/test", json={"reason": "x"})
    assert refused.status_code == 404
    back = await api.post("/v1/state/rollback", json={"to": revision, "reason": "back"})
    assert back.is_success, back.text

    async def live() -> bool:
        return bool((await api.get("/v1/receivers/night")).json()["health"] == "live")

    await eventually(live, "it to be live again", 20)
