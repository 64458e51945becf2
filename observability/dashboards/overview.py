"""Is anything wrong, and where: what one opens first."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from observability.dashboards.boards import ENDED, any_of, dashboard_of, section
from observability.dashboards.links import board, logs, runbook
from observability.dashboards.panels import (
    FULL,
    Made,
    above,
    below,
    figure,
    listing,
    loglines,
    only,
    timeseries,
)  # fmt: skip
from observability.dashboards.queries import lines, now, quantile, query, rate

OF = 'service=~"$service"'
SERVICE = "${__field.labels.service}"
ITS_OWN = (board("This service", "service", service=SERVICE), logs("Its log lines", f'{{service_name="{SERVICE}"}}'))


def overview() -> Dashboard:
    """The dashboard."""
    return dashboard_of(
        "overview", "Overview",
        "Is anything wrong, and where? Red figures first, then the service that stands out, then its own dashboard.",
        [any_of("service", "tekup_instance_info", "service")],
        section("Is anything wrong?", *_figures(), _alerts()),
        section("Services: how much, how well, how fast", *_services()),
        section("The gates: what came in, and from whom", *_gates()),
        section("What went wrong lately", _errors()),
        service="$service",
    )  # fmt: skip


def _figures() -> list[Made]:
    return [
        figure("Alerts that fire",
               "Each is a line of the table below; begin with the most severe, at its runbook.",
               query('count(ALERTS{alertstate="firing", alertname!="Watchdog"}) or vector(0)'), steps=only(1)),
        figure("Programs that give no metrics",
               "Found in Consul or in the configuration, and not answering: dead, cut off or overloaded.",
               query("count(up == 0) or vector(0)"), steps=only(1), links=[runbook("ScrapeMissing")]),
        figure("Instances not ready",
               "They live, but their declared tool call fails, or they drain. The service's dashboard says which tool.",
               query(f"count(tekup_ready{{{OF}}} == 0) or vector(0)"), steps=above(1), links=[runbook("ProbeFailing")]),
        figure("Control planes that lead",
               "1 is right. Without one nothing can be changed, while calls go on.",
               query("sum(tekup_control_plane_leading)"), steps=below(1), links=[runbook("NoLeader")]),
        figure("Gates behind",
               "Gates that are gone or run an older revision than the newest: what was decided is not in force there.",
               query("max(tekup_gates_lagging)"), steps=only(1),
               links=[runbook("GateLagging"), board("The gates", "gateway")]),
        figure("Rollouts under way",
               "New versions on their way; their dashboard compares them with the stable one.",
               query(f'count(tekup_rollout_phase{{phase!~"{ENDED}"}} == 1) or vector(0)'),
               links=[board("Rollouts", "rollout")]),
    ]  # fmt: skip


def _alerts() -> Made:
    return listing(
        "Alerts",
        "What fires, each with its runbook. Watchdog fires always: where it is missing, alerts do not work.",
        now('sum by (alertname, severity, service, tool, instance) (ALERTS{alertstate="firing"})'),
        columns={"alertname": "Alert", "severity": "Severity", "service": "Service", "tool": "Tool",
                 "instance": "Instance"},
        width=FULL, height=6, links=[runbook("${__data.fields.Alert}")],
    )  # fmt: skip


def _services() -> list[Made]:
    return [
        timeseries("Tool calls", "Calls of tools that instances have ended, whatever their end.",
                   query(f"service:tekup_tool_calls:rate5m{{{OF}}}", "{{service}}"), unit="reqps", links=ITS_OWN),
        timeseries("Failed tool calls",
                   "Share of calls that the service is to blame for: errors, deadlines, results that break their "
                   "schema. Open the service that stands out.",
                   query(f"service:tekup_tool_errors:ratio5m{{{OF}}}", "{{service}}"), unit="percentunit",
                   steps=above(0.01, 0.05), links=ITS_OWN, more=[runbook("ToolErrors")]),
        timeseries("Time of the slowest twentieth",
                   "95 of 100 tool calls are faster. Each dot is a call: click it for its trace.",
                   query(quantile(0.95, OF, "service"), "{{service}}", exemplars=True), unit="s",
                   steps=above(1), links=ITS_OWN, more=[runbook("ToolSlow")]),
        timeseries("Instances by version", "What runs. Two versions of a service are a rollout, or one left behind.",
                   query(f"count by (service, version) (tekup_instance_info{{{OF}}})", "{{service}} {{version}}"),
                   links=ITS_OWN),
        timeseries("Instances lost",
                   "Live ones that were gone without having said so: crashed, killed, out of memory.",
                   query(f"sum by (service) (increase(tekup_instances_lost_total{{{OF}}}[$__rate_interval]))",
                         "{{service}}"),
                   steps=above(1, 3), links=ITS_OWN, more=[runbook("InstanceRestarted")]),
        timeseries("Nearest limit of an instance",
                   "The fullest of memory, CPU, processes and open files, as a share of what it may have.",
                   query(f"max by (service) (tekup_tree_open_files{{{OF}}} / tekup_limit_open_files)",
                         "{{service}} files"),
                   query(f"max by (service) (tekup_tree_memory_bytes{{{OF}}} / tekup_limit_memory_bytes)",
                         "{{service}} memory"),
                   unit="percentunit", steps=above(0.8, 0.95), links=[board("Capacity", "capacity", service=SERVICE)]),
    ]  # fmt: skip


def _gates() -> list[Made]:
    return [
        timeseries("Decisions by kind of caller",
                   "Calls by who made them: keys, bearers of authorization servers, the hub, the control plane's own "
                   "probes, nobody proven.",
                   query(rate("tekup_gate_decisions_total", "class"), "{{class}}"), unit="reqps", stacked=True,
                   links=[board("The gates", "gateway")]),
        timeseries("Refused calls", "By reason. Many of one reason from one client are that client's; of all, ours.",
                   query(rate('tekup_gate_decisions_total{reason!=""}', "reason"), "{{reason}}"), unit="reqps",
                   links=[logs("Refused calls", '{service_name="traefik"} | json | DownstreamStatus >= 400')],
                   more=[board("The gates", "gateway")]),
        timeseries("Busiest clients", "The ten that call most, refused calls as well.",
                   query(f"topk(10, {rate('tekup_gate_client_calls_total', 'client')})", "{{client}}"), unit="reqps",
                   links=[board("This client", "gateway", client="${__field.labels.client}")]),
    ]  # fmt: skip


def _errors() -> Made:
    return loglines("Errors", "The newest of all processes. Open a line: its trace id leads to the whole call.",
                    lines('{level=~"error|critical|fatal"}'))  # fmt: skip
