"""The programs for who is on call, as processes of the local environment, and what others are told of them.

Metrics are fetched by Prometheus, which finds what it can in Consul's catalog; traces and log lines go through the
collector. Nothing here is needed to serve calls, so nothing else waits for it.
"""

import sys
from collections.abc import Callable, Iterable, Mapping

from .alerting import (
    ALERTMANAGER_PORT,
    OPERATORS,
    alertmanager,
    alertmanager_values,
    begin_receivers,
    keeper_of_receivers,
    lay_out_rules,
    rules_folder,
)
from .consul_acl import PROMETHEUS, token_file
from .files import repository, write_atomically
from .gate_folder import rendered
from .observability_settings import age_s
from .on_call import on_call_program
from .parts import Parts
from .settings import Settings, replica_ports
from .table import Process
from .tracing import gate_tracing

PROMETHEUS_PORT = "MCP_PROMETHEUS_PORT"
LOKI_PORT = "MCP_LOKI_PORT"
JAEGER_PORT = "MCP_JAEGER_PORT"
COLLECTOR_PORT = "MCP_COLLECTOR_PORT"
OAUTH = "oauth"
SCRAPE_S = 5
DATACENTER = "local"
"""`datacenter` in `consul/agent.json`."""
OWN_PORTS = {
    "loki": ("loki-grpc",),
    "jaeger": ("jaeger-otlp", "jaeger-admin", "jaeger-grpc"),
    "collector": ("collector-metrics", "collector-health"),
}
"""Ports of these programs that nobody needs to know."""
MEMORY = {"loki": "512MiB", "jaeger": "384MiB", "collector": "256MiB"}
"""From where on Go's collector of garbage works harder."""


def own_ports(settings: Settings) -> Iterable[str]:
    """Names of the further ports of what is asked for."""
    return (port for name in settings.extras for port in OWN_PORTS.get(name, ()))


def extra_processes(parts: Parts) -> tuple[Process, ...]:
    """What is asked for besides."""
    asked = parts.effective.settings.extras
    keeper = (_rule_keeper(parts),) if {"prometheus", "alertmanager"} & set(asked) else ()
    return (*(PROCESSES[name](parts) for name in asked), *keeper)


def lay_out_extras(parts: Parts) -> None:
    """Write the configuration of what is asked for besides.

    Raises:
        StepFailed: a template wants a value we do not have.
    """
    for name in parts.effective.settings.extras:
        folder = parts.layout.folder_of(name)
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in configuration(parts, name).items():
            write_atomically(folder / file, text)
        if name == "alertmanager":
            begin_receivers(folder)
    if "prometheus" in parts.effective.settings.extras:
        lay_out_rules(parts, SCRAPE_S)


def configuration(parts: Parts, name: str) -> dict[str, str]:
    """The configuration of one of them, by file name.

    Raises:
        StepFailed: a template wants a value we do not have.
    """
    folder = repository() / "observability" / name
    return {
        template.removesuffix(".tmpl"): rendered(folder / template, values(parts))
        for template, values in VALUES[name].items()
    }


def metrics_source(parts: Parts) -> dict[str, str]:
    """What the control plane is told of Prometheus."""
    if "prometheus" not in parts.effective.settings.extras:
        return {}
    tool, silences = parts.programs.get("promtool"), "alertmanager" in parts.effective.settings.extras
    return {
        "MCP_PROMETHEUS_URL": parts.url(PROMETHEUS_PORT),
        "MCP_PROMETHEUS_SCRAPE_S": str(SCRAPE_S),
        **({"MCP_PROMTOOL": str(tool.path)} if tool else {}),
        **({"MCP_ALERTMANAGER_URL": parts.url(ALERTMANAGER_PORT)} if silences else {}),
    }


def receivers_source(parts: Parts) -> dict[str, str]:
    """What the control plane is told of receivers."""
    tool = parts.programs.get("amtool")
    return {"MCP_AMTOOL": str(tool.path)} if tool else {}


def shown_in_console(parts: Parts) -> dict[str, str]:
    """Where the console looks for alerts, and leads on to."""
    asked = [name for name in ("alertmanager", "jaeger") if name in parts.effective.settings.extras]
    return {f"MCP_{name.upper()}_URL": parts.url(f"MCP_{name.upper()}_PORT") for name in asked}


def tracing_env(parts: Parts) -> dict[str, str]:
    """What every process of ours is told of traces; nothing where there is no collector."""
    settings = parts.effective.settings
    if "collector" not in settings.extras:
        return {}
    return {"MCP_OTLP_URL": parts.url(COLLECTOR_PORT), "MCP_TRACE_SAMPLE": str(settings.trace_sample)}


def tracing_values(parts: Parts) -> dict[str, str]:
    """What Traefik's template is told of traces: `TRACING`, a block of YAML, or nothing."""
    settings = parts.effective.settings
    asked = "collector" in settings.extras
    return {"TRACING": gate_tracing(parts.url(COLLECTOR_PORT), settings.trace_sample) if asked else ""}


def where(parts: Parts) -> dict[str, str]:
    """The URL of each program that is asked for, for people and `--json`."""
    return {name: parts.url(f"MCP_{name.upper()}_PORT") for name in parts.effective.settings.extras}


def prometheus_values(parts: Parts) -> dict[str, str]:
    """Values for the template of Prometheus's configuration."""
    settings = parts.effective.settings
    asked, servers = settings.extras, parts.consul_servers()
    replicas = ", ".join(
        f'{{targets: ["{parts.address(port)}"], labels: {{replica: "{name}"}}}}'
        for name, port in replica_ports(settings).items()
    )
    ports = {
        "PROMETHEUS": PROMETHEUS_PORT,
        "ALERTMANAGER": ALERTMANAGER_PORT if "alertmanager" in asked else "",
        "LOKI": LOKI_PORT if "loki" in asked else "",
        "JAEGER": "jaeger-admin" if "jaeger" in asked else "",
        "COLLECTOR": "collector-metrics" if "collector" in asked else "",
        "OAUTH": OAUTH if settings.oauth_issuers_file else "",
    }
    return {
        "CONSUL_ADDRESS": parts.address("MCP_CONSUL_PORT"),
        "CONSUL_SCHEME": servers.scheme,
        "CONSUL_CA_FILE": servers.ca_file,
        "CONSUL_TARGETS": ", ".join(f'"{address}"' for address in servers.addresses),
        "USAGE_TARGETS": f'"{parts.usage()}"' if parts.usage() else "",
        "CONSUL_DATACENTER": DATACENTER,
        "CONSUL_TOKEN_FILE": str(parts.token_of(PROMETHEUS)),
        "CONTROL_PLANE_TARGETS": replicas,
        **{f"{name}_TARGETS": f'"{parts.address(port)}"' if port else "" for name, port in ports.items()},
        "RULES_DIR": str(parts.files_of("prometheus") / "rules"),
        "SCRAPE_INTERVAL": f"{SCRAPE_S}s",
    }


def loki_values(parts: Parts) -> dict[str, str]:
    """Values for the template of Loki's configuration."""
    return {
        "HTTP_HOST": parts.listening(LOKI_PORT).rpartition(":")[0],
        "HTTP_PORT": str(parts.ports[LOKI_PORT]),
        "GRPC_PORT": str(parts.ports["loki-grpc"]),
        "DATA_DIR": str(parts.data_of("loki")),
        "RETENTION": parts.effective.settings.loki_retention,
    }


def jaeger_values(parts: Parts) -> dict[str, str]:
    """Values for the template of Jaeger's configuration."""
    return {
        "API_ADDRESS": parts.listening(JAEGER_PORT),
        "OTLP_ADDRESS": parts.listening("jaeger-otlp"),
        "ADMIN_ADDRESS": parts.listening("jaeger-admin"),
        "GRPC_ADDRESS": parts.listening("jaeger-grpc"),
        "DATA_DIR": str(parts.data_of("jaeger")),
        "RETENTION": f"{age_s(parts.effective.settings.jaeger_retention)}s",
    }


def collector_values(parts: Parts) -> dict[str, str]:
    """Values for the template of the collector's configuration; what does not run is sent nothing."""
    asked = parts.effective.settings.extras
    return {
        "OTLP_ADDRESS": parts.listening(COLLECTOR_PORT),
        "METRICS_HOST": parts.listening("collector-metrics").rpartition(":")[0],
        "METRICS_PORT": str(parts.ports["collector-metrics"]),
        "HEALTH_ADDRESS": parts.listening("collector-health"),
        "STATE_DIR": str(parts.data_of("collector")),
        **parts.log_source().values(),
        "LOKI_URL": parts.url(LOKI_PORT) if "loki" in asked else NOBODY,
        "JAEGER_ADDRESS": parts.address("jaeger-otlp") if "jaeger" in asked else NOBODY.removeprefix("http://"),
    }


NOBODY = "http://127.0.0.1:9"
"""The port of `discard`: nobody listens there, so what is sent is dropped in the end."""


def _prometheus(parts: Parts) -> Process:
    settings, folder = parts.effective.settings, parts.layout.prometheus
    flags = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "storage.tsdb.retention.time": settings.prometheus_retention,
        "storage.tsdb.retention.size": f"{settings.prometheus_bytes}B",
        "web.listen-address": parts.address(PROMETHEUS_PORT),
        "enable-feature": "exemplar-storage,auto-reload-config",
        "config.auto-reload-interval": "2s",
        "log.format": "json",
    }
    return on_call_program(
        parts,
        "prometheus",
        *(f"--{name}={value}" for name, value in flags.items()),
        port=PROMETHEUS_PORT,
        ready=f"{parts.url(PROMETHEUS_PORT)}/-/ready",
        after=("consul-acl",),
    )


def _rule_keeper(parts: Parts) -> Process:
    """Beside Prometheus and Alertmanager: writes rules and receivers of operators where they read them."""
    asked = parts.effective.settings.extras
    rules = {"MCP_RULES_DIR": str(rules_folder(parts) / OPERATORS)} if "prometheus" in asked else {}
    return Process(
        name="rule-keeper",
        group="rule-keeper",
        argv=(sys.executable, "-m", "control_plane.rule_keeper"),
        env={
            "MCP_CONSUL_URL": parts.url("MCP_CONSUL_PORT"),
            "MCP_CONSUL_TOKEN_FILE": str(token_file(parts.layout, PROMETHEUS)),
            **rules,
            **(keeper_of_receivers(parts) if "alertmanager" in asked else {}),
            "PYTHONUNBUFFERED": "1",
        },
        after=("consul-acl",),
    )


def _loki(parts: Parts) -> Process:
    return on_call_program(
        parts,
        "loki",
        f"-config.file={parts.layout.folder_of('loki')}/loki.yml",
        port=LOKI_PORT,
        ready=f"{parts.url(LOKI_PORT)}/ready",
        env={"GOMEMLIMIT": MEMORY["loki"]},
        stop_s=15,
    )


def _jaeger(parts: Parts) -> Process:
    return on_call_program(
        parts,
        "jaeger",
        f"--config-file={parts.layout.folder_of('jaeger')}/jaeger.yml",
        port=JAEGER_PORT,
        ready=parts.url("jaeger-admin"),
        # Its own spans would go to localhost:4317, whoever listens there.
        env={"SPAN_STORAGE_TYPE": "badger", "OTEL_TRACES_SAMPLER": "always_off", "GOMEMLIMIT": MEMORY["jaeger"]},
    )


def _collector(parts: Parts) -> Process:
    asked = parts.effective.settings.extras
    return on_call_program(
        parts,
        "collector",
        f"--config={parts.layout.folder_of('collector')}/collector.yml",
        port=COLLECTOR_PORT,
        ready=parts.url("collector-health"),
        # so that it is stopped before those it sends to
        after=tuple(name for name in ("loki", "jaeger") if name in asked),
        env={"GOMEMLIMIT": MEMORY["collector"]},
        stop_s=15,
    )


PROCESSES: Mapping[str, Callable[[Parts], Process]] = {
    "prometheus": _prometheus,
    "alertmanager": alertmanager,
    "loki": _loki,
    "jaeger": _jaeger,
    "collector": _collector,
}
"""How each extra runs; whoever adds one gives it a template or none in `VALUES` and a name in `EXTRAS`."""
VALUES: Mapping[str, Mapping[str, Callable[[Parts], dict[str, str]]]] = {
    "prometheus": {"prometheus.yml.tmpl": prometheus_values},
    "alertmanager": {"alertmanager.yml.tmpl": alertmanager_values},
    "loki": {"loki.yml.tmpl": loki_values},
    "jaeger": {"jaeger.yml.tmpl": jaeger_values},
    "collector": {"collector.yml.tmpl": collector_values},
}
"""The templates of each extra's configuration, in `observability/<name>/`, and what fills them."""
