"""The gateways that are compared, started before the same servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from compose.local.layout import Layout
from compose.local.link import Link
from tests.bench.bare_router import bare_router, more_routes
from tests.bench.environment import Environment, environment
from tests.bench.gateways.gateway import WAIT_S, Gateway, Stands, children
from tests.bench.gateways.others import contextforge, crate, envoy, fastmcp, vmcp
from tests.bench.policy import many_clients
from tests.bench.tools import process, wait_until
from tests.support.ports import free_ports
from tests.support.programs import program


@contextmanager
def _direct(_: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    yield Gateway(f"http://127.0.0.1:{ports[0]}/mcp")


@contextmanager
def _bare(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    with bare_router(folder / "bare", ports) as url:
        yield Gateway(url, children(str(folder / "bare")), spreads=True, on="its access log",
                      change=lambda number: more_routes(folder / "bare", number))  # fmt: skip


@contextmanager
def _ours(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    with environment(folder) as env:
        env.introduce()
        for number, port in enumerate(ports):
            env.register(f"aaaaa{number:x}", "1", port)
        wait_until(env.served, "the service to be served", WAIT_S)
        wait_until(lambda: _serving(env) == len(ports), "every server to be served", WAIT_S)
        carries, beside = _own_processes(folder)
        yield Gateway(f"{env.gateway}/bench/mcp", carries, beside, many_clients(env), spreads=True,
                      on="1,000 clients' keys, rights and limits, retries, health checks, metrics, logs",
                      change=lambda number: _change(env, number, ports[0]))  # fmt: skip


def _change(env: Environment, number: int, port: int) -> None:
    """In turn one of the policy, and one of the instances, for which Traefik builds its routes anew."""
    if number % 2:
        limit = {"per_s": 500_000 + number, "burst": 500_000, "concurrent": 10_000, "reason": "bench"}
        env.ask("PUT", f"/v1/clients/client-{number}/limits/all", limit)
    else:
        env.register(f"bbbbb{number % 16:x}", "1", port)


def _serving(env: Environment) -> int:
    found = env.ask("GET", "/v1/services/bench")["instances"]
    return sum(one["state"] == "serving" for one in found) if isinstance(found, list) else 0


def _own_processes(folder: Path) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Those that carry a call of either era, and what the gate needs beside them; not the platform's services."""
    carries: list[psutil.Process] = []
    beside: list[psutil.Process] = []
    for one in Link(Layout(folder)).status().processes:
        if one.pid and one.group not in ("browser", "filesystem", "search"):
            carrying = one.name == "traefik" or one.group == "hub"
            (carries if carrying else beside).append(psutil.Process(one.pid))
    return carries, beside


OURS, BARE, DIRECT, CONTEXTFORGE = "TekUp MCP", "Traefik, nothing but a router", "no gateway", "ContextForge 1.0.7"
OTHERS: Mapping[str, tuple[str, Stands]] = {
    "Envoy 1.40, MCP router": ("envoy", envoy),
    CONTEXTFORGE: ("contextforge", contextforge),
    "FastMCP 4.2 proxy": ("fastmcp", fastmcp),
    "mcp-proxy 0.6 (Rust)": ("mcp-proxy-crate", crate),
    "ToolHive vMCP": ("vmcp", vmcp),
}
"""Other people's gateways, each with what `compose/local/programs.py` calls it."""
STANDS: Mapping[str, Stands] = {DIRECT: _direct, BARE: _bare, OURS: _ours} | {
    name: starts for name, (_, starts) in OTHERS.items()
}


def missing(names: Sequence[str]) -> dict[str, str]:
    """Those that cannot be had on this machine, and why."""
    found: dict[str, str] = {}
    for name in names:
        try:
            if name in OTHERS:
                program(OTHERS[name][0])
        except AssertionError as error:
            found[name] = " ".join(str(error).split())
    return found


@contextmanager
def servers(load: Path, count: int, tools: int, folder: Path) -> Iterator[list[tuple[int, psutil.Process]]]:
    """So many servers of MCP, each with so many tools: their ports and processes."""
    ports = free_ports(count)
    with ExitStack() as stack:
        found = []
        for port in ports:
            address = f"127.0.0.1:{port}"
            command: list[str | Path] = [load, "mcp", address, str(tools)]
            stack.enter_context(process(command, f"http://{address}/ready", folder / "servers.log", ready=True))
            found.append((port, children(address)[0]))
        yield found


@contextmanager
def standing(folder: Path, ports: Sequence[int], names: Sequence[str]) -> Iterator[dict[str, Gateway]]:
    """All gateways of these names at once, before the same servers."""
    with ExitStack() as stack:
        found: dict[str, Gateway] = {}
        for name in names:
            own = folder / name.replace(" ", "-").replace(",", "").lower()
            own.mkdir(parents=True)
            found[name] = stack.enter_context(STANDS[name](own, ports)).understood()
        yield found
