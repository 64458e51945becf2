"""What the adapter makes of a gate's answers, and what it refuses to start with; the gate here says what it is told."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from control_plane.errors import Refused, Unavailable
from control_plane.gateway import InternalGate, read_proof
from control_plane.settings import ControlPlaneSettings, load
from control_plane.wire import MOST_BYTES

Answer = Callable[[Mapping[str, Any], Mapping[str, str]], bytes]
TARGET = "notes_1-0-0"
WHOSE = {"X-Tekup-Instance": "aaaaaa", "X-Tekup-Version": "1.0.0"}


@dataclass
class Script:
    """What the gate answers next."""

    url: str = ""
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=lambda: dict(WHOSE))
    answer: Answer = lambda body, headers: b"{}"
    asked: list[Mapping[str, str]] = field(default_factory=list)

    def result(self, result: Mapping[str, Any]) -> None:
        """Answer every request with it."""
        self.answer = lambda body, headers: json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sent = {name.lower(): value for name, value in self.headers.items()}
            made.asked.append(sent)
            self.send_response(made.status)
            for name, value in (made.headers | {"Content-Type": made.kind}).items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the caller may have read enough
                self.wfile.write(made.answer(body, sent))

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        yield made
        server.shutdown()
        thread.join()


def gate(script: Script, timeout_s: float = 20) -> InternalGate:
    return InternalGate([script.url], "proof", timeout_s=timeout_s)


async def problem(script: Script) -> str:
    """What the call of a tool comes to."""
    async with gate(script) as made:
        return (await made.call("notes", TARGET, "notes_list", {"limit": 1})).problem


async def test_a_call_says_who_asks_for_whom_and_for_what(script: Script) -> None:
    script.result({"content": [], "resultType": "complete"})
    assert await problem(script) == ""
    (sent,) = script.asked
    expected = {
        "x-tekup-caller": "control-plane",
        "x-tekup-proof": "proof",
        "x-tekup-target": TARGET,
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "notes_list",
    }
    assert expected.items() <= sent.items()
    assert "x-tekup-grant" not in sent


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"isError": True, "content": [{"type": "text", "text": "no\nroom"}]}, "no room"),
        ({"isError": True, "content": "odd"}, "it failed"),
        ({"resultType": "input_required"}, "it asks for input, so it cannot be probed"),
    ],
)
async def test_a_result_that_is_no_success_is_a_problem(script: Script, result: Mapping[str, Any], said: str) -> None:
    script.result(result)
    assert await problem(script) == said


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "does not say who gave it"),
        (WHOSE | {"X-Tekup-Version": "1.1.0"}, "answered by 1.1.0 (aaaaaa) in its place"),
    ],
)
async def test_an_answer_by_another_is_a_problem(script: Script, headers: dict[str, str], said: str) -> None:
    script.result({"content": []})
    script.headers = headers
    assert said in await problem(script)


async def test_an_instance_is_told_from_others_of_its_version(script: Script) -> None:
    script.result({"content": []})
    async with gate(script) as made:
        assert (await made.call("notes", f"{TARGET}_aaaaaa", "notes_list", {})).problem == ""
        other = await made.call("notes", f"{TARGET}_bbbbbb", "notes_list", {})
    assert other.problem == "answered by 1.0.0 (aaaaaa) in its place"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "HTTP 502 without an answer in JSON-RPC"),
        (b"[" * 100_000, "HTTP 502 without an answer in JSON-RPC"),
        (b'{"result": 5}', "HTTP 502 without an answer in JSON-RPC"),
        (b'{"error": {"code": 502, "message": "it is gone"}}', "it is gone"),
        (b" " * (MOST_BYTES + 1), "the answer was lost (DecodingError)"),
    ],
)
async def test_nonsense_is_a_problem_of_the_call(script: Script, body: bytes, said: str) -> None:
    script.status = 502
    script.answer = lambda *_: body
    assert await problem(script) == said


async def test_a_stream_is_read_to_its_answer(script: Script) -> None:
    script.kind = "text/event-stream"
    progress = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
    result = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"isError": True, "content": []}})
    script.answer = lambda *_: f": wait\n\ndata: {progress}\n\nevent: message\ndata: {result}\n\n".encode()
    assert await problem(script) == "it failed"


async def test_one_that_takes_too_long_is_a_problem_although_it_keeps_talking(script: Script) -> None:
    def slow(*_: object) -> bytes:
        time.sleep(0.5)
        return b""

    script.answer = slow
    async with gate(script, timeout_s=0.1) as made:
        answered = await made.call("notes", TARGET, "notes_list", {})
    assert answered.problem == "no answer within 0.1 s"


def _offering(pages: Callable[[int], Mapping[str, Any]], capabilities: Mapping[str, Any]) -> Answer:
    """A server whose lists of tools have pages; there are no templates."""

    def answer(body: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
        assert headers["mcp-method"] == body["method"]
        said: dict[str, Any] = {"result": {}}
        if body["method"] == "server/discover":
            said = {"result": {"supportedVersions": ["2026-07-28", 5], "capabilities": capabilities}}
        elif body["method"] == "tools/list":
            said = {"result": pages(int(body["params"].get("cursor", "0")))}
        elif body["method"] == "resources/templates/list":
            said = {"error": {"code": -32601, "message": "Method not found"}}
        elif body["method"] == "resources/list":
            said = {"result": {"resources": [{"uri": "notes://a"}, {"no": "uri"}, 5]}}
        return json.dumps({"jsonrpc": "2.0", "id": 1, **said}).encode()

    return answer


async def test_an_offer_is_read_over_all_pages_and_only_what_the_service_is_able_to(script: Script) -> None:
    probe = {"dev.tekup/probe": {"arguments": {"limit": 1}}, "else": 1}

    def page(number: int) -> Mapping[str, Any]:
        tool = {"name": f"notes_{number}", "inputSchema": {}} | ({"_meta": probe} if number == 2 else {})
        return {"tools": [tool]} | ({"nextCursor": str(number + 1)} if number < 2 else {})

    script.answer = _offering(page, {"tools": {}, "resources": {}})
    async with gate(script) as made:
        offer = await made.offer("notes", TARGET)
    assert list(offer.tools) == ["notes_0", "notes_1", "notes_2"]
    assert offer.tools["notes_2"]["_meta"] == {"else": 1}
    assert offer.probes == {"notes_2": {"limit": 1}}
    assert (offer.version, list(offer.protocols), list(offer.resources)) == ("1.0.0", ["2026-07-28"], ["notes://a"])
    assert "prompts/list" not in {sent["mcp-method"] for sent in script.asked}


async def test_a_list_without_end_ends(script: Script) -> None:
    script.answer = _offering(lambda number: {"tools": [], "nextCursor": "1"}, {"tools": {}})
    async with gate(script) as made:
        with pytest.raises(Unavailable, match="more than 50 pages"):
            await made.offer("notes", TARGET)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ('{"service": "control-plane", "keys": ["' + "0" * 64 + '"]}', 0o644, "chmod 600"),
        ('{"service": "hub", "keys": ["' + "0" * 64 + '"]}', 0o600, "holds the keys of 'hub'"),
        ('{"service": "control-plane", "keys": []}', 0o600, "must be"),
        ("nonsense", 0o600, "must be"),
        (None, 0, "cannot be read: No such file"),
    ],
)
def test_a_file_of_secrets_that_is_none_is_refused(tmp_path: Path, content: str | None, mode: int, said: str) -> None:
    path = tmp_path / "control-plane.json"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(Refused, match="MCP_SECRETS_FILE") as refused:
        read_proof(path)
    assert said in str(refused.value)


def test_a_gate_is_called_by_both_settings_or_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_OPERATOR_TOKEN_FILE", "/token")
    assert load(ControlPlaneSettings).gate_internal_url == ()
    monkeypatch.setenv("MCP_GATE_INTERNAL_URL", "http://127.0.0.1:3005, http://127.0.0.1:4005")
    with pytest.raises(Refused, match="are needed together"):
        load(ControlPlaneSettings)
    monkeypatch.setenv("MCP_SECRETS_FILE", "/secrets")
    assert len(load(ControlPlaneSettings).gate_internal_url) == 2
    monkeypatch.setenv("MCP_GATE_INTERNAL_URL", "nowhere")
    with pytest.raises(Refused, match=r"MCP_GATE_INTERNAL_URL.*: "):
        load(ControlPlaneSettings)
