"""One service: is it up, how are its calls, what do they cost, who calls it."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from observability.dashboards.boards import any_of, dashboard_of, one_of, section
from observability.dashboards.links import board, logs, runbook, traces
from observability.dashboards.panels import (
    Made,
    above,
    below,
    figure,
    loglines,
    states,
    timeseries,
)  # fmt: skip
from observability.dashboards.queries import lines, quantile, query, rate

OF = 'service=~"$service", version=~"$version"'
TOOL = (
    board("This tool", "tool", service="${service}", tool="${__field.labels.tool}"),
    logs("Its calls, line by line",
         '{service_name="${service}"} | json | event="call" | tool="${__field.labels.tool}"'),
    traces("Traces of the service", "tekup-${service}"),
)  # fmt: skip
INSTANCE = (
    logs("Its log lines", '{service_name="${service}"} | json | instance_extracted="${__field.labels.instance}"'),
)


def service() -> Dashboard:
    """The dashboard."""
    return dashboard_of(
        "service", "Service",
        "One service: is it up, are its calls well and fast, what do they cost, who calls it?",
        [one_of("service", "tekup_instance_info", "service"),
         any_of("version", 'tekup_instance_info{service=~"$service"}', "version"),
         any_of("client", 'tekup_gate_client_calls_total{service=~"$service"}', "client")],
        section("Is it up?", *_figures(), *_instances()),
        section("How much, how well, how fast", *_calls()),
        section("What callers meet", *_callers()),
        section("What it takes", *_resources()),
        section("The hub's part, where the service is the hub", *_hub()),
        section("Log lines", _lines()),
        service="$service",
    )  # fmt: skip


def _figures() -> list[Made]:
    return [
        figure("Ready instances", "Their declared tool call works. None: every call goes to a fallback, or fails.",
               query(f"sum(tekup_ready{{{OF}}})"), steps=below(1), links=[runbook("ProbeFailing")]),
        figure("Calls a second", "Tool calls that ended.",
               query(f"sum(rate(tekup_tool_calls_total{{{OF}}}[$__rate_interval])) or vector(0)"),
               unit="reqps"),
        figure("Failed calls", "Share of the last five minutes' calls, over all versions.",
               query('max(service:tekup_tool_errors:ratio5m{service=~"$service"}) or vector(0)'), unit="percentunit",
               steps=above(0.01, 0.05), links=[runbook("ToolErrors")]),
        figure("Calls under way", "Requests being served now. It grows without end where something hangs.",
               query(f"sum(tekup_requests_in_flight{{{OF}}})")),
        figure("Failed probes, last hour", "The gate was asked for a declared tool call, and it did not work.",
               query('sum(increase(tekup_probe_failures_total{job="control-plane", service=~"$service"}[1h])) or '
                     'vector(0)'),
               steps=above(1, 10), links=[runbook("ProbeFailing")]),
        figure("Instances lost, last hour", "Gone without having said so: crashed, killed, out of memory.",
               query('round(sum(increase(tekup_instances_lost_total{service=~"$service"}[1h]))) or vector(0)'),
               steps=above(1, 3), links=[runbook("InstanceRestarted"), runbook("InstanceCrashLooping")]),
    ]  # fmt: skip


def _instances() -> list[Made]:
    return [
        states("Readiness of each instance",
               "Red: it lives, but its declared tool call fails or it drains; a gap: it is gone or not measured.",
               query(f"tekup_ready{{{OF}}}", "{{version}} {{instance}}"),
               words={"0": ("not ready", "red"), "1": ("ready", "green")}),
        states("Probes through the gate",
               "Red: the declared tool call failed, as a client would see it. Only the gate, or only some instances? "
               "One without an instance is of the version as a whole.",
               query('min by (version, exported_instance) (tekup_probe_ok{service=~"$service"})',
                     "{{version}} {{exported_instance}}"),
               words={"0": ("failed", "red"), "1": ("worked", "green")}),
    ]  # fmt: skip


def _calls() -> list[Made]:
    return [
        timeseries("Calls by tool", "Tool calls that ended, whatever their end. Click a line for the tool.",
                   query(rate(f"tekup_tool_calls_total{{{OF}}}", "tool"), "{{tool}}"), unit="reqps", stacked=True,
                   links=TOOL),
        timeseries("Calls by outcome",
                   "tool_error is the caller's (a file that is not there); error, deadline and schema are the "
                   "service's.",
                   query(rate(f"tekup_tool_calls_total{{{OF}}}", "outcome"), "{{outcome}}"), unit="reqps",
                   links=[logs("Calls that ended so",
                               '{service_name="${service}"} | json | event="call" | '
                               'outcome="${__field.labels.outcome}"')]),
        timeseries("Failed calls by tool", "Share of each tool's calls that the service is to blame for.",
                   query('service_tool:tekup_tool_errors:ratio5m{service=~"$service"}', "{{tool}}"), unit="percentunit",
                   steps=above(0.01, 0.05), links=TOOL, more=[runbook("ToolErrors")]),
        timeseries("Time of a call",
                   "Half, 95 and 99 of 100 calls are faster. Each dot is a call: click it for its trace.",
                   query(quantile(0.5, OF), "50 of 100", exemplars=True),
                   query(quantile(0.95, OF), "95 of 100"), query(quantile(0.99, OF), "99 of 100"), unit="s",
                   steps=above(1), more=[runbook("ToolSlow")],
                   links=[traces("Traces of the service", "tekup-${service}")]),
        timeseries("Slowest tools", "95 of 100 calls are faster, by tool.",
                   query('topk(10, service_tool:tekup_tool_seconds:p95_5m{service=~"$service"})', "{{tool}}"), unit="s",
                   links=TOOL, more=[runbook("ToolSlow")]),
        timeseries("Time by version", "95 of 100 calls are faster, by version.",
                   query(quantile(0.95, OF, "version"), "{{version}}"), unit="s",
                   links=[board("Versions compared", "rollout", service="${service}")]),
    ]  # fmt: skip


def _callers() -> list[Made]:
    return [
        timeseries("Calls by client", "What the gates passed on and refused, by client.",
                   query(rate('tekup_gate_client_calls_total{service=~"$service", client=~"$client"}', "client",
                              "outcome"),
                         "{{client}} {{outcome}}"), unit="reqps",
                   links=[board("This client", "gateway", client="${__field.labels.client}"),
                          logs("Its calls, line by line",
                               '{service_name="${service}"} | json | event="call" | '
                               'client="${__field.labels.client}"')]),
        timeseries("Requests refused by the service", "By HTTP status; what is refused by the gate is not among them.",
                   query(rate(f"tekup_requests_refused_total{{{OF}}}", "status"), "{{status}}"), unit="reqps"),
        timeseries("Lists and discovery",
                   "hit: kept from before for the same rights; miss: made anew. Misses alone mean rights that all "
                   "differ.",
                   query(rate(f"tekup_list_cache_total{{{OF}}}", "method", "result"), "{{method}} {{result}}"),
                   unit="reqps"),
    ]  # fmt: skip


def _resources() -> list[Made]:
    return [
        timeseries("Memory", "Of each instance with all it started (Chromium, rg), and what it may have.",
                   query(f"tekup_tree_memory_bytes{{{OF}}}", "{{version}} {{instance}}"),
                   query(f"max(tekup_limit_memory_bytes{{{OF}}})", "limit"), unit="bytes",
                   links=INSTANCE, more=[runbook("MemoryNearLimit")]),
        timeseries("CPU", "Cores in use by each instance with all it started.",
                   query(f"rate(tekup_tree_cpu_seconds_total{{{OF}}}[$__rate_interval])", "{{version}} {{instance}}"),
                   links=INSTANCE, more=[runbook("CpuNearLimit")]),
        timeseries("Open handles", "Browser pages, searches under way: state that lives in one instance, by kind.",
                   query(f"sum by (kind, instance) (tekup_handles{{{OF}}})", "{{kind}} {{instance}}"),
                   links=INSTANCE, more=[runbook("BrowserExhausted")]),
    ]  # fmt: skip


def _hub() -> list[Made]:
    return [
        timeseries("Calls the hub sent on", "By the client's era and the service; legacy clients have no other way in.",
                   query(rate("tekup_hub_calls_total", "era", "exported_service"), "{{era}} {{exported_service}}"),
                   unit="reqps",
                   links=[board("This service", "service", service="${__field.labels.exported_service}")]),
        timeseries("Calls the hub sent on, by outcome", "What came back to the hub.",
                   query(rate("tekup_hub_calls_total", "outcome"), "{{outcome}}"), unit="reqps"),
        timeseries("Listening clients, services left out",
                   "Open subscription streams, and services whose lists the hub leaves out because they did not "
                   "answer.",
                   query("sum(tekup_hub_listening)", "listening"),
                   query("count(tekup_hub_quarantined == 1) or vector(0)", "services left out")),
    ]  # fmt: skip


def _lines() -> Made:
    return loglines("Log lines of the service",
                    "Calls of the chosen clients, and what the processes say of themselves. A trace id leads to its "
                    "trace.",
                    lines('{service_name=~"$service"} | json | client=~"$client" or client=""'))  # fmt: skip
