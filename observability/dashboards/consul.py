"""Consul: has it a quorum, is it quick, what does it hold, and what it asks of the platform."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from observability.dashboards.boards import dashboard_of, section
from observability.dashboards.links import board, runbook
from observability.dashboards.panels import Made, above, below, figure, loglines, timeseries
from observability.dashboards.queries import lines, query


def consul() -> Dashboard:
    """The dashboard."""
    return dashboard_of(
        "consul", "Consul",
        "Has Consul a quorum, is it quick, what does it hold? Without it calls go on with the last good state; nothing "
        "new is found and nothing can be decided.",
        [],
        section("How it is", *_figures()),
        section("Is it quick?", *_speed()),
        section("What it holds, and who asks", *_held()),
        section("What the control plane makes of it", *_ours()),
        section("Its log lines", _lines()),
    )  # fmt: skip


def _figures() -> list[Made]:
    return [
        figure("Servers that answer", "Consul's servers that give their metrics.", query('sum(up{job="consul"})'),
               steps=below(1), links=[runbook("ConsulNoQuorum")]),
        figure("Leaders", "1 is right. 0: no quorum, nothing can be written. Start the servers that are missing.",
               query("sum(consul_server_isLeader)"), steps=below(1), links=[runbook("ConsulNoQuorum")]),
        figure("Healthy", "What Consul's autopilot thinks of its servers.",
               query("max(consul_autopilot_healthy)"), steps=below(1), words={"0": "no", "1": "yes"},
               links=[runbook("ConsulNoQuorum")]),
        figure("Servers that may be lost", "Before the quorum is gone. 0 with one server; with three, 1 is right.",
               query("max(consul_autopilot_failure_tolerance)")),
        figure("Entries", "Keys in its store: policy, keys of clients, history.",
               query("max(consul_state_kv_entries)")),
        figure("Root certificate ends in", "Of Consul's own authority, for certificates between services.",
               query("min(consul_mesh_active_root_ca_expiry)"), unit="s", steps=below(7 * 86400, 30 * 86400),
               links=[runbook("CertificateExpiring")]),
    ]  # fmt: skip


def _speed() -> list[Made]:
    return [
        timeseries("Time of a commit", "Mean time to write to the quorum's logs. Slow disks or a slow network.",
                   query("sum by (instance) (rate(consul_raft_commitTime_sum[$__rate_interval]))"
                         " / sum by (instance) (rate(consul_raft_commitTime_count[$__rate_interval]) > 0)",
                         "{{instance}}"),
                   unit="ms", steps=above(50, 200), more=[runbook("ConsulNoQuorum")]),
        timeseries("Time of a transaction", "Mean; every change of the policy is one.",
                   query("sum by (instance) (rate(consul_txn_apply_sum[$__rate_interval]))"
                         " / sum by (instance) (rate(consul_txn_apply_count[$__rate_interval]) > 0)", "{{instance}}"),
                         unit="ms"),
        timeseries("Writes", "Entries that Raft applied.",
                   query("sum by (instance) (rate(consul_raft_apply[$__rate_interval]))", "{{instance}}"), unit="ops"),
    ]  # fmt: skip


def _held() -> list[Made]:
    return [
        timeseries("Requests", "Calls of Consul's API on its servers, and those refused by its own rate limits.",
                   query("sum by (instance) (rate(consul_rpc_request[$__rate_interval]))", "{{instance}} asked"),
                   query("sum by (instance) (rate(consul_client_rpc_exceeded[$__rate_interval]))", "{{instance}} over "
                                                                                                   "its limit"),
                   unit="reqps"),
        timeseries("Watches and sessions", "Queries that wait for a change, and living sessions of replicas and "
                                           "agents.",
                   query("sum by (instance) (consul_rpc_queries_blocking)", "{{instance}} watches"),
                   query("sum by (instance) (consul_session_ttl_active)", "{{instance}} sessions")),
        timeseries("Memory", "Of Consul's own heap.",
                   query("sum by (instance) (consul_runtime_alloc_bytes)", "{{instance}}"), unit="bytes"),
    ]  # fmt: skip


def _ours() -> list[Made]:
    return [
        timeseries("Registered instances", "What the catalog has, of all services, gates included.",
                   query("max(consul_state_service_instances)", "registered"),
                   query("sum(tekup_registered)", "instances that know they are")),
        timeseries("Refused registrations", "In the catalog, but nobody's instance: of a foreign form, or a rogue's.",
                   query("max by (service) (tekup_registrations_refused) or vector(0)", "{{service}}"), steps=above(1),
                   more=[runbook("RegistrationRefused")]),
        timeseries("Revision", "Of the policy, as the newest gate runs it; each step is a change.",
                   query("max(tekup_policy_revision)", "revision"), links=[board("The gates", "gateway")]),
        timeseries("Changes", "Operators' changes, by verb and result.",
                   query("sum by (verb, result) (increase(tekup_changes_total[$__rate_interval]))",
                         "{{verb}} {{result}}")),
        timeseries("Time of a change", "From the call to in force on every gate; 95 of 100 were faster.",
                   query("histogram_quantile(0.95, sum by (le, verb) "
                         "(rate(tekup_change_seconds_bucket[$__rate_interval])))",
                         "{{verb}}"), unit="s", more=[runbook("GateLagging")]),
        timeseries("Leading replica", "Who of the control plane may write. Changes of hands are restarts, or a slow "
                                      "Consul.",
                   query("max by (instance) (tekup_control_plane_leading)", "{{instance}}"),
                   more=[runbook("NoLeader")]),
    ]  # fmt: skip


def _lines() -> Made:
    return loglines("Consul's log lines", "Look for elections, failed health checks, members that left.",
                    lines('{service_name="consul"}'))  # fmt: skip
