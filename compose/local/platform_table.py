"""The process table of the real thing: which programs, with which variables, ready when, after whom."""

import sys
from collections.abc import Mapping
from pathlib import Path

from observability.telemetry.about import platform_version

from .bridged.declared import Declared, declared
from .consul_acl import GATE, GATE_ID, OPERATOR, service_role, token_file
from .consul_config import private_config
from .credentials import service_secrets
from .edge import edge_values, quoted
from .files import carried
from .layout import Layout
from .observability import (
    OAUTH,
    extra_processes,
    metrics_source,
    own_ports,
    receivers_source,
    shown_in_console,
    tracing_env,
    tracing_values,
)
from .operators_entry import operators_values
from .parts import Parts
from .ports import HOST, chosen_ports, remembered_ports
from .settings import CONTROL_PLANE, SERVICES, Effective, named_ports, replica_ports
from .table import LogBounds, Process, Ready, Service, Table

ACL = "consul-acl"
OWN_PORTS = ("consul-server", "consul-serf", "pages")
"""Ports nobody needs to know; always free ones, remembered like the others."""
KILL_MARGIN_S = 5.0


def wanted_ports(effective: Effective) -> dict[str, int]:
    """All ports of the environment, 0 where any will do."""
    named = named_ports(effective.settings)
    further = (port for port in replica_ports(effective.settings).values() if port not in named)
    oauth = (OAUTH,) if effective.settings.oauth_issuers_file else ()
    return {**named, **dict.fromkeys((*further, *OWN_PORTS, *own_ports(effective.settings), *oauth), 0)}


def gate_values(parts: Parts) -> dict[str, str]:
    """Values for the templates of the gate."""
    return {
        "GATEWAY_ADDRESS": parts.address("MCP_GATEWAY_PORT"),
        "INTERNAL_ADDRESS": parts.address("MCP_INTERNAL_PORT"),
        "PRIVATE_ADDRESS": parts.address("MCP_PRIVATE_PORT"),
        "GATE_DIR": str(parts.layout.gate),
        "ALLOWED_HOSTS": quoted(parts.effective.settings.gate_allowed_hosts.lower()),
        "ALLOWED_ORIGINS": quoted(parts.effective.settings.gate_allowed_origins),
        "POLICY_MAX_AGE_S": str(parts.effective.settings.gate_policy_max_age_s),
        **oauth_values(parts),
        **edge_values(parts.effective.settings),
        **operators_values(parts),
        "MTLS": str(parts.effective.settings.mtls == "on").lower(),
        **tracing_values(parts),
    }


def oauth_values(parts: Parts) -> dict[str, str]:
    """Values for what the templates of the gate say of OAuth; empty where only keys count."""
    settings = parts.effective.settings
    if not settings.oauth_issuers_file:
        return dict.fromkeys(("OAUTH_ADDRESS", "OAUTH_RESOURCE", "OAUTH_SCOPE"), "")
    return {
        "OAUTH_ADDRESS": parts.address(OAUTH),
        "OAUTH_RESOURCE": public_url(parts),
        "OAUTH_SCOPE": settings.oauth_scope,
    }


def public_url(parts: Parts) -> str:
    """The gate's base URL, as clients know it."""
    return parts.effective.settings.public_url.rstrip("/") or parts.url("MCP_GATEWAY_PORT")


def platform_table(parts: Parts) -> Table:
    """The table of a full local environment."""
    keeper = () if parts.effective.settings.tls == "off" else (_certificate(parts),)
    replicas = (_control_plane(parts, *replica) for replica in replica_ports(parts.effective.settings).items())
    processes = (_consul(parts), _consul_acl(parts), *replicas, _traefik(parts), _agent(parts), *keeper, _pages(parts))
    processes += (_backups(parts),) if parts.effective.settings.backup_every_h else ()
    extras = extra_processes(parts)
    extras += (_oauth(parts),) if parts.effective.settings.oauth_issuers_file else ()
    settings = parts.effective.settings
    return Table(
        processes=processes + extras,
        services=(
            *(_service(parts, name) for name in SERVICES),
            *(added_service(parts, one) for one in declared(parts.layout)),
        ),
        logs=LogBounds(largest_bytes=settings.log_file_bytes, kept=settings.log_files),
    )


def _consul(parts: Parts) -> Process:
    flags = {
        "data-dir": parts.layout.consul,
        "http-port": parts.ports["MCP_CONSUL_PORT"],
        "server-port": parts.ports["consul-server"],
        "serf-lan-port": parts.ports["consul-serf"],
    }
    files = (carried("consul", "agent.json"), private_config(parts.layout))
    arguments = (*(f"-config-file={path}" for path in files), *(f"-{name}={value}" for name, value in flags.items()))
    return Process(
        name="consul",
        group="consul",
        argv=(str(parts.programs["consul"].path), "agent", *arguments),
        # the leader's address, once there is one
        ready=Ready(url=f"{parts.url('MCP_CONSUL_PORT')}/v1/status/leader", contains=":"),
        stop_s=10,
        url=parts.url("MCP_CONSUL_PORT"),
    )


def _consul_acl(parts: Parts) -> Process:
    url = parts.url("MCP_CONSUL_PORT")
    return Process(
        name=ACL,
        group=ACL,
        argv=(sys.executable, "-m", "compose.local.consul_acl", str(parts.layout.directory), url),
        env={"PYTHONUNBUFFERED": "1"},
        # the operator's token is introduced last
        ready=_asking(parts, "/v1/acl/token/self"),
        after=("consul",),
    )


def _asking(parts: Parts, path: str, contains: str = "") -> Ready:
    """A condition that Consul is asked about, as an operator."""
    token = str(token_file(parts.layout, OPERATOR))
    return Ready(url=f"{parts.url('MCP_CONSUL_PORT')}{path}", contains=contains, token_file=token)


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
            "MCP_CONSUL_TOKEN_FILE": str(token_file(parts.layout, CONTROL_PLANE)),
            "MCP_OPERATOR_TOKEN_FILE": str(parts.layout.operator_token),
            "MCP_SECRETS_FILE": str(service_secrets(parts.layout, CONTROL_PLANE)),
            "MCP_GATE_INTERNAL_URL": internal_url(parts),
            **metrics_source(parts),
            **receivers_source(parts),
            **shown_in_console(parts),
            "MCP_API_KEY_ENCRYPTION": str(parts.effective.settings.api_key_encryption).lower(),
            **_sealing_keys(parts),
            **_region(parts),
            **_git_mirror(parts, replica),
        },
        group=CONTROL_PLANE,
        # it leads, or knows who does
        ready=Ready(url=f"{url}/ready", contains='"led":true'),
        after=(ACL,),
        url=url,
    )


def _git_mirror(parts: Parts, replica: str) -> dict[str, str]:
    """Where a replica keeps its git repository while it leads; each its own, for another may write to its at once."""
    settings = parts.effective.settings
    if not settings.git_mirror:
        return {}
    return {
        "MCP_GIT_MIRROR": str(Path(settings.git_mirror).absolute() / replica),
        "MCP_GIT_REMOTE": settings.git_remote,
    }


def _region(parts: Parts) -> dict[str, str]:
    """What proves this region to another; the file may come later, or never."""
    settings = parts.effective.settings
    ca = {"MCP_REGION_CA_FILE": str(Path(settings.region_ca_file).absolute())} if settings.region_ca_file else {}
    file = Path(settings.region_secret_file).absolute() if settings.region_secret_file else parts.layout.region_secret
    return {"MCP_REGION_SECRET_FILE": str(file), **ca}


def _sealing_keys(parts: Parts) -> dict[str, str]:
    """Where the keys lie that seal hashes of API keys; switched off, what was sealed before still has to be opened."""
    settings, made = parts.effective.settings, parts.layout.sealing_keys
    file = settings.api_key_encryption_key_file
    if not file and not settings.api_key_encryption and not made.exists():
        return {}
    return {"MCP_API_KEY_ENCRYPTION_KEY_FILE": file or str(made)}


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
            **_sealing_keys(parts),
            "MCP_CONSUL_TOKEN_FILE": str(token_file(parts.layout, GATE)),
        },
        group="gate",
        ready=_asking(parts, f"/v1/kv/tekup/gates/{GATE_ID}"),
        after=(ACL,),
    )


def _oauth(parts: Parts) -> Process:
    settings = parts.effective.settings
    return _python(
        parts,
        OAUTH,
        "control_plane.oauth",
        {
            "MCP_PORT": str(parts.ports[OAUTH]),
            "MCP_GATE_DIR": str(parts.layout.gate),
            "MCP_PUBLIC_URL": public_url(parts),
            "MCP_OAUTH_ISSUERS_FILE": settings.oauth_issuers_file,
            "MCP_OAUTH_SCOPE": settings.oauth_scope,
        },
        group="gate",
        ready=Ready(url=f"{parts.url(OAUTH)}/ready"),
        after=(),
        url=parts.url(OAUTH),
    )


def _certificate(parts: Parts) -> Process:
    settings = parts.effective.settings
    local = ("--authority", str(parts.layout.authority))
    files = ("--certificate", settings.tls_cert_file, "--key", settings.tls_key_file)
    argv = (sys.executable, "-m", "compose.local.keep_certificate", str(parts.layout.gate),
            *(local if settings.tls == "local" else files))  # fmt: skip
    return Process(name="certificate", group="certificate", argv=argv)


def _backups(parts: Parts) -> Process:
    argv = (sys.executable, "-m", "compose.backup.schedule", str(parts.layout.directory))
    keys = ("MCP_BACKUP_FOLDER", "MCP_BACKUP_KEY_FILE", "MCP_BACKUP_EVERY_H", "MCP_BACKUP_KEEP_DAILY",
            "MCP_BACKUP_KEEP_WEEKLY", "MCP_BACKUP_HOLD_S")  # fmt: skip
    said = parts.effective.settings.model_dump(mode="json", by_alias=True)
    env = {name: str(said[name]) for name in keys if said[name] != ""}
    return Process(name="backup", group="backup", argv=argv, env=env, after=(CONTROL_PLANE,))


def _pages(parts: Parts) -> Process:
    argv = (sys.executable, "-m", "http.server", str(parts.ports["pages"]), "--bind", HOST,
            "--directory", str(parts.layout.pages))  # fmt: skip
    return Process(name="pages", group="pages", argv=argv, ready=Ready(url=parts.url("pages")), url=parts.url("pages"))


def _service(parts: Parts, name: str) -> Service:
    own = {**parts.effective.for_service(name), **_own_settings(parts, name)}
    pattern = _instances(parts, name, f"services.{name}", own)
    port = parts.ports[f"MCP_{name.upper()}_PORT"]
    return Service(name=name, version=package_version(), port=port, pattern=pattern)


def added_service(parts: Parts, one: Declared) -> Service:
    """A service that was added: one of the operator's own, or the bridge that stands for somebody else's server."""
    if one.module:
        own = {**parts.effective.for_service(one.name), "PYTHONPATH": one.folder}
        pattern = _instances(parts, one.name, one.module, own)
    else:
        # what it is told is in a file: that another is in it now has to be seen from the table
        own = {"MCP_BRIDGE_FILE": str(one.path), "TEKUP_DECLARED": one.digest}
        pattern = _instances(parts, one.name, "services.bridge", own)
    ready = pattern.ready and pattern.ready.model_copy(update={"why": f"http://{HOST}:{{port}}/ready"})
    return Service(
        name=one.name,
        version=one.version or package_version(),
        port=bridge_port(parts.layout, one),
        pattern=pattern.model_copy(update={"ready": ready}),
    )


def bridge_port(layout: Layout, one: Declared) -> int:
    """The port of its first instance: one of those that nobody has to know, and remembered like them."""
    wanted = dict.fromkeys((*remembered_ports(layout.ports), one.port_name), 0)
    return chosen_ports(wanted, layout.ports)[one.port_name]


def _instances(parts: Parts, name: str, module: str, own: Mapping[str, str]) -> Process:
    settings = parts.effective.settings
    return _python(
        parts,
        name,
        module,
        {
            **own,
            "MCP_PORT": "{port}",
            "MCP_ADMIN_PORT": "0",
            "MCP_INSTANCE": "{instance}",
            "MCP_VERSION": "{version}",
            "MCP_SECRETS_FILE": str(service_secrets(parts.layout, name)),
            "MCP_CONSUL_TOKEN_FILE": str(token_file(parts.layout, service_role(name).name)),
            "MCP_DRILL_FILE": str(parts.layout.drills / f"{name}-{{version}}.json"),
            "MCP_DRAIN_QUIET_S": str(settings.drain_quiet_s),
            "MCP_DRAIN_DEADLINE_S": str(settings.drain_deadline_s),
        },
        # what counts is what the registry says of this very instance
        ready=_asking(parts, f"/v1/health/service/mcp-{name}?passing=true", '"mcp-' + name + '-{instance}"'),
        after=(ACL, "control-plane", "gate"),
        stop_s=settings.drain_deadline_s + KILL_MARGIN_S,
        failing_s=settings.restart_failing_s,
        url=f"http://{HOST}:{{port}}",
    )  # fmt: skip


def _own_settings(parts: Parts, name: str) -> dict[str, str]:
    settings, workspace = parts.effective.settings, str(parts.layout.workspace)
    hosts = _joined(",", parts.address("pages"), settings.browser_allow_hosts)
    own: dict[str, dict[str, str]] = {
        "browser": {"MCP_BROWSER_EXECUTABLE": browser(parts), "MCP_BROWSER_ALLOW_HOSTS": hosts},
        "filesystem": {"MCP_FILESYSTEM_ROOTS": _joined(":", workspace, settings.filesystem_roots)},
        "search": {
            "MCP_SEARCH_ROOTS": _joined(":", workspace, settings.search_roots),
            "MCP_SEARCH_INDEX_FOLDER": str(parts.layout.state / "search-index"),
        },
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
    failing_s: float = 0,
    url: str = "",
) -> Process:
    common = {
        "MCP_ENV": parts.effective.settings.env,
        "MCP_LOG_LEVEL": parts.effective.settings.log_level,
        "MCP_LOG_LEVEL_FILE": str(parts.layout.levels / "{name}"),
        "MCP_CONSUL_URL": parts.url("MCP_CONSUL_PORT"),
        "MCP_MTLS": parts.effective.settings.mtls,
        "PYTHONUNBUFFERED": "1",
        **tracing_env(parts),
    }
    argv = (sys.executable, "-m", module)
    return Process(name=name, group=group or name, argv=argv, env=common | env, ready=ready, after=after,
                   stop_s=stop_s, failing_s=failing_s, url=url)  # fmt: skip


def package_version() -> str:
    """Our own version, which is the version of the first instance of each service."""
    return platform_version()
