"""The programs for who is on call: which run, what they are given, and what others are told of them."""

from pathlib import Path

import pytest
import yaml

from compose.local.observability import (
    OWN_PORTS,
    collector_values,
    lay_out_extras,
    prometheus_values,
    tracing_env,
    tracing_values,
    where,
)
from compose.local.observability_settings import EXTRAS
from compose.local.platform_table import platform_table
from tests.support.on_call import made_parts


def test_without_being_asked_for_nothing_of_it_is_there_and_nobody_is_told_of_traces(tmp_path: Path) -> None:
    plain = made_parts(tmp_path)
    table = platform_table(plain)
    assert not set(EXTRAS) & {one.name for one in table.processes}
    assert not {port for ports in OWN_PORTS.values() for port in ports} & plain.ports.keys()
    assert "MCP_OTLP_URL" not in table.text()
    assert tracing_values(plain) == {"TRACING": ""}
    assert where(plain) == {}


@pytest.mark.feature("D4")
def test_with_a_collector_every_process_of_ours_and_traefik_are_told_where_traces_go(tmp_path: Path) -> None:
    asked = made_parts(tmp_path, MCP_WITH="collector", MCP_TRACE_SAMPLE="0.25", MCP_CONTROL_PLANE_REPLICAS="2")
    table = platform_table(asked)
    told = [one.env for one in (*table.processes, *(service.pattern for service in table.services))]
    ours = [env for env in told if "MCP_CONSUL_URL" in env]
    assert len(ours) == 7
    assert {(env["MCP_OTLP_URL"], env["MCP_TRACE_SAMPLE"]) for env in ours} == {(where(asked)["collector"], "0.25")}
    assert tracing_env(asked)["MCP_OTLP_URL"].startswith("http://")
    tracing = yaml.safe_load(tracing_values(asked)["TRACING"])["tracing"]
    assert tracing["sampleRate"] == 0.25
    assert f"http://{tracing['otlp']['grpc']['endpoint']}" == where(asked)["collector"]


def test_the_collector_is_stopped_before_those_it_sends_to_and_nobody_waits_for_any_of_them(tmp_path: Path) -> None:
    table = platform_table(made_parts(tmp_path, MCP_WITH="observability"))
    found = {one.name: one for one in table.processes}
    assert found["collector"].after == ("loki", "jaeger")
    others = [one for one in (*table.processes, *(service.pattern for service in table.services))
              if one.name != "collector"]  # fmt: skip
    assert not [one.name for one in others if set(EXTRAS) & set(one.after)]


@pytest.mark.feature("D3")
def test_every_replica_and_only_what_runs_is_scraped(tmp_path: Path) -> None:
    def targets(**settings: str) -> dict[str, list[str]]:
        asked = made_parts(tmp_path, None, **settings)
        lay_out_extras(asked)
        text = (asked.layout.prometheus / "prometheus.yml").read_text()
        return {
            job["job_name"]: [target for config in job["static_configs"] for target in config["targets"]]
            for job in yaml.safe_load(text)["scrape_configs"]
            if "static_configs" in job
        }

    alone = targets(MCP_WITH="prometheus")
    assert {job for job, found in alone.items() if found} == {"control-plane", "consul", "prometheus"}
    issuers = tmp_path / "issuers.json"
    issuers.write_text("[]")
    full = targets(MCP_WITH="observability", MCP_CONTROL_PLANE_REPLICAS="3", MCP_OAUTH_ISSUERS_FILE=str(issuers))
    assert {job for job, found in full.items() if found} >= {"loki", "jaeger", "collector", "oauth"}
    assert len(full["control-plane"]) == 3
    replicas = yaml.safe_load(
        f"[{prometheus_values(made_parts(tmp_path, MCP_WITH='prometheus'))['CONTROL_PLANE_TARGETS']}]"
    )
    assert [one["labels"] for one in replicas] == [{"replica": "control-plane"}]


@pytest.mark.feature("D7")
def test_what_is_kept_for_how_long_is_what_the_settings_say(tmp_path: Path) -> None:
    asked = made_parts(
        tmp_path,
        MCP_WITH="observability",
        MCP_PROMETHEUS_RETENTION="3d",
        MCP_LOKI_RETENTION="36h",
        MCP_JAEGER_RETENTION="2d",
        MCP_LOG_FILE_BYTES="5000",
        MCP_LOG_FILES="7",
    )
    lay_out_extras(asked)
    table = platform_table(asked)
    prometheus = next(one for one in table.processes if one.name == "prometheus")
    assert "--storage.tsdb.retention.time=3d" in prometheus.argv
    folder = asked.layout.folder_of
    assert yaml.safe_load((folder("loki") / "loki.yml").read_text())["limits_config"]["retention_period"] == "36h"
    assert yaml.safe_load((folder("jaeger") / "jaeger.yml").read_text())["badger.span-store-ttl"] == "172800s"
    assert (table.logs.largest_bytes, table.logs.kept) == (5000, 7)


def test_a_collector_alone_sends_to_nobody(tmp_path: Path) -> None:
    values = collector_values(made_parts(tmp_path, MCP_WITH="collector"))
    assert values["LOKI_URL"].endswith(values["JAEGER_ADDRESS"])


@pytest.mark.feature("C13")
def test_the_control_plane_is_told_of_alertmanager_where_it_runs_and_rules_are_kept_beside_prometheus(
    tmp_path: Path,
) -> None:
    def found(asked: str) -> tuple[bool, bool]:
        made = {one.name: one for one in platform_table(made_parts(tmp_path, MCP_WITH=asked)).processes}
        return "rule-keeper" in made, "MCP_ALERTMANAGER_URL" in made["control-plane"].env

    assert [found(asked) for asked in ("", "prometheus", "prometheus,alertmanager")] == [
        (False, False),
        (True, False),
        (True, True),
    ]
