"""Other people's gateways, each set up as its makers say for the best it can do."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from compose.local.files import write_atomically
from tests.bench.gateways.gateway import WAIT_S, Gateway, children
from tests.bench.tools import process
from tests.support.ports import free_ports
from tests.support.programs import program

HERE = Path(__file__).parent


@contextmanager
def envoy(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    port, admin = free_ports(2)
    config, clusters = folder / "envoy.json", folder / "clusters.json"
    change = partial(_change_clusters, clusters, ports)
    change(0)
    config.write_text(json.dumps(_envoy_config(port, admin, clusters)))
    binary = Path(program("envoy")).parent / "site" / "envoy" / "_bin" / "envoy"
    command: list[str | Path] = [binary, "-c", config, "--concurrency", "2", "--log-level", "error",
                                 "--base-id", str(port)]  # fmt: skip
    with process(command, f"http://127.0.0.1:{admin}/ready", folder / "envoy.log", ready=True):
        yield Gateway(f"http://127.0.0.1:{port}/mcp", children(str(config)), spreads=True, on="health checks",
                      change=change)  # fmt: skip


def _at(number: int) -> dict[str, object]:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": number}}}


def _envoy_config(port: int, admin: int, clusters: Path) -> dict[str, object]:
    def kind(of: str) -> dict[str, str]:
        return {"@type": f"type.googleapis.com/envoy.extensions.filters.{of}"}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "bench"}}
    router = {"servers": [{"name": "bench", "mcp_cluster": {"cluster": "bench", "path": "/mcp"}}]}
    manager = {
        "stat_prefix": "mcp",
        "route_config": {
            "validate_clusters": False,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [
            {"name": "envoy.filters.http.mcp", "typed_config": kind("http.mcp.v3.Mcp")},
            {"name": "envoy.filters.http.mcp_router", "typed_config": kind("http.mcp_router.v3.McpRouter") | router},
        ],
    }
    http = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": kind("network.http_connection_manager.v3.HttpConnectionManager") | manager,
    }
    watched = {"path": str(clusters), "watched_directory": {"path": str(clusters.parent)}}
    found = {"cds_config": {"resource_api_version": "V3", "path_config_source": watched}}
    listener = _at(port) | {"filter_chains": [{"filters": [http]}]}
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "admin": _at(admin),
        "dynamic_resources": found,
        "static_resources": {"listeners": [listener]},
    }


def _change_clusters(file: Path, ports: Sequence[int], more: int) -> None:
    """To that of the servers and so many more, since Envoy 1.40 crashes when the cluster of its MCP router changes."""
    check = {"timeout": "4s", "interval": "1s", "no_traffic_interval": "1s",
             "unhealthy_threshold": 1, "healthy_threshold": 1, "http_health_check": {"path": "/ready"}}  # fmt: skip
    endpoints = [{"lb_endpoints": [{"endpoint": _at(one)} for one in ports]}]
    cluster = {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "connect_timeout": "1s",
        "type": "STATIC",
        "health_checks": [check],
    }
    named = [cluster | {"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}}
             for name in ("bench", *(f"more-{number}" for number in range(more)))]  # fmt: skip
    write_atomically(file, json.dumps({"version_info": str(more), "resources": named}))


@contextmanager
def fastmcp(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    (port,) = free_ports(1)
    script = str(HERE / "fastmcp_proxy.py")
    command = [program("fastmcp"), script, str(port), f"http://127.0.0.1:{ports[0]}/mcp"]
    with process(command, f"http://127.0.0.1:{port}/mcp", folder / "fastmcp.log"):
        yield Gateway(f"http://127.0.0.1:{port}/mcp", children(script))


@contextmanager
def contextforge(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
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
        (running,) = children("mcpgateway")
        maker = [python, "-m", "mcpgateway.utils.create_jwt_token", "--username", "admin@example.com", "--exp", "600",
                 "--secret", secret]  # fmt: skip
        key = _last_line(maker, env)
        with _api(url, key) as api:
            peer = {"name": "bench", "url": f"http://127.0.0.1:{ports[0]}/mcp", "transport": "STREAMABLEHTTP"}
            api.post("/gateways", json=peer).raise_for_status()
            yield Gateway(f"{url}/servers/{_virtual_server(api, 'all')}/mcp", [running], key=key, on="a JWT",
                          change=lambda number: _virtual_server(api, f"more-{number}"))  # fmt: skip


def _last_line(command: Sequence[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def _api(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=WAIT_S, trust_env=False)


def _virtual_server(api: httpx.Client, name: str) -> str:
    """Make a server of all tools it has; its id."""
    found = api.get("/tools", params={"limit": 0}).raise_for_status().json()
    server = {"name": name, "description": "bench", "associated_tools": [tool["id"] for tool in found]}
    return str(api.post("/servers", json={"server": server}).raise_for_status().json()["id"])


@contextmanager
def crate(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    """The proxy of Rust's registry that is called mcp-proxy, as two others elsewhere are."""
    (port,) = free_ports(1)
    config = folder / "proxy.toml"

    def write(backends: int) -> None:
        listens = f'[proxy]\nname = "bench"\nhot_reload = true\n[proxy.listen]\nhost = "127.0.0.1"\nport = {port}\n'
        names = ["bench", *(f"more{number}" for number in range(backends))]
        said = [f'[[backends]]\nname = "{name}"\ntransport = "http"\nurl = "http://127.0.0.1:{ports[0]}/mcp"\n'
                for name in names]  # fmt: skip
        write_atomically(config, "".join([listens, *said, '[observability]\nlog_level = "error"\n']))

    write(0)
    command = [program("mcp-proxy-crate"), "--config", str(config)]
    with process(command, f"http://127.0.0.1:{port}/admin/health", folder / "crate.log", ready=True):
        yield Gateway(f"http://127.0.0.1:{port}/", children(str(config)), change=write)


@contextmanager
def vmcp(folder: Path, ports: Sequence[int]) -> Iterator[Gateway]:
    """ToolHive's virtual server of MCP."""
    (port,) = free_ports(1)
    config = folder / "vmcp.json"
    backend = {"name": "bench", "url": f"http://127.0.0.1:{ports[0]}/mcp", "transport": "streamable-http"}
    config.write_text(json.dumps({
        "name": "bench",
        "groupRef": "bench",
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline", "default": {"type": "unauthenticated"}},
        "aggregation": {"conflictResolution": "prefix", "conflictResolutionConfig": {"prefixFormat": "{workload}_"}},
        "backends": [backend],
    }))  # fmt: skip
    command = [program("vmcp"), "serve", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with process(command, f"http://127.0.0.1:{port}/health", folder / "vmcp.log", ready=True):
        yield Gateway(f"http://127.0.0.1:{port}/mcp", children(str(config)))
