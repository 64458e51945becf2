"""What mutual TLS costs between gate and instance: HTTP/1.1 against HTTP/2 against none, in the same run.

Before it is Traefik with our transports and nothing else, behind it the kit's own listener, with a trivial application
and with a whole instance. All sides are loaded in turn.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from control_plane import peers
from tests.bench.tools import Row, Side, compare, process, ratio, spread, wait_until
from tests.support.consul_process import ConsulProcess
from tests.support.identities import CONNECT, Papers, allow, papers
from tests.support.load import body, headers
from tests.support.ports import free_ports

SERVICE = "filesystem"
TOOL = "filesystem_list_roots"
STATIC = """\
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
entryPoints: {{bench: {{address: "127.0.0.1:{port}"}}}}
providers: {{file: {{filename: {folder}/routes.yml}}}}
"""
SIDES = ("plain", "h1", "h2")


def upstream(load: Path, folder: Path, seconds: int, rounds: int) -> list[Row]:
    """All rows."""
    consul_folder = folder / "consul"
    consul_folder.mkdir()
    with ConsulProcess(consul_folder, connect=CONNECT) as consul:
        allow(consul, f"mcp-{SERVICE}", peers.GATE)
        gate, service = papers(consul, peers.GATE), papers(consul, f"mcp-{SERVICE}")
        return [
            *_trivial(load, folder, gate, service, (seconds, rounds)),
            *_whole(load, folder, gate, consul.url, (seconds, rounds)),
        ]


def _trivial(load: Path, folder: Path, gate: Papers, service: Papers, length: tuple[int, int]) -> list[Row]:
    for part, text in (("chain", service.chain), ("key", service.key), ("roots", service.roots)):
        (folder / f"{part}.pem").write_text(text)
    ports = dict(zip(SIDES, free_ports(3), strict=True))
    command = [sys.executable, "-m", "tests.bench.mtls_backend", folder, service.uri.split("/")[2], *ports.values()]
    sent, asked = headers("bench", "tools/call", TOOL), body("tools/call", {"name": TOOL})
    with process([str(part) for part in command], f"http://127.0.0.1:{ports['plain']}/", folder / "backend.log"):
        return _rows("trivial application", load, folder, gate, ports, Side("", sent, asked), length)


def _whole(load: Path, folder: Path, gate: Papers, consul: str, length: tuple[int, int]) -> list[Row]:
    key = secrets.token_bytes(32)
    (folder / "secrets.json").write_text(json.dumps({"service": SERVICE, "keys": [key.hex()]}))
    (folder / "secrets.json").chmod(0o600)
    plain, secure, *admin = free_ports(4)
    common = {
        "PATH": "/usr/bin:/bin",
        "MCP_SECRETS_FILE": str(folder / "secrets.json"),
        "MCP_FILESYSTEM_ROOTS": str(folder),
    }
    own: list[Mapping[str, str]] = [
        {"MCP_PORT": str(plain), "MCP_ADMIN_PORT": str(admin[0])},
        {"MCP_PORT": str(secure), "MCP_ADMIN_PORT": str(admin[1]), "MCP_MTLS": "on", "MCP_CONSUL_URL": consul},
    ]
    sent = {
        **headers("bench", "tools/call", TOOL),
        "X-Tekup-Gate": hmac.digest(key, b"gate", "sha256").hex(),
        "X-Tekup-Client": "~control-plane",
    }
    del sent["Authorization"]
    command = [sys.executable, "-m", f"services.{SERVICE}"]
    first, second = (
        process(command, f"http://127.0.0.1:{port}/ready", folder / "kit.log", {**common, **env}, ready=True)
        for port, env in zip(admin, own, strict=True)
    )
    with first, second:
        side = Side("", sent, body("tools/call", {"name": TOOL, "arguments": {}}))
        return _rows("whole instance", load, folder, gate, {"plain": plain, "h1": secure}, side, length)


def _rows(
    what: str, load: Path, folder: Path, gate: Papers, ports: Mapping[str, int], asked: Side, length: tuple[int, int]
) -> list[Row]:
    (port,) = free_ports(1)
    (folder / "traefik.yml").write_text(STATIC.format(port=port, folder=folder))
    (folder / "routes.yml").write_text(json.dumps(_routes(folder, gate, ports)))
    sides = [Side(f"http://127.0.0.1:{port}/{name}/mcp", asked.headers, asked.body) for name in ports]
    rows: list[Row] = []
    command = [str(Path(sys.executable).parent / "traefik"), f"--configFile={folder}/traefik.yml"]
    with process(command, sides[0].url, folder / "traefik.log"):
        for side in sides:
            wait_until(partial(_served, side), f"{side.url} served; see {folder}", 20)
        for workers in (16, 1):
            plain, *others = compare(load, sides, workers=workers, seconds=length[0], rounds=length[1])
            for name, one in zip(list(ports)[1:], others, strict=True):
                for unit, mine, theirs in (
                    ("calls/s", one.per_second, plain.per_second),
                    ("p50 ms", one.p50_ms, plain.p50_ms),
                ):
                    row = f"mTLS {name} / plain, {what}, {unit}, {workers} clients"
                    rows.append((row, f"{ratio(mine, theirs):.2f}x   {spread(mine)} / {spread(theirs)}"))
    return rows


def _served(side: Side) -> bool:
    return httpx.post(side.url, headers=side.headers, json=side.body, trust_env=False).is_success


def _routes(folder: Path, gate: Papers, ports: Mapping[str, int]) -> dict[str, Any]:
    """A router for each side; the transports are those of gates, but that one speaks HTTP/2."""
    leaf, roots = folder / "gate.pem", folder / "gate-roots.pem"
    leaf.write_text(gate.chain + gate.key)
    roots.write_text(gate.roots)
    made: Any = peers.identity(peers.Papers(gate.uri.rpartition("/svc/")[0], str(leaf), str(roots), 0), (SERVICE,))
    h1 = made["http"]["serversTransports"][peers.transport_of(SERVICE)]
    transports = {
        "plain": {name: h1[name] for name in ("maxIdleConnsPerHost", "forwardingTimeouts")},
        "h1": h1,
        "h2": {name: value for name, value in h1.items() if name != "disableHTTP2"},
    }
    rule = "PathPrefix(`/{}/`)"
    return {
        "http": {
            "middlewares": {"strip": {"replacePath": {"path": "/mcp"}}},
            "routers": {name: {"rule": rule.format(name), "service": name, "middlewares": ["strip"]} for name in ports},
            "services": {
                name: {
                    "loadBalancer": {
                        "serversTransport": name,
                        "servers": [{"url": f"http{'s' if name != 'plain' else ''}://127.0.0.1:{port}"}],
                    }
                }
                for name, port in ports.items()
            },
            "serversTransports": {name: transports[name] for name in ports},
        }
    }
