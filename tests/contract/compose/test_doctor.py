"""`tekup doctor` over real HTTP: whatever answers in the control plane's place is a finding, never a traceback."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.local.checks import instances, scraping
from compose.local.doctor import list_findings, lists, policy
from compose.local.finding import Finding, Patient
from compose.local.layout import Layout
from compose.local.settings import load
from compose.local.status import ProcessStatus, Status
from tests.support.ports import free_port

TOKEN = "operators"
Answers = dict[str, tuple[int, bytes]]
STRANGER, LEADS = (401, b"who are you?"), (200, b'"127.0.0.1:8300"')
GATE = {"id": "local", "live": True, "epoch": 1, "revision": 61, "problems": ["Consul holds 1/6, older than 1/61"]}
PLANE = {"leading": True, "initialised": True, "epoch": 1, "revision": 6, "gates": [GATE], "message": "", "new": 1}
SERVICE = {"name": "search", "policy": {"stable": "1.0.0", "lanes": []}, "instances": []}


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    """Serves fixed answers to those who have the token; returns where."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(answers: Answers) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.headers["Authorization"] == f"Bearer {TOKEN}" or not self.path.startswith("/v1/s")
                answer = LEADS if self.path == "/v1/status/leader" else answers[self.path] if known else STRANGER
                status, body = answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def examined(directory: Path, url: str, token: bytes = TOKEN.encode(), pid: int | None = 1) -> list[Finding]:
    layout = Layout(directory)
    layout.make_folders()
    layout.operator_token.write_bytes(token)
    return list(policy(patient(layout, "control-plane", url, pid)))


def patient(layout: Layout, name: str, url: str, pid: int | None = 1) -> Patient:
    process = ProcessStatus(
        name=name, group=name, state="ready", ready=True, problem="", pid=pid,
        since=0, restarts=0, version="", instance="", url=url,
    )  # fmt: skip
    status = Status(directory=str(layout.directory), pid=1, table="", stopping=False, scale={}, processes=(process,))
    return Patient(layout, load(layout, {}), status)


def test_gates_and_services_are_asked_with_the_operators_token(tmp_path: Path, serve: Callable[[Answers], str]) -> None:
    url = serve({
        "/v1/status": (200, json.dumps(PLANE).encode()),
        "/v1/services": (200, json.dumps({"revision": 6, "services": [SERVICE]}).encode()),
    })  # fmt: skip
    found = {finding.what: finding for finding in examined(tmp_path, url)}
    assert {what: finding.ok for what, finding in found.items()} == {
        "policy": True,
        "gate local": False,
        "service search": False,
    }
    assert found["gate local"].said == "Consul holds 1/6, older than 1/61"


@pytest.mark.parametrize(
    "answer", [(500, b"broken"), (503, b'{"detail": "Consul"}'), (200, b"<html>"), (200, b"[]"), (200, b"{}")]
)
def test_an_api_that_answers_something_else_is_a_finding(
    tmp_path: Path, serve: Callable[[Answers], str], answer: tuple[int, bytes]
) -> None:
    (finding,) = examined(tmp_path, serve({"/v1/status": answer}))
    assert (finding.what, finding.ok) == ("operators' API", False)
    assert finding.remedy


@pytest.mark.parametrize("token", [b"wrong", b"\xff", b"two\nlines"])
def test_a_token_that_does_not_fit_is_a_finding(tmp_path: Path, serve: Callable[[Answers], str], token: bytes) -> None:
    (finding,) = examined(tmp_path, serve({}), token)
    assert not finding.ok


def test_an_api_nobody_serves_is_a_finding(tmp_path: Path) -> None:
    (finding,) = examined(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert not finding.ok
    assert "/v1/status" in finding.said


def test_a_control_plane_that_does_not_run_is_not_asked(tmp_path: Path) -> None:
    assert examined(tmp_path, "http://127.0.0.1:1", pid=None) == []


@pytest.mark.feature("A14")
def test_what_the_hub_has_put_aside_is_named_with_its_reason(tmp_path: Path, serve: Callable[[Answers], str]) -> None:
    aside = [
        {"service": "notes", "method": "tools/list", "item": "notes_add", "reason": "it is listed twice"},
        {"service": "slow", "method": "prompts/list", "item": "", "reason": "no answer within 2 s"},
    ]
    hub = serve({"/state": (200, json.dumps({"quarantined": aside}).encode())})
    address, port = hub.removeprefix("http://").split(":")
    entry = [{"Service": {"Address": address, "Meta": {"admin": port}}}]
    consul = serve({"/v1/health/service/mcp-hub?passing=true": (200, json.dumps(entry).encode())})
    first, second = lists(patient(Layout(tmp_path), "consul", consul))
    assert (first.what, first.ok) == ("service notes", False)
    assert "'notes_add' in its tools/list is shown to nobody: it is listed twice" in first.said
    assert "its prompts/list as a whole" in second.said


def test_lists_without_fault_are_one_good_finding() -> None:
    (finding,) = list_findings([])
    assert finding.ok


def registered(instance: str, output: str) -> dict[str, object]:
    service = {"ID": f"mcp-search-{instance}", "Service": "mcp-search", "Meta": {"instance": instance}}
    return {"Service": service, "Checks": [{"Status": "critical", "Output": output}]}


@pytest.mark.feature("G3")
def test_an_instance_that_hangs_is_unfit_and_one_that_was_killed_is_only_not_forgotten_yet(
    tmp_path: Path, serve: Callable[[Answers], str]
) -> None:
    entries = [registered("aaaaaa", "deadline exceeded"), registered("bbbbbb", "connect: connection refused")]
    consul = serve({
        "/v1/catalog/services": (200, json.dumps({"mcp-search": []}).encode()),
        "/v1/health/service/mcp-search": (200, json.dumps(entries).encode()),
    })  # fmt: skip
    (found,) = instances(patient(Layout(tmp_path), "consul", consul))
    assert (found.what, found.ok) == ("instance mcp-search-aaaaaa", False)
    assert "critical: deadline exceeded" in found.said


@pytest.mark.feature("G3")
def test_a_target_that_cannot_be_scraped_is_named_unless_it_is_an_instance_that_was_killed(
    tmp_path: Path, serve: Callable[[Answers], str]
) -> None:
    def target(job: str, error: str) -> dict[str, object]:
        return {"health": "down", "lastError": error, "labels": {"job": job, "service": "search", "instance": "aaaaaa"}}

    targets = [target("instances", "connect: connection refused"), target("gates", "connect: connection refused")]
    told = json.dumps({"data": {"activeTargets": targets}}).encode()
    url = serve({"/api/v1/targets?state=active": (200, told)})
    (found,) = scraping(patient(Layout(tmp_path), "prometheus", url))
    assert (found.what, found.ok) == ("Prometheus", False)
    assert found.said.startswith("cannot scrape gates")
    assert found.remedy


@pytest.mark.parametrize("answer", [(500, b""), (200, b"[]x"), (200, b'[{"Service": {}}]'), (200, b"{}")])
def test_a_registry_or_hub_that_answers_something_else_is_a_finding(
    tmp_path: Path, serve: Callable[[Answers], str], answer: tuple[int, bytes]
) -> None:
    url = serve({"/v1/health/service/mcp-hub?passing=true": answer})
    (finding,) = lists(patient(Layout(tmp_path), "consul", url))
    assert (finding.what, finding.ok) == ("lists", False)
