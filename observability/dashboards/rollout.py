"""A rollout: the canary against the stable version, by everything it is judged by."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from observability.dashboards.boards import dashboard_of, one_of, section
from observability.dashboards.links import board, logs, runbook, traces
from observability.dashboards.panels import HALF, THIRD, Made, above, figure, loglines, states, timeseries
from observability.dashboards.queries import lines, quantile, query, rate

ANY = 'service=~"$service"'
OF = 'service=~"$service", version=~"$stable|$canary"'
CANARY = 'service=~"$service", version=~"$canary"'
STABLE = 'service=~"$service", version=~"$stable"'
BAD = 'outcome=~"error|deadline|schema"'
TARGET = 'service=~"${service}_[0-9A-Za-z-]+[.]lb@file"'
VERSION = (
    logs("Its calls, line by line",
         '{service_name="${service}"} | json | event="call" | version="${__field.labels.version}"'),
    traces("Traces of the service", "tekup-${service}"),
)  # fmt: skip


def rollout() -> Dashboard:
    """The dashboard."""
    return dashboard_of(
        "rollout", "Rollout",
        "Is the new version as good as the stable one, and why does the rollout go on, wait or go back? "
        "`tekup rollout explain SERVICE` says the same in words.",
        [one_of("service", "tekup_instance_info", "service"),
         one_of("stable", 'tekup_instance_info{service=~"$service"}', "version"),
         one_of("canary", 'tekup_instance_info{service=~"$service"}', "version", last=True)],
        section("Where it is", *_figures(), *_course()),
        section("Canary against stable", *_compared()),
        section("What lies behind", *_behind()),
        section("What the control plane says", _lines()),
        service="$service",
    )  # fmt: skip


def _figures() -> list[Made]:
    return [
        figure("Canary's share of calls", "Of the tool calls of both versions, as they really were.",
               query(f"sum(rate(tekup_tool_calls_total{{{CANARY}}}[$__rate_interval]))"
                     f" / sum(rate(tekup_tool_calls_total{{{OF}}}[$__rate_interval]))"), unit="percentunit"),
        figure("Canary's failed calls", "Share of its calls that the service is to blame for.",
               query(_failing(CANARY)), unit="percentunit", steps=above(0.01, 0.05), links=[runbook("CanaryFailing")]),
        figure("Stable's failed calls", "The same of the stable version. Both alike: not the canary's fault.",
               query(_failing(STABLE)), unit="percentunit", steps=above(0.01, 0.05), links=[runbook("ToolErrors")]),
        figure("Ready canaries", "Instances of the canary whose declared tool call works.",
               query(f"sum(tekup_ready{{{CANARY}}})"), links=[runbook("CanaryFailing")]),
        figure("Has not moved for",
               "0 while none runs. It waits for calls, for a verdict or for an approval; see what the control plane "
               "says.",
               query(f"time() - max(tekup_rollout_moved_seconds{{{ANY}}}) or vector(0)"), unit="dtdurations",
               steps=above(1800, 7200), links=[runbook("RolloutStuck")]),
        figure("Rollouts ended, last day", "However they ended: promoted, gone back, given up.",
               query(f"round(sum(increase(tekup_rollout_ended_total{{{ANY}}}[1d]))) or vector(0)")),
    ]  # fmt: skip


def _course() -> list[Made]:
    return [
        states("Phase", "Where the rollout was when.",
               query(f"max by (phase) (tekup_rollout_phase{{{ANY}}})", "{{phase}}"), width=THIRD),
        timeseries("Calls by version", "How the calls were spread. It has to follow the steps.",
                   query(rate(f"tekup_tool_calls_total{{{OF}}}", "version"), "{{version}}"), unit="reqps", stacked=True,
                   links=VERSION),
        timeseries("Verdicts", "Looks at the canary, by what they came to. Inconclusive for long: too few calls to "
                               "tell.",
                   query(f"sum by (verdict) (increase(tekup_rollout_looks_total{{{ANY}}}[$__rate_interval]))",
                         "{{verdict}}"), more=[runbook("RolloutStuck")]),
    ]  # fmt: skip


def _compared() -> list[Made]:
    return [
        timeseries("Failed calls", "Share that the service is to blame for. The canary above stable: look at its "
                                   "calls.",
                   query(_failing(OF, "version"), "{{version}}"), unit="percentunit", steps=above(0.01, 0.05),
                   links=VERSION, more=[runbook("CanaryFailing")]),
        timeseries("Time of the slowest twentieth", "95 of 100 calls are faster. Each dot is a call: click it for its "
                                                    "trace.",
                   query(quantile(0.95, OF, "version"), "{{version}}", exemplars=True), unit="s", links=VERSION,
                   more=[runbook("ToolSlow")]),
        timeseries("HTTP errors at the gates",
                   "Answers of 500 and above, by target: what a version's instances answered, or did not.",
                   query('sum by (service) '
                         f'(rate(traefik_service_requests_total{{{TARGET}, code=~"5.."}}[$__rate_interval]))'
                         f" / sum by (service) (rate(traefik_service_requests_total{{{TARGET}}}[$__rate_interval]))"
                         " or 0 * sum by (service) "
                         f"(rate(traefik_service_requests_total{{{TARGET}}}[$__rate_interval]))",
                         "{{service}}"), unit="percentunit", steps=above(0.01, 0.05), more=[runbook("GateErrors")]),
        timeseries("Failed calls by tool, canary only",
                   "One tool alone tells what was changed; all of them, that its surroundings are broken.",
                   query(_failing(CANARY, "tool"), "{{tool}}"), unit="percentunit", width=HALF,
                   links=[board("This tool", "tool", service="${service}", tool="${__field.labels.tool}")]),
        timeseries("Time by tool: canary over stable",
                   "2 is twice as slow at the 95th of 100 calls. Only tools that both versions were called for.",
                   query(quantile(0.95, CANARY, "tool") + " / " + quantile(0.95, STABLE, "tool"), "{{tool}}"),
                   width=HALF,
                   steps=above(1.5, 2),
                   links=[board("This tool", "tool", service="${service}", tool="${__field.labels.tool}")]),
    ]  # fmt: skip


def _behind() -> list[Made]:
    return [
        timeseries("Answered by others", "Calls meant for a target that another one answered, for its own was down.",
                   query('target:tekup_fallback:ratio5m{target=~"${service}_.*"}', "{{target}}"), unit="percentunit",
                   steps=above(0.01), more=[runbook("GateOnFallback")]),
        timeseries("Copies", "Calls that a version on trial got as well, by how they ended.",
                   query(f"sum by (version, outcome) (rate(tekup_mirrored_calls_total{{{OF}}}[$__rate_interval]))",
                         "{{version}} {{outcome}}"), unit="reqps", links=VERSION),
        timeseries("Memory by version", "The largest instance of each. A slope without end is a leak.",
                   query(f"max by (version) (tekup_tree_memory_bytes{{{OF}}})", "{{version}}"), unit="bytes",
                   links=[board("Capacity", "capacity", service="${service}")]),
    ]  # fmt: skip


def _lines() -> Made:
    return loglines("The control plane on this service",
                    "Every move of a rollout is one sentence here: what was decided, and why.",
                    lines('{service_name="control-plane"} |~ "rollout" |= "${service}"'))  # fmt: skip


def _failing(selector: str, *by: str) -> str:
    calls = f"sum by ({', '.join(by)}) (rate(tekup_tool_calls_total{{{selector}%s}}[$__rate_interval]))"
    return calls % f", {BAD}" + " / " + calls % ""
