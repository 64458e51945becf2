"""What the command line reads is what Loki, Jaeger and Prometheus have, asked as they want to be asked."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode

from control_plane.cli.observe.jaeger import Jaeger, as_tree
from control_plane.cli.observe.lines import Wanted
from control_plane.cli.observe.loki import Loki
from control_plane.cli.observe.usage import usage_query
from tests.support.gate import wait_until
from tests.support.on_call import OnCall
from tests.support.programs import program

pytestmark = [pytest.mark.local, pytest.mark.timeout(3600), pytest.mark.feature("D2")]

SEEN_S = 60.0


def test_spans_that_were_sent_come_back_as_a_tree_and_an_unknown_trace_as_none(tmp_path: Path) -> None:
    with OnCall(tmp_path, "jaeger") as running:
        jaeger = Jaeger(running.parts.url("MCP_JAEGER_PORT"))
        assert jaeger.trace(secrets.token_hex(16)) == ()
        provider = TracerProvider(resource=Resource.create({"service.name": "tekup-search"}))
        exporter = OTLPSpanExporter(endpoint=running.parts.url("jaeger-otlp"), insecure=True)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("tools/call search_grep", attributes={"tekup.outcome": "ok"}) as call:
            trace_id = f"{call.get_span_context().trace_id:032x}"
            with tracer.start_as_current_span("rg") as part:
                part.set_status(Status(StatusCode.ERROR))
        provider.shutdown()
        wait_until(lambda: len(jaeger.trace(trace_id)) == 2, "both spans", SEEN_S)
        rows = [(depth, one.service, one.name, one.outcome) for depth, one in as_tree(jaeger.trace(trace_id))]
    assert rows == [(0, "tekup-search", "tools/call search_grep", "ok"), (1, "tekup-search", "rg", "error")]


def test_lines_are_found_in_loki_by_trace_client_tool_level_and_process(tmp_path: Path) -> None:
    trace_id, client = secrets.token_hex(16), f"c-{secrets.token_hex(4)}"
    began_s = time.time()

    def line(ago_s: int, **fields: object) -> str:
        at = datetime.fromtimestamp(began_s - ago_s, UTC)
        return json.dumps({"ts": at.isoformat(timespec="milliseconds"), "level": "info", "event": "call", **fields})

    written = {
        "search-0.1.0-1": [line(30, client=client, tool="search_grep", trace_id=trace_id),
                           line(20, client=f"{client}~0123456789abcdef", tool="search_text"),
                           line(10, client=f"{client}x", tool="search_grep")],
        "hub-0.1.0-1": [line(25, client=client, tool="search_grep", level="warning", trace_id=trace_id)],
        "traefik": [json.dumps({"StartUTC": datetime.now(UTC).isoformat(), "level": "info",
                                "DownstreamStatus": 200,
                                "request_X-Tekup-Client": client, "request_Mcp-Name": "search_grep",
                                "TraceId": trace_id})],
        "agent": ["no json"],
    }  # fmt: skip
    with OnCall(tmp_path, "loki", "collector") as running:
        for process, lines in written.items():
            (running.logs / f"{process}.log").write_text("".join(f"{one}\n" for one in lines))
        loki = Loki(running.parts.url("MCP_LOKI_PORT"))
        wait_until(lambda: len(loki.read(Wanted(), 100).lines) == 6, "all lines in Loki", SEEN_S)

        def found(wanted: Wanted, most: int = 100) -> list[str]:
            return [one.process for one in loki.read(wanted, most).lines]

        assert found(Wanted(trace=trace_id)) == ["search-0.1.0-1", "hub-0.1.0-1", "traefik"]
        assert found(Wanted(client=client)) == ["search-0.1.0-1", "hub-0.1.0-1", "search-0.1.0-1", "traefik"]
        assert found(Wanted(client=client, tool="search_grep", level="warning")) == ["hub-0.1.0-1"]
        assert found(Wanted(process="agent")) == ["agent"]
        assert found(Wanted(client=client, since=began_s - 22)) == ["search-0.1.0-1", "traefik"]
        newest = loki.read(Wanted(trace=trace_id), 2)
        assert ([one.process for one in newest.lines], newest.more) == (["hub-0.1.0-1", "traefik"], True)
        assert loki.read(Wanted(trace=trace_id), 9).lines[0].text == written["search-0.1.0-1"][0]


SERIES = {
    'client="dev",service="search",outcome="passed",instance="gate-1"': "100x30 150x29",  # it has only grown
    'client="dev",service="search",outcome="passed",instance="gate-2"': "_x40 5 9x18",  # it began in between
    'client="dev~0123",service="search",outcome="refused",instance="gate-1"': "0x30 2x29",
    'client="devil",service="search",outcome="passed",instance="gate-1"': "0x30 7x29",
    'client="ci",service="hub",outcome="passed",instance="gate-1"': "100x29 0+1x30",  # its gate started anew
    'client="old",service="hub",outcome="passed",instance="gate-1"': "100x10",  # gone before
}


def samples(client: str, counts: dict[str, int]) -> dict[str, object]:
    wanted = [{"labels": f"{{{labels}}}", "value": value} for labels, value in counts.items()]
    return {"expr": usage_query("30m", client), "eval_time": "60m", "exp_samples": wanted}


def test_usage_counts_every_call_of_the_time_once(tmp_path: Path) -> None:
    dev = {
        'client="dev",service="search",outcome="passed"': 59,
        'client="dev~0123",service="search",outcome="refused"': 2,
    }
    others = {'client="devil",service="search",outcome="passed"': 7, 'client="ci",service="hub",outcome="passed"': 30}
    series = [
        {"series": f"tekup_gate_client_calls_total{{{labels}}}", "values": values} for labels, values in SERIES.items()
    ]
    one = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [samples("", dev | others), samples("dev", dev)],
    }
    file = tmp_path / "usage.json"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [one]}))
    command = (program("promtool"), "test", "rules", file)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
