"""One tool: how its calls end and how long they take, by version, client and era, down to single calls."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from observability.dashboards.boards import any_of, dashboard_of, one_of, section
from observability.dashboards.links import board, logs, runbook, traces
from observability.dashboards.panels import HALF, Made, above, figure, heat, loglines, only, timeseries
from observability.dashboards.queries import lines, quantile, query, rate

OF = 'service=~"$service", tool=~"$tool", version=~"$version"'
ALL = 'service=~"$service", tool=~"$tool"'
CALLS = '{service_name=~"$service"} | json | event="call" | tool=~"$tool" | client=~"$client"'
ONE = '{service_name="${service}"} | json | event="call" | tool="${tool}"'


def tool() -> Dashboard:
    """The dashboard."""
    return dashboard_of(
        "tool", "Tool",
        "One tool: how do its calls end, how long do they take, for whom, and which single calls were they?",
        [one_of("service", "tekup_tool_calls_total", "service"),
         one_of("tool", 'tekup_tool_calls_total{service=~"$service"}', "tool"),
         any_of("version", 'tekup_instance_info{service=~"$service"}', "version"),
         any_of("client", 'tekup_gate_client_calls_total{service=~"$service"}', "client")],
        section("How it is", *_figures()),
        section("How much, how well, how fast", *_calls()),
        section("From whom, and what else uses it", *_others()),
        section("Single calls", *_lines()),
        service="$service",
    )  # fmt: skip


def _figures() -> list[Made]:
    return [
        figure("Calls a second", "That ended, whatever their end.",
               query(f"sum(rate(tekup_tool_calls_total{{{OF}}}[$__rate_interval]))"), unit="reqps"),
        figure("Failed calls", "Share of the last five minutes' calls that the service is to blame for.",
               query(f"max(service_tool:tekup_tool_errors:ratio5m{{{ALL}}})"), unit="percentunit",
               steps=above(0.01, 0.05), links=[runbook("ToolErrors")]),
        figure("Median time", "Half of the calls of the last five minutes were faster.",
               query(f"max(service_tool:tekup_tool_seconds:p50_5m{{{ALL}}})"), unit="s"),
        figure("Time of the slowest twentieth", "95 of 100 calls of the last five minutes were faster.",
               query(f"max(service_tool:tekup_tool_seconds:p95_5m{{{ALL}}})"), unit="s", steps=above(1, 5),
               links=[runbook("ToolSlow")]),
        figure("Results that break their schema",
               "Last hour. They were withheld: the tool does not give what it says it gives, which is a fault of its "
               "code.",
               query(f"sum(increase(tekup_tool_schema_violations_total{{{OF}}}[1h]))"), steps=only(1)),
        figure("Failed probes of an instance on itself", "Last hour; only of tools that a service declares as its "
                                                         "probe.",
               query('sum(increase(tekup_probe_failures_total{job="instances", ' + OF + "}[1h])) or vector(0)"),
               steps=above(1), links=[runbook("ProbeFailing")]),
    ]  # fmt: skip


def _calls() -> list[Made]:
    return [
        timeseries("Calls by outcome",
                   "tool_error is the caller's (a file that is not there); error, deadline and schema are the "
                   "service's.",
                   query(rate(f"tekup_tool_calls_total{{{OF}}}", "outcome"), "{{outcome}}"), unit="reqps", stacked=True,
                   width=HALF,
                   links=[logs("Calls that ended so", ONE + ' | outcome="${__field.labels.outcome}"')]),
        timeseries("Failed calls by version",
                   "Share of calls that the service is to blame for. One version alone: its code, not its "
                   "surroundings.",
                   query('sum by (version) '
                         f'(rate(tekup_tool_calls_total{{{OF}, outcome=~"error|deadline|schema"}}[$__rate_interval]))'
                         f" / sum by (version) (rate(tekup_tool_calls_total{{{OF}}}[$__rate_interval]))",
                         "{{version}}"),
                   unit="percentunit", steps=above(0.01, 0.05), width=HALF, more=[runbook("ToolErrors")],
                   links=[board("Versions compared", "rollout", service="${service}")]),
        heat("Calls by time", "Darker: more calls of that length. Two bands are two kinds of calls; look at both.",
             query(rate(f"tekup_tool_seconds_bucket{{{OF}}}", "le"), "{{le}}", by_bucket=True, exemplars=True)),
        timeseries("Time of a call",
                   "Half, 95 and 99 of 100 calls are faster. Each dot is a call: click it for its trace.",
                   query(quantile(0.5, OF), "50 of 100", exemplars=True),
                   query(quantile(0.95, OF), "95 of 100"), query(quantile(0.99, OF), "99 of 100"), unit="s", width=HALF,
                   steps=above(1), more=[runbook("ToolSlow")],
                   links=[traces("Traces of the service", "tekup-${service}"),
                          logs("Calls over a second", ONE + " | duration_ms > 1000")]),
    ]  # fmt: skip


def _others() -> list[Made]:
    return [
        timeseries("At the gates, by kind of caller and era",
                   "What the gates passed on. control-plane is our own probes; the hub stands for its clients.",
                   query(rate(f"tekup_gate_decisions_total{{{ALL}}}", "class", "era"), "{{class}} {{era}}"),
                   unit="reqps", links=[board("The gates", "gateway")]),
        timeseries("Time by version", "95 of 100 calls are faster, by version.",
                   query(quantile(0.95, OF, "version"), "{{version}}"), unit="s",
                   links=[board("Versions compared", "rollout", service="${service}")]),
        timeseries("Copies for a version on trial", "Calls that a mirror got as well; they count nowhere else.",
                   query(f"sum by (version, outcome) (rate(tekup_mirrored_calls_total{{{OF}}}[$__rate_interval]))",
                         "{{version}} {{outcome}}"), unit="reqps",
                   links=[board("Versions compared", "rollout", service="${service}")]),
    ]  # fmt: skip


def _lines() -> list[Made]:
    return [
        loglines("Calls", "One line a call. Open it: who, how it ended, how long it took; its trace id leads to its "
                          "trace.",
                 lines(CALLS), width=HALF),
        loglines("Calls that did not end well", "The same, without those that ended well.",
                 lines(CALLS + ' | outcome!="ok"'), width=HALF),
    ]  # fmt: skip
