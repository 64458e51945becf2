"""The bridge against other people's, before a server over stdio: one that answers at once, and one that takes a while.

Each in its best way to keep one server for its callers: ours as the gate asks it, npm's mcp-proxy the same (it speaks
2026-07-28 as well) and in sessions, PyPI's mcp-proxy and supergateway in sessions, of which each caller has his own.
"""

from __future__ import annotations

import os
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.tools import ROOT, Row, Side, load_once, many, process, spread
from tests.support.load import body, headers
from tests.support.ports import free_ports
from tests.support.programs import program

CHILD = ROOT / "tests" / "bench" / "stdio_child.py"
SLOW_S = 0.05
CHILDREN = {"a child that answers at once": 0.0, f"a child that takes {SLOW_S * 1000:.0f} ms": SLOW_S}
CLIENTS = (1, 16)
IN_SESSION = {
    "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-06-18", "Mcp-Session-Id": "each",
}  # fmt: skip
CALL: Mapping[str, object] = {
    "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "bench_echo", "arguments": {}},
}  # fmt: skip


def bridges(load: Path, folder: Path, seconds: int, rounds: int) -> list[Row]:
    """Time of a call and calls per second of each bridge, and ours over each other's."""
    rows: list[Row] = []
    for what, after_s in CHILDREN.items():
        with ExitStack() as held:
            sides = {name: held.enter_context(bridge(folder, after_s)) for name, bridge in BRIDGES.items()}
            for clients in CLIENTS:
                rows += _compared(load, f"{what}, {many(clients)}", sides, clients, seconds, rounds)
    return rows


def _compared(load: Path, what: str, sides: Mapping[str, Side], clients: int, seconds: int, rounds: int) -> list[Row]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            figures = load_once(load, side, clients, seconds if turn else 1)
            if turn:
                runs[name].append(figures)
    ours = [run["p50_ms"] for run in runs[OURS]]
    rows = []
    for name, found in runs.items():
        p50, p95, rate = ([run[figure] for run in found] for figure in ("p50_ms", "p95_ms", "per_second"))
        against = statistics.median(a / b for a, b in zip(ours, p50, strict=True))
        times = f"p50 {spread(p50)} ms, p95 {statistics.median(p95):.1f} ms, {statistics.median(rate):.0f} calls/s"
        rows.append((f"bridges, {what}: {name}", times + ("" if name == OURS else f"; ours {against:.2f}x its p50")))
    return rows


def _child(after_s: float) -> list[str]:
    return [sys.executable, "-S", "-E", str(CHILD), str(after_s)]


@contextmanager
def _ours(folder: Path, after_s: float) -> Iterator[Side]:
    port, admin = free_ports(2)
    declaration = folder / f"bench-{port}.toml"
    command = ", ".join(f'"{part}"' for part in _child(after_s))
    declaration.write_text(f'name = "bench"\ncommand = [{command}]\n')
    env = {
        **os.environ, "MCP_STANDALONE": "true", "MCP_PORT": str(port), "MCP_ADMIN_PORT": str(admin),
        "MCP_CONSUL_URL": "", "MCP_BRIDGE_FILE": str(declaration),
    }  # fmt: skip
    command_line = [sys.executable, "-m", "services.bridge"]
    with process(command_line, f"http://127.0.0.1:{admin}/ready", folder / f"ours-{port}.log", env, ready=True):
        yield _modern(port)


def _modern(port: int) -> Side:
    sent = headers("", "tools/call", "bench_echo") | {"Accept": "application/json, text/event-stream"}
    return Side(f"http://127.0.0.1:{port}/mcp", sent, body("tools/call", {"name": "bench_echo", "arguments": {}}))


def _in_session(port: int) -> Side:
    return Side(f"http://127.0.0.1:{port}/mcp", IN_SESSION, CALL)


@contextmanager
def _npm(folder: Path, after_s: float) -> Iterator[int]:
    (port,) = free_ports(1)
    options = ["--host", "127.0.0.1", "--port", str(port), "--server", "stream", "--no-eventStore"]
    command = [program("mcp-proxy"), *options, "--", *_child(after_s)]
    with process(command, f"http://127.0.0.1:{port}/ping", folder / f"npm-{port}.log"):
        yield port


@contextmanager
def _npm_modern(folder: Path, after_s: float) -> Iterator[Side]:
    with _npm(folder, after_s) as port:
        yield _modern(port)


@contextmanager
def _npm_sessions(folder: Path, after_s: float) -> Iterator[Side]:
    with _npm(folder, after_s) as port:
        yield _in_session(port)


@contextmanager
def _pypi(folder: Path, after_s: float) -> Iterator[Side]:
    (port,) = free_ports(1)
    python = program("mcp-proxy-python")
    command = [python, "-m", "mcp_proxy", "--host", "127.0.0.1", "--port", str(port), "--", *_child(after_s)]
    with process(command, f"http://127.0.0.1:{port}/status", folder / f"pypi-{port}.log"):
        yield _in_session(port)


@contextmanager
def _supergateway(folder: Path, after_s: float) -> Iterator[Side]:
    (port,) = free_ports(1)
    options = ["--outputTransport", "streamableHttp", "--stateful", "--sessionTimeout", "60000", "--logLevel", "none"]
    command = [program("supergateway"), "--stdio", shlex.join(_child(after_s)), *options, "--port", str(port),
               "--healthEndpoint", "/healthz"]  # fmt: skip
    with process(command, f"http://127.0.0.1:{port}/healthz", folder / f"supergateway-{port}.log"):
        yield _in_session(port)


OURS = "ours"
BRIDGES = {
    OURS: _ours,
    "npm mcp-proxy, 2026-07-28": _npm_modern,
    "npm mcp-proxy, sessions": _npm_sessions,
    "PyPI mcp-proxy": _pypi,
    "supergateway": _supergateway,
}
