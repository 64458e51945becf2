"""One call is one trace, from the gate to what the tool calls: real Traefik, hub and services, a real OTLP receiver.

The shapes are data: whose span, its kind and its name, children below their parents.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.gate import MAC, MODERN, Gate, Maker, close, lay_out, wait_until
from tests.support.otlp import Collector, Taken, collecting
from tests.support.ports import free_port

pytestmark = [pytest.mark.local, pytest.mark.feature("D4"), pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
START_S = 240.0
SERVICES = {"search": "aaaaaa", "filesystem": "bbbbbb", "hub": "cccccc"}
GATE = "tekup-gate"
TOOLS: dict[str, tuple[str, dict[str, object], list[str]]] = {
    "a search": ("search_grep", {"pattern": "needle|FRESH", "path": "ROOT"}, ["tekup-search: client rg"]),
    "a read file": ("filesystem_read_file", {"path": "ROOT/one.txt"}, ["tekup-filesystem: internal disk"]),
    "nothing that takes time": ("filesystem_list_roots", {}, []),
}
"""What a call is of, the tool, its arguments with ROOT for the folder, and the steps below its span."""
BELOW = "  "
ASIDE = f"{GATE}: server GET"
"""The hub asks the gate now and then which services there are, and the call that met the moment waits for it."""


@dataclass
class World:
    """A gate with services behind it, all of whose spans come to one collector."""

    gate: Gate
    collector: Collector
    root: Path

    def ask(
        self, method: str, params: dict[str, object], era: str = "modern", path: str = "/mcp", **headers: str
    ) -> dict[str, object]:
        """One request; its result."""
        meta: dict[str, object] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        said = dict(params)
        if era == "modern":
            said["_meta"] = meta | dict(params.get("_meta") or {})  # type: ignore[call-overload]
        sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        name = str(params.get("name", ""))
        sent |= Maker.modern(method, name) if era == "modern" else {"Authorization": f"Bearer {Maker.keys['dev']}"}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": said}
        # a search that was made before is answered without looking again
        content = json.dumps(body).replace("ROOT", str(self.root)).replace("FRESH", secrets.token_hex(4))
        answer = self.gate.call(path, sent | headers, content=content)
        assert answer.status == 200, answer.reply.text
        text = answer.reply.text
        found = json.loads(text if text.startswith("{") else text.partition("data: ")[2])
        assert "result" in found, found
        result: dict[str, object] = found["result"]
        return result

    def listed(self) -> set[object]:
        """Names of the tools that an older client sees."""
        tools = self.ask("tools/list", {}, era="legacy")["tools"]
        assert isinstance(tools, list)
        return {tool["name"] for tool in tools}

    def settled(self, trace: str, shape: list[str]) -> None:
        """Wait for a trace of this shape."""
        wait_until(
            lambda: len(self.collector.tree(trace, ASIDE)) >= len(shape), f"{shape}; {self.collector.labels()}", 30
        )
        assert self.collector.tree(trace, ASIDE) == shape


def instance(service: str, folder: Path, gate: Gate, url: str, keys: dict[str, list[str]]) -> None:
    """A service's own process, made one of the gate's backends."""
    secret = folder / f"secrets-{service}.json"
    secret.write_text(json.dumps({"service": service, "keys": keys[service]}))
    secret.chmod(0o600)
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "MCP_SECRETS_FILE": str(secret),
        "MCP_PORT": str(port),
        "MCP_INSTANCE": SERVICES[service],
        "MCP_VERSION": "1.0.0",
        "MCP_OTLP_URL": url,
        "MCP_SEARCH_ROOTS": str(folder / "root"),
        "MCP_FILESYSTEM_ROOTS": str(folder / "root"),
        "MCP_GATE_INTERNAL_URL": gate.internal,
    }
    others = ("MCP_SEARCH_", "MCP_FILESYSTEM_")
    own = f"MCP_{service.upper()}_"
    env = {name: value for name, value in env.items() if name.startswith(own) or not name.startswith(others)}
    with (folder / f"{service}.log").open("ab") as log:
        command = [sys.executable, "-m", f"services.{service}"]
        gate.backends[SERVICES[service]] = (port, subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log))


def ready(port: int) -> bool:
    """Whether an instance says that it works."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("traces")
    (folder / "root").mkdir()
    (folder / "root" / "one.txt").write_text("hay\nneedle\n")
    keys = {service: [secrets.token_hex(32)] for service in (*SERVICES, "control-plane")}
    with collecting() as collector:
        gate = lay_out(folder / "gate", collector=collector.url)
        try:
            gate.write("tables/secrets.json", json.dumps({"mac": [MAC], "services": keys}))
            gate.start()
            targets = {service: f"{service}_1-0-0" for service in SERVICES}
            gate.services({service: {target: 100} for service, target in targets.items()})
            gate.clients({"dev": ["*"]})
            gate.in_force()
            for service in SERVICES:
                instance(service, folder, gate, collector.url, keys)
            gate.routes({service: {targets[service]: [SERVICES[service]]} for service in SERVICES})
            for service, name in SERVICES.items():
                wait_until(lambda name=name: ready(gate.backends[name][0]), f"{service}; see {folder}", START_S)  # type: ignore[misc]
            made = World(gate, collector, folder / "root")
            wait_until(lambda: made.listed() > {tool for tool, *_ in TOOLS.values()}, "all tools listed", START_S)
            yield made
        finally:
            close(gate)


def server_span(world: World, tool: str, seen: set[str]) -> Taken:
    """The span of a call in its service, which had not come before."""
    name = f"tools/call {tool}"
    service = f"tekup-{tool.partition('_')[0]}"

    def new() -> list[Taken]:
        ours = (one for one in world.collector.named(name) if one.span not in seen and one.service == service)
        return [one for one in ours if "tekup.probe" not in one.about]  # an instance's warming up may arrive late

    wait_until(new, f"the span of {name}; there are {world.collector.labels()}", 30)
    (found,) = new()
    return found


def seen(world: World) -> set[str]:
    """Ids of all spans so far."""
    return {one.span for one in list(world.collector.spans)}


def below(lines: list[str], depth: int) -> list[str]:
    return [BELOW * depth + line for line in lines]


@pytest.mark.parametrize("what", TOOLS)
def test_a_call_is_one_trace_from_the_gate_to_what_the_tool_calls(world: World, what: str) -> None:
    tool, arguments, steps = TOOLS[what]
    before = seen(world)
    world.ask("tools/call", {"name": tool, "arguments": arguments})
    span = server_span(world, tool, before)
    shape = [f"{GATE}: server POST", f"{GATE}: client ReverseProxy", f"{span.service}: server tools/call {tool}"]
    expected = [BELOW * depth + line for depth, line in enumerate(shape)] + below(steps, 3)
    world.settled(span.trace, expected)
    assert span.links == ()


@pytest.mark.parametrize("what", TOOLS)
def test_a_call_of_an_older_client_is_one_trace_through_the_hub(world: World, what: str) -> None:
    tool, arguments, steps = TOOLS[what]
    before = seen(world)
    world.ask("tools/call", {"name": tool, "arguments": arguments}, era="legacy")
    span = server_span(world, tool, before)
    service = tool.partition("_")[0]
    shape = [
        f"{GATE}: server POST",
        f"{GATE}: client ReverseProxy",
        f"tekup-hub: server tools/call {tool}",
        f"tekup-hub: client call {service}",
        f"{GATE}: server POST",
        f"{GATE}: client ReverseProxy",
        f"tekup-{service}: server tools/call {tool}",
    ]
    expected = [BELOW * depth + line for depth, line in enumerate(shape)] + below(steps, 7)
    world.settled(span.trace, expected)
    (hubs,) = [one for one in world.collector.of(span.trace) if one.label.startswith("tekup-hub: server")]
    assert (hubs.about["tekup.era"], span.about["tekup.era"]) == ("legacy", "modern")


@pytest.mark.parametrize("flag", ["01", "00"])
def test_a_callers_own_trace_is_the_parent_and_the_gates_span_is_linked(world: World, flag: str) -> None:
    tool, arguments, _ = TOOLS["a search"]
    theirs, before = secrets.token_hex(16), seen(world)
    meta = {"traceparent": f"00-{theirs}-{'ab' * 8}-{flag}"}
    world.ask("tools/call", {"name": tool, "arguments": arguments, "_meta": meta})
    span = server_span(world, tool, before)
    assert (span.trace, span.parent) == (theirs, "ab" * 8)
    world.settled(theirs, [f"tekup-search: server tools/call {tool}", "  tekup-search: client rg"])
    (link,) = span.links

    def proxied() -> list[Taken]:
        return [one for one in world.collector.named("ReverseProxy") if one.span == link]

    wait_until(proxied, "the gate's span", 30)
    assert world.collector.tree(proxied()[0].trace) == [f"{GATE}: server POST", f"  {GATE}: client ReverseProxy"]


def test_an_older_clients_own_trace_is_one_trace_from_the_hub_on(world: World) -> None:
    tool, arguments, _ = TOOLS["a read file"]
    theirs, before = secrets.token_hex(16), seen(world)
    meta = {"traceparent": f"00-{theirs}-{'ab' * 8}-01"}
    world.ask("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, era="legacy")
    span = server_span(world, tool, before)
    assert span.trace == theirs
    shape = [
        f"tekup-hub: server tools/call {tool}",
        "tekup-hub: client call filesystem",
        f"{GATE}: server POST",
        f"{GATE}: client ReverseProxy",
        f"tekup-filesystem: server tools/call {tool}",
        "tekup-filesystem: internal disk",
    ]
    world.settled(theirs, [BELOW * depth + line for depth, line in enumerate(shape)])


def test_a_caller_that_sends_the_header_has_one_trace_with_all_of_ours(world: World) -> None:
    tool, arguments, steps = TOOLS["a search"]
    theirs = secrets.token_hex(16)
    world.ask("tools/call", {"name": tool, "arguments": arguments}, traceparent=f"00-{theirs}-{'ab' * 8}-01")
    shape = [f"{GATE}: server POST", f"{GATE}: client ReverseProxy", f"tekup-search: server tools/call {tool}"]
    world.settled(theirs, [BELOW * depth + line for depth, line in enumerate(shape)] + below(steps, 3))


def test_a_span_says_who_by_class_what_and_how_it_ended_and_nothing_that_was_sent(world: World) -> None:
    tool, before = "search_grep", seen(world)
    world.ask("tools/call", {"name": tool, "arguments": {"pattern": "a secret of the caller", "path": "ROOT"}})
    span = server_span(world, tool, before)
    assert span.about == {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": tool,
        "tekup.class": "key",
        "tekup.era": "modern",
        "tekup.outcome": "ok",
    }
    assert span.resource == {
        "service.name": "tekup-search",
        "service.version": "1.0.0",
        "service.instance.id": SERVICES["search"],
    }
    everything = json.dumps([[one.name, one.about, one.said] for one in list(world.collector.spans)])
    assert "secret" not in everything
    assert Maker.keys["dev"] not in everything


def test_what_a_caller_puts_into_the_address_or_a_failure_into_its_text_is_in_no_span(world: World) -> None:
    answer = world.gate.call("/search/mcp?key=quitesecret", Maker.modern("tools/call", "search_grep"))
    assert answer.status >= 400
    before = seen(world)
    world.ask("tools/call", {"name": "filesystem_read_file", "arguments": {"path": "/quitesecret"}})
    span = server_span(world, "filesystem_read_file", before)
    assert (span.failed, span.about["tekup.outcome"], span.about["error.type"]) == (True, "tool_error", "tool_error")
    wait_until(lambda: world.collector.of(span.trace), "its trace", 30)
    everything = json.dumps([[one.name, one.about, one.said] for one in list(world.collector.spans)])
    assert "quitesecret" not in everything


def test_the_instances_own_warming_up_is_told_apart_and_its_probes_make_no_trace(world: World) -> None:
    names = {one.name for one in list(world.collector.spans) if one.about.get("tekup.probe") == "instance"}
    assert "tools/list" in names
    assert all(one.about["tekup.class"] == "none" for one in world.collector.named("server/discover") if not one.parent)
    assert not [one for one in list(world.collector.spans) if one.name == "rg" and not one.parent]
