"""Capacity: who is near a limit, and how much the telemetry itself takes."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from observability.dashboards.boards import any_of, dashboard_of, section
from observability.dashboards.links import board, logs, runbook
from observability.dashboards.panels import FULL, HALF, Made, above, listing, timeseries
from observability.dashboards.queries import now, query

OF = 'service=~"$service", version=~"$version"'
INSTANCE = "{{service}} {{version}} {{instance}}"
LINKS = (
    board("This service", "service", service="${__field.labels.service}"),
    logs("Its log lines",
         '{service_name="${__field.labels.service}"} | json | instance_extracted="${__field.labels.instance}"'),
)  # fmt: skip
BUSY = f"rate(tekup_tree_cpu_seconds_total{{{OF}}}[$__rate_interval])"


def capacity() -> Dashboard:
    """The dashboard."""
    return dashboard_of(
        "capacity", "Capacity",
        "Who is near a limit of memory, CPU, processes, files, disk or handles; and what does the telemetry itself "
        "take?",
        [any_of("service", "tekup_instance_info", "service"),
         any_of("version", 'tekup_instance_info{service=~"$service"}', "version")],
        section("Near their limits", _near(), *_shares()),
        section("What instances take, with all they started", *_taken()),
        section("Handles and disks", *_held()),
        section("The platform itself", *_platform()),
        section("The telemetry", *_telemetry()),
        service="$service", refresh="30s",
    )  # fmt: skip


def _near() -> Made:
    shares = " or ".join(
        f'label_replace({share}, "resource", "{name}", "", "")'
        for name, share in (
            ("memory", f"tekup_tree_memory_bytes{{{OF}}} / tekup_limit_memory_bytes"),
            ("cpu", f"{BUSY.replace('$__rate_interval', '5m')} / tekup_limit_cpus"),
            ("processes", f"tekup_tree_processes{{{OF}}} / tekup_limit_processes"),
            ("open files", f"tekup_tree_open_files{{{OF}}} / tekup_limit_open_files"),
            ("handles", f"sum by (service, version, instance) (tekup_handles{{{OF}}})"
                        " / sum by (service, version, instance) (tekup_handles_limit)"),
        )
    )  # fmt: skip
    return listing(
        "Nearest to a limit", "The fullest first. Above 80 %: more instances (`tekup scale`), or a higher limit; a "
                              "slope "
        "without load is a leak.",
        now(f"topk(20, {shares})"),
        columns={"service": "Service", "version": "Version", "instance": "Instance", "resource": "Of",
                 "Value": "In use"},
        width=FULL, height=7, units={"In use": "percentunit"},
        links=[board("This service", "service", service="${__data.fields.Service}")],
    )  # fmt: skip


def _shares() -> list[Made]:
    return [
        timeseries("Memory, of its limit", "At 100 % the instance is killed.",
                   query(f"tekup_tree_memory_bytes{{{OF}}} / tekup_limit_memory_bytes", INSTANCE), unit="percentunit",
                   steps=above(0.8, 0.95), width=HALF, links=LINKS, more=[runbook("MemoryNearLimit")]),
        timeseries("CPU, of its limit", "At 100 % it is slowed down, and calls take longer.",
                   query(f"{BUSY} / tekup_limit_cpus", INSTANCE), unit="percentunit", steps=above(0.8, 0.95),
                   width=HALF,
                   links=LINKS, more=[runbook("CpuNearLimit")]),
    ]  # fmt: skip


def _taken() -> list[Made]:
    return [
        timeseries("Memory", "Resident, of the whole process tree.",
                   query(f"tekup_tree_memory_bytes{{{OF}}}", INSTANCE), unit="bytes", links=LINKS,
                   more=[runbook("MemoryNearLimit")]),
        timeseries("CPU", "Cores in use, of the whole process tree.", query(BUSY, INSTANCE), links=LINKS,
                   more=[runbook("CpuNearLimit")]),
        timeseries("Processes", "Chromium's and rg's included.", query(f"tekup_tree_processes{{{OF}}}", INSTANCE),
                   links=LINKS, more=[runbook("ProcessesNearLimit")]),
    ]  # fmt: skip


def _held() -> list[Made]:
    return [
        timeseries("Open files", "Of the whole process tree; sockets are files.",
                   query(f"tekup_tree_open_files{{{OF}}}", INSTANCE), links=LINKS, more=[runbook("FilesNearLimit")]),
        timeseries("Handles", "Browser pages and the like, by kind, and how many there may be.",
                   query(f"sum by (service, kind) (tekup_handles{{{OF}}})", "{{service}} {{kind}}"),
                   query(f"sum by (service, kind) (tekup_handles_limit{{{OF}}})", "{{service}} {{kind}} at most"),
                   links=LINKS, more=[runbook("BrowserExhausted")]),
        timeseries("Disks", "Share in use, by what the disk is for: temporary files, or the fullest of the roots.",
                   query(f"1 - min by (service, place) (tekup_disk_free_bytes{{{OF}}} / tekup_disk_size_bytes)",
                         "{{service}} {{place}}"), unit="percentunit", most=1, steps=above(0.8, 0.95), links=LINKS,
                   more=[runbook("DiskNearlyFull")]),
    ]  # fmt: skip


def _platform() -> list[Made]:
    return [
        timeseries("Memory", "Of Traefik, Consul, Prometheus and the like, each one process.",
                   query('process_resident_memory_bytes{job!="instances"}', "{{job}} {{instance}}"), unit="bytes"),
        timeseries("CPU", "Cores in use, by each program.",
                   query('rate(process_cpu_seconds_total{job!="instances"}[$__rate_interval])',
                         "{{job}} {{instance}}")),
        timeseries("Open files, of their limit", "A proxy out of files takes no more connections.",
                   query('process_open_fds{job!="instances"} / process_max_fds', "{{job}} {{instance}}"),
                   unit="percentunit", steps=above(0.8, 0.95), more=[runbook("FilesNearLimit")]),
    ]  # fmt: skip


def _telemetry() -> list[Made]:
    return [
        timeseries("Samples of a scrape", "By job. A jump is a label that is not bounded; docs/observability.md has "
                                          "the "
                   "bounds.", query("sum by (job) (scrape_samples_scraped)", "{{job}}")),
        timeseries("Time of a scrape", "Near the interval, what Prometheus knows has gaps.",
                   query("max by (job) (scrape_duration_seconds)", "{{job}}"), unit="s", steps=above(3, 5),
                   more=[runbook("ScrapeMissing")]),
        timeseries("Series in memory", "What Prometheus holds at once; each takes a few kilobytes of its memory.",
                   query("sum(prometheus_tsdb_head_series)", "series")),
        timeseries("Metrics on disk", "Blocks and log of Prometheus; its retention bounds them.",
                   query("sum(prometheus_tsdb_storage_blocks_bytes)", "blocks"),
                   query("sum(prometheus_tsdb_wal_storage_size_bytes)", "log"), unit="bytes",
                   more=[runbook("DiskNearlyFull")]),
        timeseries("Taken by the collector", "Log lines and spans a second. None while calls go on: they are lost.",
                   query("sum(rate(otelcol_receiver_accepted_log_records[$__rate_interval]))", "log lines"),
                   query("sum(rate(otelcol_receiver_accepted_spans[$__rate_interval]))", "spans"), unit="ops",
                   more=[runbook("LogsNotArriving"), runbook("TracesNotArriving")]),
        timeseries("Waiting in the collector", "How full its queues are. Full: Loki or Jaeger is gone or too slow, and "
                   "what comes now is lost.",
                   query("max by (exporter) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)",
                         "{{exporter}}"), unit="percentunit", steps=above(0.5, 0.9),
                   more=[runbook("LogsNotArriving"), runbook("TracesNotArriving")]),
    ]  # fmt: skip
