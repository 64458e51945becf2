"""``make bench``: prints each figure beside its peer, and keeps them in ``bench-results/``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.analysis import analysis
from tests.bench.bare_router import bare_router
from tests.bench.bearers import bearers
from tests.bench.bridges import bridges
from tests.bench.browsing import browsing
from tests.bench.delivery import delivery
from tests.bench.environment import Environment, environment
from tests.bench.faults import others_p95
from tests.bench.filesystem import filesystem
from tests.bench.first_call import first_calls
from tests.bench.keys import keys
from tests.bench.mtls import upstream
from tests.bench.policy import CLIENTS, against, carrier, furnish
from tests.bench.real import before_services
from tests.bench.search_quality import quality
from tests.bench.search_speed import speed
from tests.bench.telemetry import telemetry
from tests.bench.tools import (
    Row,
    Side,
    build_load,
    compare,
    keep,
    percentile,
    process,
    ratio,
    shown,
    spread,
    wait_until,
)
from tests.support.load import body, headers
from tests.support.ports import free_ports

HERE = Path(__file__).parent
WAIT_S = 20.0
TOOL = {"name": "bench_echo", "arguments": {}}


def gate_against_peers(load: Path, env: Environment, key: str, backend: int, seconds: int, rounds: int) -> list[Row]:
    """The gate with policy on, against a Traefik with nothing but a router, and one that only carries as it does.

    Behind all three a backend that answers at once: what is seen is the gate's own work, not what a caller waits for.
    """
    sent, asked = headers(key, "tools/call", "bench_echo"), body("tools/call", dict(TOOL))
    ours = Side(f"{env.gateway}/bench/mcp", sent, asked)
    what = f"gate, {CLIENTS} clients with limits"
    with bare_router(env.folder / "bare", [backend]) as url:
        rows = against(load, ours, Side(url, sent, asked), f"{what} / bare router, nothing behind", seconds, rounds)
    with carrier(env, backend) as url:
        return rows + against(
            load, ours, Side(url, sent, asked), f"{what} / carrying without it, nothing behind", seconds, rounds
        )


def in_force(env: Environment, count: int) -> list[Row]:
    """Write to in force on every gate, for shifts and for revocations."""
    shifts, revocations = [], []
    for number in range(count):
        wish = {"weights_pct": {"2": 1 + number % 50}, "reason": "bench"}
        shifts.append(_ms(env.ask("PUT", "/v1/services/bench/traffic", wish)))
    for _ in range(count):
        made = env.ask("POST", "/v1/clients/dev/keys", {"reason": "bench"})
        revocations.append(_ms(env.ask("DELETE", f"/v1/keys/{made['id']}?reason=bench")))
    return [
        (
            f"{what} to in force, p50 / p95 ms of {count}",
            f"{percentile(times, 0.5):.0f} / {percentile(times, 0.95):.0f}",
        )
        for what, times in (("shift", shifts), ("revocation", revocations))
    ]


def _ms(answer: dict[str, object]) -> float:
    if not answer["in_force"]:
        raise RuntimeError(f"not in force: {answer}")
    return float(str(answer["in_force_ms"]))


def kit_against_bare_server(load: Path, folder: Path, seconds: int, rounds: int) -> list[Row]:
    """A kit service, stand-alone, against the bare SDK server on Hypercorn, both with a trivial tool."""
    kit, admin, bare = free_ports(3)
    env = {
        **os.environ,
        "MCP_STANDALONE": "true",
        "MCP_PORT": str(kit),
        "MCP_ADMIN_PORT": str(admin),
        "MCP_CONSUL_URL": "",
        "MCP_FILESYSTEM_ROOTS": str(folder),
        "MCP_LOG_LEVEL": "info",
    }
    sent, asked = (
        headers("", "tools/call", "filesystem_list_roots"),
        body("tools/call", {"name": "filesystem_list_roots"}),
    )
    sides = [Side(f"http://127.0.0.1:{port}/mcp", sent, asked) for port in (kit, bare)]
    with (
        process(
            [sys.executable, "-m", "services.filesystem"], f"http://127.0.0.1:{admin}/ready", folder / "kit.log", env
        ),
        process([sys.executable, HERE / "bare_server.py", str(bare)], sides[1].url, folder / "sdk.log"),
    ):
        ours, theirs = compare(load, sides, workers=16, seconds=seconds, rounds=rounds)
    return [
        ("kit service / bare SDK server, calls/s, 16 clients",
         f"{ratio(ours.per_second, theirs.per_second):.2f}x   {spread(ours.per_second)} / {spread(theirs.per_second)}"),
    ]  # fmt: skip


def starting(folder: Path, given: argparse.Namespace) -> list[Row]:
    """What a start costs the first caller."""
    return first_calls(folder, given.starts)


def faults(folder: Path, given: argparse.Namespace) -> list[Row]:
    """What one sick service costs the callers of others."""
    load = build_load(folder)
    with environment(folder) as env:
        return others_p95(load, env, given.seconds, given.rounds)


def kit(folder: Path, given: argparse.Namespace) -> list[Row]:
    """What the kit costs."""
    return kit_against_bare_server(build_load(folder), folder, given.seconds, given.rounds)


def gate(folder: Path, given: argparse.Namespace) -> list[Row]:
    """What the gate costs, and how soon a change is in force."""
    load = build_load(folder)
    first, second = free_ports(2)
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        for port in (first, second):
            stack.enter_context(
                process([load, "serve", f"127.0.0.1:{port}"], f"http://127.0.0.1:{port}/", folder / "serve.log")
            )
        env = stack.enter_context(environment(folder))
        env.introduce()
        env.register("aaaaaa", "1", first)
        wait_until(env.served, "the service to be served", WAIT_S)
        env.register("bbbbbb", "2", second)
        _until_known(env)
        rows += gate_against_peers(load, env, furnish(env), first, given.seconds, given.rounds)
        rows += in_force(env, given.changes)
    (folder / "real").mkdir()
    return rows + before_services(load, folder / "real", given.seconds, given.rounds)


def let_in(folder: Path, given: argparse.Namespace) -> list[Row]:
    """What bearers of an authorization server cost."""
    return bearers(build_load(folder), folder, given.seconds, given.rounds)


def judging(_: Path, given: argparse.Namespace) -> list[Row]:
    """How often the analysis rolls back a good canary, and how soon a broken one."""
    return analysis(given.rollouts)


def rolling_out(folder: Path, given: argparse.Namespace) -> list[Row]:
    """Shifts on two gates, and broken canaries on their way back."""
    return delivery(folder, given.changes)


def changing_keys(folder: Path, given: argparse.Namespace) -> list[Row]:
    """Key changes on two gates, with few clients and with many."""
    return keys(folder, given.changes)


def mtls(folder: Path, given: argparse.Namespace) -> list[Row]:
    """What mutual TLS costs between gate and instance, by HTTP/1.1 and by HTTP/2."""
    return upstream(build_load(folder), folder, given.seconds, given.rounds)


def observed(folder: Path, given: argparse.Namespace) -> list[Row]:
    """What telling of each call costs a service."""
    return telemetry(build_load(folder), folder, given.seconds, given.rounds)


def finding(folder: Path, _: argparse.Namespace) -> list[Row]:
    """How well ranked search finds what is asked for, against grep, plain BM25 and the peer."""
    return quality(folder)


def searching(folder: Path, given: argparse.Namespace) -> list[Row]:
    """How fast the search service is on large trees, against ripgrep."""
    return speed(folder, given.files)


def files(folder: Path, given: argparse.Namespace) -> list[Row]:
    """The filesystem service against the official npm server."""
    return filesystem(build_load(folder), folder, given.seconds, given.rounds)


def browser(folder: Path, given: argparse.Namespace) -> list[Row]:
    """The browser service against Playwright MCP."""
    return browsing(folder, given.pages)


def bridge(folder: Path, given: argparse.Namespace) -> list[Row]:
    """The bridge against those of npm and PyPI."""
    return bridges(build_load(folder), folder, given.seconds, given.rounds)


def _until_known(env: Environment) -> None:
    wait_until(lambda: "bbbbbb" in json.dumps(env.ask("GET", "/v1/services/bench")), "the second version", WAIT_S)


GROUPS: dict[str, Callable[[Path, argparse.Namespace], list[Row]]] = {
    "kit": kit,
    "gate": gate,
    "bearers": let_in,
    "starting": starting,
    "faults": faults,
    "delivery": rolling_out,
    "analysis": judging,
    "keys": changing_keys,
    "mtls": mtls,
    "telemetry": observed,
    "search-quality": finding,
    "search-speed": searching,
    "filesystem": files,
    "browser": browser,
    "bridge": bridge,
}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="length of one run (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side (default 5)")
    parser.add_argument("--changes", type=int, default=50, help="shifts and revocations (default 50)")
    parser.add_argument("--starts", type=int, default=20, help="starts of each service (default 20)")
    parser.add_argument("--pages", type=int, default=30, help="pages opened by each browser (default 30)")
    parser.add_argument("--rollouts", type=int, default=10_000, help="simulated good rollouts (default 10000)")
    parser.add_argument(
        "--files", type=int, nargs="+", default=[10_000, 50_000], help="sizes of trees to search (default 10000 50000)"
    )
    parser.add_argument("--only", choices=GROUPS, action="append", help="one group; may be given again (default: all)")
    given = parser.parse_args()
    rows: list[Row] = []
    for name in given.only or GROUPS:
        with tempfile.TemporaryDirectory(prefix="tekup-bench-") as folder:
            Path(folder).chmod(0o755)  # the browser runs as another user
            found = GROUPS[name](Path(folder), given)
        for what, figure in found:
            print(shown(f"{what}:  {figure}"), flush=True)
        rows += found
    print(f"kept in {keep('', dict(rows))}")


if __name__ == "__main__":
    main()
