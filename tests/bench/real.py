"""What the gate costs a caller of a real service: the same gate and the same bare router, the SDK's echo behind both.

Against a backend that answers at once one sees what the gate itself takes (policy.py); this is what a user meets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.bare_router import bare_router
from tests.bench.environment import Environment, environment
from tests.bench.policy import furnish
from tests.bench.tools import Row, Side, compare, process, ratio, spread, wait_until
from tests.support.load import body, headers
from tests.support.ports import free_ports

INSTANCES = max(2, min(8, os.cpu_count() or 2))
"""One saturates long before the gate does."""
ECHO = Path(__file__).with_name("echo_server.py")
WAIT_S = 30.0


def before_services(load: Path, folder: Path, seconds: int, rounds: int) -> list[Row]:
    """The gate against a bare router, and one instance asked directly, in the same rounds."""
    rows: list[Row] = []
    with _echoes(folder) as ports, environment(folder) as env:
        key = _served(env, ports)
        sent, asked = headers(key, "tools/call", "bench_echo"), body("tools/call", {"name": "bench_echo"})
        with bare_router(folder / "bare-real", ports) as bare:
            urls = (f"{env.gateway}/bench/mcp", bare, f"http://127.0.0.1:{ports[0]}/mcp")
            sides = [Side(url, sent, asked) for url in urls]
            for workers in (16, 1):
                ours, theirs, direct = compare(load, sides, workers=workers, seconds=seconds, rounds=rounds)
                for what, one, other, alone in (
                    ("calls/s", ours.per_second, theirs.per_second, direct.per_second),
                    ("p50 ms", ours.p50_ms, theirs.p50_ms, direct.p50_ms),
                ):
                    name = f"gate / bare router, SDK echo behind, {what}, {workers} clients"
                    figures = f"{spread(one)} / {spread(other)}; one asked directly {spread(alone)}"
                    rows.append((name, f"{ratio(one, other):.2f}x   {figures}"))
    return rows


@contextmanager
def _echoes(folder: Path) -> Iterator[list[int]]:
    ports = free_ports(INSTANCES)
    with ExitStack() as stack:
        for port in ports:
            command: list[str | Path] = [sys.executable, ECHO, str(port)]
            stack.enter_context(
                process(command, f"http://127.0.0.1:{port}/ready", folder / f"echo-{port}.log", ready=True)
            )
        yield list(ports)


def _served(env: Environment, ports: list[int]) -> str:
    """Every instance stands for both versions, so that calls split in two still go to all of them alike."""
    env.introduce()
    for version in ("1", "2"):
        for number, port in enumerate(ports):
            env.register(f"{version}aaaa{number:x}", version, port)
        if version == "1":
            wait_until(env.served, "the service to be served", WAIT_S)
    wait_until(lambda: "2aaaa0" in str(env.ask("GET", "/v1/services/bench")), "the second version", WAIT_S)
    return furnish(env)
