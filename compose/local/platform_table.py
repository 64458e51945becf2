"""The process table of the real thing: which programs, with which variables, ready when, after whom."""

import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from .credentials import service_secrets
from .files import repository
from .layout import Layout
from .ports import HOST
from .programs import Found
from .settings import CONTROL_PLANE, SERVICES, Effective, named_ports, replica_ports
from .table import Process, Ready, Service, Table

GATE_ID = "local"
OWN_PORTS = ("consul-server", "consul-serf", "pages")
"""Ports nobody needs to know; always free ones, remembered like the others."""
KILL_MARGIN_S = 5.0
PROMETHEUS_PORT = "MCP_PROMETHEUS_PORT"
SCRAPE_S = 5


@dataclass(frozen=True)
class Parts:
    """All that decides what runs."""

    layout: Layout
    effective: Effective
    ports: Mapping[str, int]
    programs: Mapping[str, Found]

    def url(self, name: str) -> str:
        """The base URL of a named port."""
        return f"http://{self.address(name)}"

    def address(self, name: str) -> str:
        """Host and port of a named port."""
        return f"{HOST}:{self.ports[name]}"


def wanted_ports(effective: Effective) -> dict[str, int]:
    """All ports of the environment, 0 where any will do."""
    named = named_ports(effective.settings)
    further = (port for port in replica_ports(effective.settings).values() if port not in named)
    return {**named, **dict.fromkeys((*further, *OWN_PORTS), 0)}


def gate_values(parts: Parts) -> dict[str, str]:
    """Values for the templates of the gate."""
    return {
        "GATEWAY_ADDRESS": parts.address("MCP_GATEWAY_PORT"),
        "INTERNAL_ADDRESS": parts.address("MCP_INTERNAL_PORT"),
        "PRIVATE_ADDRESS": parts.address("MCP_PRIVATE_PORT"),
        "GATE_DIR": str(parts.layout.gate),
        "ALLOWED_HOSTS": "",
        "ALLOWED_ORIGINS": "",
        "MTLS": str(parts.effective.settings.mtls == "on").lower(),
    }


def platform_table(parts: Parts) -> Table:
    """The table of a full local environment."""
    replicas = (_control_plane(parts, *replica) for replica in replica_ports(parts.effective.settings).items())
    processes = (_consul(parts), *replicas, _traefik(parts), _agent(parts), _pages(parts))
    extras = tuple(_EXTRAS[name](parts) for name in parts.effective.settings.extras)
    return Table(processes=processes + extras, services=tuple(_service(parts, name) for name in SERVICES))


def _consul(parts: Parts) -> Process:
    flags = {
        "config-file": repository() / "consul" / "agent.json",
        "data-dir": parts.layout.consul,
        "http-port": parts.ports["MCP_CONSUL_PORT"],
        "server-port": parts.ports["consul-server"],
        "serf-lan-port": parts.ports["consul-serf"],
    }
    return Process(
        name="consul",
        group="consul",
        argv=(str(parts.programs["consul"].path), "agent", *(f"-{name}={value}" for name, value in flags.items())),
        # the leader's address, once there is one
        ready=Ready(url=f"{parts.url('MCP_CONSUL_PORT')}/v1/status/leader", contains=":"),
        stop_s=10,
        url=parts.url("MCP_CONSUL_PORT"),
    )


def _control_plane(parts: Parts, replica: str, port: str) -> Process:
    url = parts.url(port)
    return _python(
        parts,
        replica,
        "control_plane",
        {
            "MCP_HOST": HOST,
            "MCP_PORT": str(parts.ports[port]),
            "MCP_REPLICA": replica,
            "MCP_OPERATOR_TOKEN_FILE": str(parts.layout.operator_token),
            "MCP_SECRETS_FILE": str(service_secrets(parts.layout, CONTROL_PLANE)),
            "MCP_GATE_INTERNAL_URL": internal_url(parts),
            **_metrics_source(parts),
        },
        group=CONTROL_PLANE,
        # it leads, or knows who does
        ready=Ready(url=f"{url}/ready", contains='"led":true'),
        after=("consul",),
        url=url,
    )


def _metrics_source(parts: Parts) -> dict[str, str]:
    if "prometheus" not in parts.effective.settings.extras:
        return {}
    return {"MCP_PROMETHEUS_URL": parts.url(PROMETHEUS_PORT), "MCP_PROMETHEUS_SCRAPE_S": str(SCRAPE_S)}


def prometheus_values(parts: Parts) -> dict[str, str]:
    """Values for the template of Prometheus's configuration."""
    return {
        "CONSUL_ADDRESS": parts.address("MCP_CONSUL_PORT"),
        "CONTROL_PLANE_ADDRESS": parts.address("MCP_CONTROL_PLANE_PORT"),
        "SCRAPE_INTERVAL": f"{SCRAPE_S}s",
    }


def _prometheus(parts: Parts) -> Process:
    flags = {
        "config.file": parts.layout.prometheus / "prometheus.yml",
        "storage.tsdb.path": parts.layout.prometheus / "data",
        "storage.tsdb.retention.time": "6h",
        "storage.tsdb.retention.size": "500MB",
        "web.listen-address": parts.address(PROMETHEUS_PORT),
        "log.format": "json",
    }
    return Process(
        name="prometheus",
        group="prometheus",
        argv=(str(parts.programs["prometheus"].path), *(f"--{name}={value}" for name, value in flags.items())),
        ready=Ready(url=f"{parts.url(PROMETHEUS_PORT)}/-/ready"),
        after=("consul",),
        stop_s=10,
        url=parts.url(PROMETHEUS_PORT),
    )


_EXTRAS = {"prometheus": _prometheus}


def _traefik(parts: Parts) -> Process:
    return Process(
        name="traefik",
        group="gate",
        argv=(str(parts.programs["traefik"].path), "--configFile=traefik.yml"),
        # Each collection also walks the heap of the plugin's interpreter, which is large and lives on: collecting a
        # quarter as often took the gate from 0.78x to 0.89x of a bare router's throughput, for about 40 MB more.
        env={"GOGC": "400"},
        cwd=str(parts.layout.gate),
        # the plugin's own answer: a Traefik whose plugin did not load is not ready
        ready=Ready(url=f"{parts.url('MCP_PRIVATE_PORT')}/tekup/state"),
        after=("consul",),
        stop_s=15,
        url=parts.url("MCP_GATEWAY_PORT"),
    )


def _agent(parts: Parts) -> Process:
    return _python(
        parts,
        "agent",
        "control_plane.agent",
        {
            "MCP_GATE_DIR": str(parts.layout.gate),
            "MCP_GATE_ID": GATE_ID,
            "MCP_GATE_PRIVATE_URL": parts.url("MCP_PRIVATE_PORT"),
        },
        group="gate",
        ready=Ready(url=f"{parts.url('MCP_CONSUL_PORT')}/v1/kv/tekup/gates/{GATE_ID}"),
        after=("consul",),
    )


def _pages(parts: Parts) -> Process:
    argv = (sys.executable, "-m", "http.server", str(parts.ports["pages"]), "--bind", HOST,
            "--directory", str(parts.layout.pages))  # fmt: skip
    return Process(name="pages", group="pages", argv=argv, ready=Ready(url=parts.url("pages")), url=parts.url("pages"))


def _service(parts: Parts, name: str) -> Service:
    settings = parts.effective.settings
    version = package_version()
    pattern = _python(
        parts,
        name,
        f"services.{name}",
        {
            **parts.effective.for_service(name),
            **_own_settings(parts, name),
            "MCP_PORT": "{port}",
            "MCP_ADMIN_PORT": "0",
            "MCP_INSTANCE": "{instance}",
            "MCP_VERSION": "{version}",
            "MCP_SECRETS_FILE": str(service_secrets(parts.layout, name)),
            "MCP_DRILL_FILE": str(parts.layout.drills / f"{name}-{{version}}.json"),
            "MCP_DRAIN_QUIET_S": str(settings.drain_quiet_s),
            "MCP_DRAIN_DEADLINE_S": str(settings.drain_deadline_s),
        },
        # what counts is what the registry says of this very instance
        ready=Ready(url=f"{parts.url('MCP_CONSUL_PORT')}/v1/health/service/mcp-{name}?passing=true",
                    contains='"mcp-' + name + '-{instance}"'),
        after=("consul", "control-plane", "gate"),
        stop_s=settings.drain_deadline_s + KILL_MARGIN_S,
        url=f"http://{HOST}:{{port}}",
    )  # fmt: skip
    return Service(name=name, version=version, port=parts.ports[f"MCP_{name.upper()}_PORT"], pattern=pattern)


def _own_settings(parts: Parts, name: str) -> dict[str, str]:
    settings, workspace = parts.effective.settings, str(parts.layout.workspace)
    hosts = _joined(",", parts.address("pages"), settings.browser_allow_hosts)
    own: dict[str, dict[str, str]] = {
        "browser": {"MCP_BROWSER_EXECUTABLE": browser(parts), "MCP_BROWSER_ALLOW_HOSTS": hosts},
        "filesystem": {"MCP_FILESYSTEM_ROOTS": _joined(":", workspace, settings.filesystem_roots)},
        "search": {"MCP_SEARCH_ROOTS": _joined(":", workspace, settings.search_roots)},
        "hub": {"MCP_GATE_INTERNAL_URL": internal_url(parts)},
    }
    return own[name]


def internal_url(parts: Parts) -> str:
    """Where hub and control plane call the gate."""
    scheme = "https" if parts.effective.settings.mtls == "on" else "http"
    return f"{scheme}://{parts.address('MCP_INTERNAL_PORT')}"


def _joined(separator: str, *values: str) -> str:
    return separator.join(value for value in values if value)


def browser(parts: Parts) -> str:
    """The browser's executable: the one set, else the one found."""
    return parts.effective.settings.browser_executable or str(parts.programs["chromium"].path)


def _python(
    parts: Parts,
    name: str,
    module: str,
    env: dict[str, str],
    *,
    ready: Ready,
    after: tuple[str, ...],
    group: str = "",
    stop_s: float = 8.0,
    url: str = "",
) -> Process:
    common = {
        "MCP_ENV": parts.effective.settings.env,
        "MCP_LOG_LEVEL": parts.effective.settings.log_level,
        "MCP_CONSUL_URL": parts.url("MCP_CONSUL_PORT"),
        "MCP_MTLS": parts.effective.settings.mtls,
        "PYTHONUNBUFFERED": "1",
    }
    argv = (sys.executable, "-m", module)
    return Process(name=name, group=group or name, argv=argv, env=common | env, ready=ready, after=after,
                   stop_s=stop_s, url=url)  # fmt: skip


def package_version() -> str:
    """Our own version, which is the version of the first instance of each service."""
    try:
        return metadata.version("tekup-mcp")
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        project = tomllib.loads((repository() / "pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])
