"""The gates: what came in, what was refused and why, what it took, and whether they run what was decided."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from observability.dashboards.boards import any_of, dashboard_of, section
from observability.dashboards.links import board, logs, runbook
from observability.dashboards.panels import (
    HALF,
    Made,
    above,
    figure,
    listing,
    loglines,
    only,
    timeseries,
)  # fmt: skip
from observability.dashboards.queries import lines, now, quantile, query, rate

GATE = 'instance=~"$gate"'
DECISIONS = f'tekup_gate_decisions_total{{{GATE}, service=~"$service|"}}'
REFUSED = f'tekup_gate_decisions_total{{{GATE}, service=~"$service|", reason!=""}}'
NAMED = f'tekup_gate_decisions_total{{{GATE}, service=~"$service|", tool!=""}}'
CLIENTS = f'tekup_gate_client_calls_total{{{GATE}, client=~"$client", service=~"$service|"}}'
TARGETS = f'{GATE}, service=~"($service)_.*[.]lb@file"'
ACCESS = '{service_name="traefik"} | json'
CLIENT = (logs("Its calls at the edge", ACCESS + ' | request_X_Tekup_Client="${__field.labels.client}"'),)


def gateway() -> Dashboard:
    """The dashboard."""
    return dashboard_of(
        "gateway", "Gateway",
        "What came in, what was refused and why, what it took, and do all gates run what was decided?",
        [any_of("gate", "tekup_gate_policy_age_seconds", "instance"),
         any_of("service", "tekup_instance_info", "service"),
         any_of("client", "tekup_gate_client_calls_total", "client")],
        section("How the gates are", *_figures()),
        section("What came in", *_decisions()),
        section("What became of it", *_carried()),
        section("Clients and their limits", *_clients()),
        section("Do they run what was decided?", *_policy()),
        section("The access log", *_lines()),
        service="$service",
    )  # fmt: skip


def _figures() -> list[Made]:
    return [
        figure("Gates that answer", "Traefiks that give their metrics.", query(f'sum(up{{job="gates", {GATE}}})'),
               links=[runbook("ScrapeMissing")]),
        figure("Calls a second", "All that was decided on, passed or refused.",
               query(f"sum(rate({DECISIONS}[$__rate_interval]))"), unit="reqps"),
        figure("Refused calls", "Share of all calls. High: a client with a spent limit or a wrong key, or an attack.",
               query(f"sum(rate({REFUSED}[$__rate_interval])) / sum(rate({DECISIONS}[$__rate_interval])) or vector(0)"),
               unit="percentunit", steps=above(0.1, 0.5)),
        figure("Server errors", "Share of answers of targets with 500 and above.",
               query(f'(sum(rate(traefik_service_requests_total{{{TARGETS}, code=~"5.."}}[$__rate_interval])) or '
                     f'vector(0))'
                     f" / sum(rate(traefik_service_requests_total{{{TARGETS}}}[$__rate_interval]))"),
                     unit="percentunit",
               steps=above(0.001, 0.01), links=[runbook("GateErrors")]),
        figure("Oldest policy", "Since an agent last knew that its gate has what was decided. It grows without Consul.",
               query(f"max(tekup_gate_policy_age_seconds{{{GATE}}})"), unit="s", steps=above(30, 60),
               links=[runbook("GatePolicyStale")]),
        figure("Problems in tables", "Objects or files that a gate refused; `tekup gates` names them.",
               query(f"sum(tekup_gate_table_problems{{{GATE}}})"), steps=only(1), links=[runbook("GateTableProblems")]),
    ]  # fmt: skip


def _decisions() -> list[Made]:
    return [
        timeseries("By kind of caller and era",
                   "Keys, bearers of authorization servers, the hub, our own probes, nobody proven; modern callers "
                   "name "
                   "their tool in headers, legacy ones come over the hub.",
                   query(rate(DECISIONS, "class", "era"), "{{class}} {{era}}"), unit="reqps", stacked=True),
        timeseries("Refused, by reason", "docs/contracts.md says what each means. All clients at once: ours, not "
                                         "theirs.",
                   query(rate(REFUSED, "reason"), "{{reason}}"), unit="reqps",
                   links=[logs("Refused calls", ACCESS + " | DownstreamStatus >= 400")]),
        timeseries("Busiest tools", "Tools as callers name them, where they may use them.",
                   query(f"topk(10, {rate(NAMED, 'service', 'tool')})",
                         "{{tool}}"), unit="reqps",
                   links=[board("This tool", "tool", service="${__field.labels.service}",
                                tool="${__field.labels.tool}")]),
    ]  # fmt: skip


def _carried() -> list[Made]:
    return [
        timeseries("Answers by status", "Of targets, as Traefik passed them on.",
                   query(rate(f"traefik_service_requests_total{{{TARGETS}}}", "code"), "{{code}}"), unit="reqps",
                   links=[logs("Calls with this status", ACCESS + " | DownstreamStatus=${__field.labels.code}")],
                   more=[runbook("GateErrors")]),
        timeseries("Time at the targets", "95 of 100 calls are faster, with Traefik and the network, without the "
                                          "plugin.",
                   query(quantile(0.95, TARGETS, "service", metric="traefik_service_request_duration_seconds"),
                         "{{service}}"), unit="s", steps=above(1), more=[runbook("GateSlow")]),
        timeseries("Answered by others", "Calls meant for a target that another one answered, for its own was down.",
                   query('target:tekup_fallback:ratio5m{target=~"($service)_.*"}', "{{target}}"), unit="percentunit",
                   steps=above(0.01), more=[runbook("GateOnFallback")]),
    ]  # fmt: skip


def _clients() -> list[Made]:
    return [
        timeseries("Calls by client", "The ten that call most.",
                   query(f"topk(10, {rate(CLIENTS, 'client', 'outcome')})", "{{client}} {{outcome}}"), unit="reqps",
                   links=CLIENT),
        timeseries("Refused by limits", "A client has used up what it may; raise it with `tekup clients limit`, or "
                                        "leave it.",
                   query(rate(f'tekup_gate_limited_total{{{GATE}, client=~"$client"}}', "client", "limit"),
                         "{{client}} {{limit}}"), unit="reqps", links=CLIENT),
        listing("Usage of the time shown", "Calls per client, passed on and refused.",
                now(f"sum by (client) (increase({_used('passed')}[$__range]))"),
                now(f"sum by (client) (increase({_used('refused')}[$__range]))"),
                columns={"client": "Client", "Value #A": "Passed on", "Value #B": "Refused"}, width=8,
                links=[logs("Its calls at the edge", ACCESS + ' | request_X_Tekup_Client="${__data.fields.Client}"')]),
        timeseries("Limits in use", "Calls under way that count against a limit on calls at once.",
                   query(f'sum by (client, limit) (tekup_gate_limit_calls_under_way{{{GATE}, client=~"$client"}})',
                         "{{client}} {{limit}}"), width=HALF, links=CLIENT),
        timeseries("Until a limit is free again", "If nothing more is called; near its burst the next calls are "
                                                  "refused.",
                   query(f'max by (client, limit) (tekup_gate_limit_used_seconds{{{GATE}, client=~"$client"}})',
                         "{{client}} {{limit}}"), unit="s", width=HALF, links=CLIENT),
    ]  # fmt: skip


def _policy() -> list[Made]:
    return [
        timeseries("Age of the policy", "Since an agent last knew that its gate has what was decided. A slope: the "
                                        "agent, "
                   "or Consul, is gone; calls go on with what there is.",
                   query(f"tekup_gate_policy_age_seconds{{{GATE}}}", "{{instance}}"), unit="s", steps=above(30, 60),
                   more=[runbook("GatePolicyStale"), runbook("GateLagging")]),
        timeseries("Age of the tables", "Since each was written anew. All gates alike is right.",
                   query(f"tekup_gate_table_age_seconds{{{GATE}}}", "{{instance}} {{table}}"), unit="s",
                   more=[runbook("GateTableProblems")]),
        timeseries("Routes taken up by Traefik", "Reloads of its configuration; many a minute are instances that come "
                                                 "and go.",
                   query("sum by (instance) "
                         f"(increase(traefik_config_reloads_total{{{GATE}}}[$__rate_interval]))", "{{instance}}")),
    ]  # fmt: skip


def _lines() -> list[Made]:
    return [
        loglines("Calls at the edge", "One line a call; those of the hub's second hop bear the hub's service.",
                 lines(ACCESS + ' | DownstreamStatus!=""'), width=HALF),
        loglines("Calls refused or failed", "Answers of 400 and above.", lines(ACCESS + " | DownstreamStatus >= 400"),
                 width=HALF),
    ]  # fmt: skip


def _used(outcome: str) -> str:
    return CLIENTS.replace("}", f', outcome="{outcome}"}}')
