"""Each gateway, started before the same servers, and how it is asked."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil

from compose.local.layout import Layout
from compose.local.link import Link
from tests.bench.bare_router import bare_router
from tests.bench.environment import Environment, environment
from tests.bench.policy import many_clients
from tests.bench.tools import Side, process, wait_until
from tests.support.load import META, body, headers
from tests.support.ports import free_ports
from tests.support.programs import program

TOOL = "bench_echo"
OLDER = "2025-06-18"
HERE = Path(__file__).parent
WAIT_S = 60.0


@dataclass(frozen=True)
class Gateway:
    """One that stands before the servers.

    Args:
        url: Its endpoint.
        processes: Those that carry a call, with all they have started; none for no gateway at all.
        beside: Those that must run too.
        key: What its callers show, "" for nothing.
        tool: What the echo is called there.
        modern: Whether it takes 2026-07-28.
        spreads: Whether it spreads calls over several servers.
        on: What it does besides carrying.
    """

    url: str
    processes: Sequence[psutil.Process] = ()
    beside: Sequence[psutil.Process] = ()
    key: str = ""
    tool: str = TOOL
    modern: bool = False
    spreads: bool = False
    on: str = "nothing besides"

    def side(self, method: str = "tools/call", *, modern: bool) -> Side:
        """How the load program asks it."""
        called: dict[str, object] = {"name": self.tool, "arguments": {}} if method == "tools/call" else {}
        if modern:
            return Side(self.url, self._by_call(method, self.tool if called else ""), body(method, called))
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": called}
        return Side(self.url, self.in_session() | {"Mcp-Session-Id": "each"}, asked)

    def _by_call(self, method: str, name: str) -> dict[str, str]:
        """The headers of a client of today."""
        sent = headers(self.key, method, name)
        return sent if self.key else {key: value for key, value in sent.items() if key != "Authorization"}

    def in_session(self) -> dict[str, str]:
        """The headers of an older client."""
        sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": OLDER}  # fmt: skip
        return sent | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    def begin(self, client: httpx.Client) -> dict[str, str]:
        """Begin a session as an older client; the headers of what is asked in it."""
        sent = self.in_session()
        about = {"protocolVersion": OLDER, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": about}
        begun = client.post(self.url, json=asked, headers=sent).raise_for_status()
        if identity := begun.headers.get("mcp-session-id"):
            sent["Mcp-Session-Id"] = identity
        client.post(self.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=sent)
        return sent

    def understood(self) -> Gateway:
        """The same, with what asking it once shows: what the echo is called, and whether the new era is spoken.

        Raises:
            RuntimeError: it does not list the echo.
        """
        with httpx.Client(timeout=WAIT_S, trust_env=False) as client:

            def ask(method: str, params: Mapping[str, object], sent: Mapping[str, str]) -> httpx.Response:
                asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                return client.post(self.url, json=asked, headers=dict(sent))

            listed = ask("tools/list", {}, self.begin(client)).text
            names = [one["name"] for one in _result(listed)["tools"] if one["name"].replace("-", "_").endswith(TOOL)]
            if not names:
                raise RuntimeError(f"{self.url} lists no {TOOL}: {listed[:500]}")
            params = {"name": names[0], "arguments": {}, "_meta": META}
            modern = ask("tools/call", params, self._by_call("tools/call", names[0]))
            return replace(self, tool=names[0], modern=modern.is_success and '"result"' in modern.text)


def _result(text: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, dict[str, list[dict[str, str]]]] = json.JSONDecoder().raw_decode(text[text.index("{") :])[0]
    return found["result"]


def _children(name: str) -> list[psutil.Process]:
    """Our own children of a name, which is part of their command line."""
    return [child for child in psutil.Process().children() if any(name in part for part in child.cmdline())]


Stands = Callable[[Path, Sequence[int]], AbstractContextManager[Gateway]]


@contextmanager
def _direct(_: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    yield Gateway(f"http://127.0.0.1:{ports[0]}/mcp")


@contextmanager
def _bare(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    with bare_router(folder / "bare", ports) as url:
        yield Gateway(url, _children(str(folder / "bare")), spreads=True, on="its access log")


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
                      on="1,000 clients' keys, rights and limits, retries, health checks, metrics, logs")  # fmt: skip


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


@contextmanager
def _envoy(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    port, admin = free_ports(2)
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, admin, ports)))
    binary = Path(program("envoy")).parent / "site" / "envoy" / "_bin" / "envoy"
    command: list[str | Path] = [binary, "-c", config, "--concurrency", "2", "--log-level", "error",
                                 "--base-id", str(port)]  # fmt: skip
    with process(command, f"http://127.0.0.1:{admin}/ready", folder / "envoy.log", ready=True):
        yield Gateway(f"http://127.0.0.1:{port}/mcp", _children(str(config)), spreads=True, on="health checks")


def _envoy_config(port: int, admin: int, ports: Sequence[int]) -> dict[str, object]:
    def at(number: int) -> dict[str, object]:
        return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": number}}}

    def kind(of: str) -> dict[str, str]:
        return {"@type": f"type.googleapis.com/envoy.extensions.filters.{of}"}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "bench"}}
    router = {"servers": [{"name": "bench", "mcp_cluster": {"cluster": "bench", "path": "/mcp"}}]}
    manager = {
        "stat_prefix": "mcp",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.mcp", "typed_config": kind("http.mcp.v3.Mcp")},
            {"name": "envoy.filters.http.mcp_router", "typed_config": kind("http.mcp_router.v3.McpRouter") | router},
        ],
    }
    http = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": kind("network.http_connection_manager.v3.HttpConnectionManager") | manager,
    }
    check = {"timeout": "4s", "interval": "1s", "no_traffic_interval": "1s",
             "unhealthy_threshold": 1, "healthy_threshold": 1, "http_health_check": {"path": "/ready"}}  # fmt: skip
    endpoints = [{"lb_endpoints": [{"endpoint": at(one)} for one in ports]}]
    cluster = {
        "name": "bench",
        "connect_timeout": "1s",
        "type": "STATIC",
        "health_checks": [check],
        "load_assignment": {"cluster_name": "bench", "endpoints": endpoints},
    }
    listener = at(port) | {"filter_chains": [{"filters": [http]}]}
    return {"admin": at(admin), "static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def _fastmcp(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    (port,) = free_ports(1)
    script = str(HERE / "fastmcp_proxy.py")
    command = [program("fastmcp"), script, str(port), f"http://127.0.0.1:{ports[0]}/mcp"]
    with process(command, f"http://127.0.0.1:{port}/mcp", folder / "fastmcp.log"):
        yield Gateway(f"http://127.0.0.1:{port}/mcp", _children(script))


@contextmanager
def _contextforge(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    (port,) = free_ports(1)
    home = folder / "contextforge"
    home.mkdir()
    secret = secrets.token_hex(24)
    env = {
        **os.environ, "JWT_SECRET_KEY": secret, "AUTH_ENCRYPTION_SECRET": secret, "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{home}/gateway.db", "CACHE_TYPE": "memory", "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true", "PLATFORM_ADMIN_EMAIL": "admin@example.com",
        "PLATFORM_ADMIN_PASSWORD": f"Aa1!{secret}", "DEFAULT_USER_PASSWORD": f"Bb2!{secret}",
        "BASIC_AUTH_PASSWORD": f"Cc3!{secret}", "RATE_LIMITING_ENABLED": "false", "TOOL_RATE_LIMIT": "1000000",
        "PLUGINS_ENABLED": "false", "LOG_LEVEL": "ERROR", "USE_STATEFUL_SESSIONS": "true",
    }  # fmt: skip
    python = program("contextforge")
    url = f"http://127.0.0.1:{port}"
    command = [python, "-m", "mcpgateway"]
    with process(command, f"{url}/health", folder / "contextforge.log", env, ready=True):
        (running,) = _children("mcpgateway")
        maker = [python, "-m", "mcpgateway.utils.create_jwt_token", "--username", "admin@example.com", "--exp", "600",
                 "--secret", secret]  # fmt: skip
        key = _last_line(maker, env)
        yield Gateway(f"{url}/servers/{_virtual_server(url, key, ports[0])}/mcp", [running], key=key, on="a JWT")


def _last_line(command: Sequence[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def _virtual_server(url: str, key: str, port: int) -> str:
    """Have it take the server in, and make one of its own of all tools."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=WAIT_S, trust_env=False) as api:
        peer = {"name": "bench", "url": f"http://127.0.0.1:{port}/mcp", "transport": "STREAMABLEHTTP"}
        api.post("/gateways", json=peer).raise_for_status()
        found = api.get("/tools", params={"limit": 0}).raise_for_status().json()
        server = {"name": "all", "description": "bench", "associated_tools": [tool["id"] for tool in found]}
        return str(api.post("/servers", json={"server": server}).raise_for_status().json()["id"])


OURS, BARE, DIRECT, CONTEXTFORGE = "TekUp MCP", "Traefik, nothing but a router", "no gateway", "ContextForge 1.0.7"
STANDS: Mapping[str, Stands] = {
    DIRECT: _direct,
    BARE: _bare,
    OURS: _ours,
    "Envoy 1.40, MCP router": _envoy,
    CONTEXTFORGE: _contextforge,
    "FastMCP 4.2 proxy": _fastmcp,
}


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
            found.append((port, _children(address)[0]))
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
