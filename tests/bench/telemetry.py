"""What telemetry costs a service: off, with log lines, with traces of all calls too, and with a collector gone wrong.

Counting is never off; it is 2 µs of a call (docs/observability.md).
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.tools import ROOT, Figures, Row, Side, compare, process, ratio, spread
from tests.support.load import body, headers
from tests.support.ports import free_ports

TOOL = "filesystem_list_roots"
WORKERS = 16
SINK = ROOT / "tests" / "support" / "otlp_sink.py"
OFF = "off"


def telemetry(load: Path, folder: Path, seconds: int, rounds: int) -> list[Row]:
    """Calls per second of a service alone, runs of all sides in turn.

    Args:
        load: The load program.
        folder: Where logs go.
        seconds: Length of a run.
        rounds: Runs of each side.
    """
    sink, dead = _neighbours(), free_ports(1)[0]
    with contextlib.ExitStack() as stack, socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        stack.enter_context(
            process([sys.executable, SINK, str(sink)], f"http://127.0.0.1:{sink + 1}/", folder / "sink.log")
        )
        collectors = {
            OFF: ("", "warning"),
            "a line a call": ("", "info"),
            "everything: lines, traces of all calls": (f"http://127.0.0.1:{sink}", "info"),
            "everything, a collector that is dead": (f"http://127.0.0.1:{dead}", "info"),
            "everything, a collector that is mute": (f"http://127.0.0.1:{mute.getsockname()[1]}", "info"),
        }
        services = [stack.enter_context(_service(folder, name, *said)) for name, said in collectors.items()]
        before = [one.spent() for one in services]
        sides = [one.side for one in services]
        found = compare(load, sides, workers=WORKERS, seconds=seconds, rounds=rounds)
        each_ms = [one.each_ms(since) for one, since in zip(services, before, strict=True)]
    return [
        row
        for name, figures, cpu_ms in zip(collectors, found, each_ms, strict=True)
        if name != OFF
        for row in _rows(name, figures, found[0], (cpu_ms, each_ms[0]))
    ]


def _rows(name: str, found: Figures, off: Figures, cpu_ms: tuple[float, float]) -> list[Row]:
    shares = f"{ratio(found.per_second, off.per_second):.2f}x   {spread(found.per_second)} / {spread(off.per_second)}"
    medians = f"{statistics.median(found.p50_ms):.1f} / {statistics.median(off.p50_ms):.1f}"
    return [
        (f"telemetry: {name} / off, calls/s, {WORKERS} clients", shares),
        (f"telemetry: {name} / off, p50 ms", medians),
        (f"telemetry: {name} / off, CPU ms per call", f"{cpu_ms[0]:.3f} / {cpu_ms[1]:.3f}"),
    ]


@dataclass(frozen=True)
class _Service:
    """One that runs."""

    side: Side
    admin: str

    def spent(self) -> tuple[float, float]:
        """Seconds of processor so far, threads included, and calls."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=20) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
        cpu_s = sum(float(value) for name, _, value in lines if name == "process_cpu_seconds_total")
        return cpu_s, sum(float(value) for name, _, value in lines if name.startswith("tekup_tool_calls_total{"))

    def each_ms(self, since: tuple[float, float]) -> float:
        """Milliseconds of processor a call: steadier than calls per second on a machine with other work."""
        cpu_s, calls = self.spent()
        return 1000 * (cpu_s - since[0]) / max(1.0, calls - since[1])


@contextlib.contextmanager
def _service(folder: Path, name: str, url: str, level: str) -> Iterator[_Service]:
    port, admin = free_ports(2)
    env = {
        **os.environ,
        "MCP_STANDALONE": "true",
        "MCP_PORT": str(port),
        "MCP_ADMIN_PORT": str(admin),
        "MCP_CONSUL_URL": "",
        "MCP_FILESYSTEM_ROOTS": str(folder),
        "MCP_OTLP_URL": url,
        "MCP_LOG_LEVEL": level,
    }
    log = folder / f"{name.replace(' ', '-').replace(':', '').replace(',', '')}.log"
    with process(
        [sys.executable, "-m", "services.filesystem"], f"http://127.0.0.1:{admin}/ready", log, env, ready=True
    ):
        sent = headers("", "tools/call", TOOL) | {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}  # as a gate does
        side = Side(f"http://127.0.0.1:{port}/mcp", sent, body("tools/call", {"name": TOOL}))
        yield _Service(side, f"http://127.0.0.1:{admin}")


def _neighbours() -> int:
    """A free port whose next one is free as well."""
    while True:
        port = free_ports(1)[0]
        with contextlib.suppress(OSError), socket.socket() as beside:
            beside.bind(("127.0.0.1", port + 1))
            return port
