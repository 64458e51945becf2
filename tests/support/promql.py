"""Which series a PromQL query asks for, and which there are."""

from __future__ import annotations

import re

_STRINGS = re.compile(r'"(?:\\.|[^"\\])*"')
_MATCHERS = re.compile(r"\{[^}]*\}")
_WINDOWS = re.compile(r"\[[^\]]*\]")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
_WORDS = frozenset({"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset",
                    "bool", "inf", "nan"})  # fmt: skip

_COUNTED = (
    # instances
    "tekup_tool_calls_total", "tekup_mirrored_calls_total", "tekup_tool_schema_violations_total",
    "tekup_list_cache_total", "tekup_requests_refused_total", "tekup_probe_failures_total", "tekup_tls_refused_total",
    "tekup_tree_cpu_seconds_total", "tekup_hub_calls_total", "process_cpu_seconds_total",
    # gates
    "tekup_gate_decisions_total", "tekup_gate_client_calls_total", "tekup_gate_limited_total",
    "traefik_service_requests_total", "traefik_router_requests_total", "traefik_config_reloads_total",
    # control plane and oauth
    "tekup_instances_lost_total", "tekup_rollout_looks_total", "tekup_rollout_ended_total", "tekup_changes_total",
    "tekup_oauth_decisions_total", "tekup_keeper_restarts_total", "tekup_audit_lost_total",
    # containers
    "container_cpu_usage_seconds_total", "container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total",
    "container_network_transmit_bytes_total",
    # others' own
    "consul_raft_state_candidate", "consul_raft_state_leader", "consul_raft_apply",
    "otelcol_exporter_sent_log_records", "otelcol_exporter_sent_spans",
    "otelcol_exporter_send_failed_log_records", "otelcol_exporter_send_failed_spans",
    "otelcol_receiver_accepted_spans", "otelcol_receiver_accepted_log_records",
    "alertmanager_notifications_total", "alertmanager_notifications_failed_total",
)  # fmt: skip
_GAUGED = (
    "tekup_requests_in_flight", "tekup_ready", "tekup_registered", "tekup_leaf_expires_seconds", "tekup_instance_info",
    "tekup_handles", "tekup_handles_limit", "tekup_tree_memory_bytes", "tekup_tree_processes", "tekup_tree_open_files",
    "tekup_limit_memory_bytes", "tekup_limit_cpus", "tekup_limit_processes", "tekup_limit_open_files",
    "tekup_disk_free_bytes", "tekup_disk_size_bytes", "tekup_hub_listening", "tekup_hub_quarantined",
    "tekup_secret_file_seconds", "process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds",
    "tekup_gate_table_age_seconds", "tekup_gate_table_problems", "tekup_gate_policy_age_seconds",
    "tekup_gate_key_last_used_seconds", "tekup_gate_limit_used_seconds", "tekup_gate_limit_calls_under_way",
    "traefik_tls_certs_not_after", "traefik_open_connections", "traefik_service_server_up",
    "tekup_probe_ok", "tekup_rollout_phase", "tekup_rollout_moved_seconds", "tekup_registrations_refused",
    "tekup_control_plane_leading", "tekup_policy_epoch", "tekup_policy_revision", "tekup_gates", "tekup_gates_lagging",
    "tekup_lane_instances", "tekup_git_mirror_revision", "tekup_git_mirror_failing", "tekup_git_mirror_rewritten",
    "tekup_autoscale_wanted", "tekup_autoscale_needed", "tekup_autoscale_most", "tekup_backup_age_seconds",
    "tekup_standby_age_seconds", "tekup_standby_bound_seconds",
    "tekup_region_home", "tekup_region_peer_reachable", "tekup_region_behind_seconds", "tekup_region_behind_revisions",
    "tekup_region_left_records",
    "tekup_oauth_keys_age_seconds",
    "container_memory_working_set_bytes", "container_spec_memory_limit_bytes", "container_threads",
    "container_threads_max", "tekup_container_bandwidth_bytes_per_second",
    "consul_runtime_alloc_bytes", "consul_runtime_num_goroutines",
    # Others' own, as docs/observability.md and the boards of Consul and of what is used ask for them.
    "consul_autopilot_failure_tolerance", "consul_autopilot_healthy", "consul_client_rpc_exceeded",
    "consul_mesh_active_root_ca_expiry", "consul_raft_commitTime_count", "consul_raft_commitTime_sum",
    "consul_rpc_queries_blocking", "consul_rpc_request", "consul_server_isLeader", "consul_session_ttl_active",
    "consul_state_kv_entries", "consul_state_service_instances", "consul_txn_apply_count", "consul_txn_apply_sum",
    "process_max_fds", "prometheus_tsdb_head_series", "prometheus_tsdb_storage_blocks_bytes",
    "prometheus_tsdb_wal_storage_size_bytes",
    "otelcol_exporter_queue_size", "otelcol_exporter_queue_capacity",
    # Prometheus's own, of scraping and of alerts
    "up", "scrape_duration_seconds", "scrape_samples_scraped", "ALERTS",
)  # fmt: skip
_TIMED = ("tekup_tool_seconds", "tekup_mirrored_seconds", "tekup_change_seconds",
          "traefik_service_request_duration_seconds")  # fmt: skip
_PARTS = ("bucket", "count", "sum")
EXPORTED = frozenset((*_COUNTED, *_GAUGED, *(f"{name}_{part}" for name in _TIMED for part in _PARTS)))
"""Every series that somebody shows (docs/contracts.md), in the name a query knows it by."""


def series(query: str) -> set[str]:
    """Names of all series that a query asks for."""
    bare = query
    for pattern, instead in ((_STRINGS, '""'), (_MATCHERS, ""), (_WINDOWS, ""), (_LABELS, " ")):
        bare = pattern.sub(instead, bare)
    return {name for name in _NAME.findall(bare) if name.lower() not in _WORDS}
