"""What keys, rights, limits and lanes cost a call: the gate as it serves a thousand clients, against two peers.

The bare router is a Traefik with nothing but a router and its access log. The carrier is a Traefik that carries as the
gate does (retries, what nobody answered said as JSON, failover, active and passive checks, the same log and metrics)
and decides nothing: what is missing to it is the policy's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.bench.environment import Environment
from tests.bench.tools import Row, Side, compare, process, ratio, spread
from tests.support.ports import free_ports

CLIENTS = 1_000
LIMITS = [
    {"name": "all", "per_s": 500_000, "burst": 500_000, "concurrent": 10_000},
    {"name": "bench", "tools": ["bench_*"], "per_s": 400_000, "burst": 400_000},
]


def furnish(env: Environment) -> str:
    """A thousand clients with rights and limits, calls split in two; the key of one of them."""
    key = many_clients(env)
    env.ask("PUT", "/v1/services/bench/traffic", {"weights_pct": {"2": 10}, "reason": "bench"})
    return key


def many_clients(env: Environment) -> str:
    """A thousand clients with rights and limits; the key of one of them."""
    resources: list[dict[str, object]] = [
        {"kind": "Client", "id": f"client-{number}", "allow": ["bench_*", "search_*"], "limits": LIMITS}
        for number in range(CLIENTS)
    ]
    env.ask("POST", "/v1/state/apply", {"resources": resources, "reason": "bench"})
    return str(env.ask("POST", f"/v1/clients/client-{CLIENTS // 2}/keys", {"reason": "bench"})["key"])


def against(load: Path, ours: Side, theirs: Side, what: str, seconds: int, rounds: int) -> list[Row]:
    """Throughput and median of one side against the other, with many callers and with one."""
    rows: list[Row] = []
    for workers in (16, 1):
        mine, peer = compare(load, [ours, theirs], workers=workers, seconds=seconds, rounds=rounds)
        for name, one, other in (("calls/s", mine.per_second, peer.per_second), ("p50 ms", mine.p50_ms, peer.p50_ms)):
            rows.append(
                (f"{what}, {name}, {workers} clients", f"{ratio(one, other):.2f}x   {spread(one)} / {spread(other)}")
            )
    return rows


@contextmanager
def carrier(env: Environment, backend: int) -> Iterator[str]:
    """A Traefik that carries as the gate does and decides nothing; its address."""
    entry, private = free_ports(2)
    folder = env.folder / "carrier"
    folder.mkdir()
    gate = env.folder / ".tekup" / "gate"
    static = yaml.safe_load((gate / "traefik.yml").read_text())
    for name in ("experimental", "providers", "entryPoints"):
        static.pop(name)
    static["entryPoints"] = {
        "carrier": {"address": f"127.0.0.1:{entry}"},
        "private": {"address": f"127.0.0.1:{private}"},
    }
    static["providers"] = {"file": {"filename": str(folder / "routes.yml")}}
    (folder / "traefik.yml").write_text(json.dumps(static))
    (folder / "routes.yml").write_text(json.dumps({"http": _carried(gate, backend)}))
    command: list[str | Path] = [Path(sys.executable).with_name("traefik"), f"--configFile={folder}/traefik.yml"]
    with process(command, f"http://127.0.0.1:{entry}/mcp", folder / "traefik.log"):
        yield f"http://127.0.0.1:{entry}/mcp"


def _carried(gate: Path, backend: int) -> dict[str, object]:
    """One target in the shape of traefik/README.md, without the plugin and what depends on it."""
    ours = yaml.safe_load((gate / "dynamic" / "gate.yml").read_text())["http"]
    servers = [{"url": f"http://127.0.0.1:{backend}"}]
    checked = {
        "servers": servers,
        "serversTransport": "instances",
        "healthCheck": {"path": "/ready", "interval": "1s", "unhealthyInterval": "1s", "timeout": "4s"},
        "passiveHealthCheck": {"maxFailedAttempts": 2, "failureWindow": "2s"},
    }
    middlewares = {name: ours["middlewares"][name] for name in ("retry", "lost", "edge", "edge-headers")}
    return {
        "middlewares": middlewares,
        "serversTransports": {"instances": ours["serversTransports"]["instances"]},
        "routers": {
            "bench": {
                "entryPoints": ["carrier"],
                "rule": "PathPrefix(`/`)",
                "middlewares": ["edge", "lost", "retry"],
                "service": "bench",
            }
        },
        "services": {
            "bench": {"failover": {"service": "bench.lb", "fallback": "bench.last"}},
            "bench.lb": {"loadBalancer": checked},
            "bench.last": {"loadBalancer": {"servers": servers, "serversTransport": "instances"}},
            "nobody": {"loadBalancer": {"servers": []}},
        },
    }
