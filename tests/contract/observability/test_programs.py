"""Loki, Jaeger and the collector take our configuration, and do with logs and traces what it says."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from compose.local.log import bound
from compose.local.observability import lay_out_extras
from tests.support.gate import wait_until
from tests.support.on_call import OnCall, made_parts
from tests.support.programs import program

pytestmark = [pytest.mark.local, pytest.mark.timeout(3600)]

SEEN_S = 90.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    with OnCall(tmp_path_factory.mktemp("on-call"), "loki", "collector") as running:
        yield running


def write(path: Path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.123+00:00", time.gmtime())


def send_span(url: str, name: str) -> str:
    """Send one span as our processes do.

    Returns:
        Its trace's id.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": "test"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=url, insecure=True)))
    with provider.get_tracer("test").start_as_current_span(name) as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
    provider.shutdown()
    return trace_id


@pytest.mark.parametrize("name", ["loki", "collector"])
@pytest.mark.parametrize("slip", [False, True])
def test_a_configuration_is_judged_by_the_program_itself(tmp_path: Path, name: str, slip: bool) -> None:
    parts = made_parts(tmp_path, {name: program(name)}, MCP_WITH="observability")
    lay_out_extras(parts)
    path = parts.layout.folder_of(name) / f"{name}.yml"
    if slip:
        path.write_text(path.read_text() + "\nno_such_thing: {}\n")
    arguments = {"loki": ("-verify-config", f"-config.file={path}"), "collector": ("validate", f"--config={path}")}
    done = subprocess.run([program(name), *arguments[name]], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) != slip, done.stdout + done.stderr


@pytest.mark.feature("D2")
def test_a_line_of_a_service_has_its_labels_and_its_trace_and_is_kept_as_it_was(stack: OnCall) -> None:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    call = {"ts": now(), "level": "info", "event": "call", "service": "search", "trace_id": trace_id,
            "span_id": span_id, "client": "ci", "tool": "search_text", "outcome": "ok", "duration_ms": 1.5}  # fmt: skip
    write(stack.logs / "search-0.1.0-2.log", json.dumps(call))
    query = f'{{service_name="search"}} | trace_id="{trace_id}"'
    wait_until(lambda: stack.lines(query), "the line in Loki", SEEN_S)
    ((labels, line),) = stack.lines(query)
    assert json.loads(line) == call
    expected = {"service_name": "search", "instance": "search-0.1.0-2", "level": "info", "span_id": span_id,
                "client": "ci", "tool": "search_text", "outcome": "ok", "event": "call"}  # fmt: skip
    assert expected.items() <= labels.items()


@pytest.mark.feature("D2")
def test_each_program_is_known_by_its_file_and_what_is_no_json_is_kept_as_text(stack: OnCall) -> None:
    mark = secrets.token_hex(8)
    access = {"StartUTC": now(), "level": "info", "request_X-Tekup-Client": "ci", "request_X-Tekup-Service": "search",
              "request_Mcp-Name": "search_text", "TraceId": secrets.token_hex(16), "mark": mark}  # fmt: skip
    written = {
        "control-plane-2": (json.dumps({"ts": now(), "level": "warning", "mark": mark}), "control-plane", "warning"),
        "traefik": (json.dumps(access), "traefik", "info"),
        "consul": (f"2026-11-26T03:40:42.000Z [ERROR] agent: {mark}", "consul", "error"),
        "pages": (f"127.0.0.1 - - GET / {mark}", "pages", "unknown"),
        "hub-a-b.1-1": (json.dumps({"level": {"a": [mark]}}), "hub", "unknown"),
        "agent": (f'{{"broken": {mark}', "agent", "unknown"),
    }
    for process, (line, _, _) in written.items():
        write(stack.logs / f"{process}.log", line.replace("2026-11-26T03:40:42", now()[:19]))
    query = f'{{service_name=~".+"}} |= "{mark}"'
    wait_until(lambda: len(stack.lines(query)) == len(written), "all lines in Loki", SEEN_S)
    found = {labels["instance"]: labels for labels, _ in stack.lines(query)}
    shown = {instance: (labels["service_name"], labels["level"]) for instance, labels in found.items()}
    assert shown == {instance: (service, level) for instance, (_, service, level) in written.items()}
    expected = {"client": "ci", "service": "search", "tool": "search_text", "trace_id": access["TraceId"]}
    assert expected.items() <= found["traefik"].items()


@pytest.mark.feature("D7")
def test_lines_of_a_file_that_is_cut_in_place_arrive_once_each(stack: OnCall) -> None:
    path, mark = stack.logs / "filesystem-0.1.0-1.log", secrets.token_hex(4)
    for part in range(3):
        write(path, *(f"{mark} {part}-{number} {'x' * 100}" for number in range(200)))
        assert bound(stack.logs, 10_000) == [path.name]
        write(path, f"{mark} {part}-after")
        wait_until(lambda part=part: stack.lines(f'{{service_name="filesystem"}} |= "{mark} {part}-after"'),  # type: ignore[misc]
                   "what came after the cut", SEEN_S)  # fmt: skip
    query = f'{{service_name="filesystem"}} |= "{mark}"'
    wait_until(lambda: len(stack.lines(query)) >= 603, "all lines in Loki", SEEN_S)
    lines = [line for _, line in stack.lines(query)]
    assert (len(lines), len(set(lines))) == (603, 603)


@pytest.mark.feature("D2")
def test_what_is_written_while_loki_is_dead_arrives_when_it_is_back_although_the_collector_was_killed_too(
    stack: OnCall,
) -> None:
    path, mark = stack.logs / "browser-0.1.0-1.log", secrets.token_hex(4)
    stack.end("loki", signal.SIGKILL)
    write(path, *(f"{mark} {number}" for number in range(50)))
    metrics = f"{stack.parts.url('collector-metrics')}/metrics"
    waits = re.compile(r"^otelcol_exporter_queue_size{[^}]*loki[^}]*} [1-9]", re.MULTILINE)
    wait_until(lambda: waits.search(httpx.get(metrics, trust_env=False).text), "lines that wait on disk", SEEN_S)
    stack.end("collector", signal.SIGKILL)
    write(path, *(f"{mark} {number}" for number in range(50, 100)))
    for name in ("collector", "loki"):
        stack.start(name)
    stack.until_ready("loki")
    query = f'{{service_name="browser"}} |= "{mark}"'
    wait_until(lambda: len({line for _, line in stack.lines(query)}) == 100, "all lines in Loki", SEEN_S)


@pytest.mark.feature("D4")
def test_a_span_is_found_in_jaeger_also_one_that_was_sent_while_jaeger_was_dead(tmp_path: Path) -> None:
    with OnCall(tmp_path, "jaeger", "collector") as running:
        url = running.parts.url("MCP_COLLECTOR_PORT")
        first = send_span(url, "first")
        wait_until(lambda: running.trace(first), "the first span", SEEN_S)
        running.end("jaeger", signal.SIGKILL)
        second = send_span(url, "second")
        running.start("jaeger")
        running.until_ready("jaeger")
        wait_until(lambda: running.trace(second), "the second span", SEEN_S)
        assert [span["operationName"] for span in running.trace(second)] == ["second"]
        assert [span["operationName"] for span in running.trace(first)] == ["first"]
        assert [running.end(name) for name in ("collector", "jaeger")] == [0, 0]


@pytest.mark.feature("D7")
def test_a_trace_goes_when_it_is_as_old_as_the_setting_says(tmp_path: Path) -> None:
    with OnCall(tmp_path, "jaeger", "collector", MCP_JAEGER_RETENTION="5s") as running:
        trace_id = send_span(running.parts.url("MCP_COLLECTOR_PORT"), "soon gone")
        wait_until(lambda: running.trace(trace_id), "the span", SEEN_S)
        wait_until(lambda: not running.trace(trace_id), "the span gone", SEEN_S)


@pytest.mark.feature("D7")
def test_loki_applies_the_age_of_the_setting(tmp_path: Path) -> None:
    soon = {"compaction_interval: 5m": "compaction_interval: 1s"}
    applied = "loki_compactor_apply_retention_last_successful_run_timestamp_seconds "
    with OnCall(tmp_path, "loki", instead=soon, MCP_LOKI_RETENTION="36h") as running:
        url = running.parts.url("MCP_LOKI_PORT")
        kept = [line.strip() for line in httpx.get(f"{url}/config", timeout=10, trust_env=False).text.splitlines()]
        assert "retention_period: 1d12h" in kept
        assert "retention_enabled: true" in kept

        def last_run() -> float:
            lines = httpx.get(f"{url}/metrics", timeout=10, trust_env=False).text.splitlines()
            return max((float(line.split()[1]) for line in lines if line.startswith(applied)), default=0)

        wait_until(lambda: last_run() > 0, "retention applied", SEEN_S)


@pytest.mark.feature("D7")
def test_prometheus_says_that_it_keeps_for_so_long_as_the_setting_says(tmp_path: Path) -> None:
    with OnCall(tmp_path, "prometheus", MCP_PROMETHEUS_RETENTION="90m", MCP_PROMETHEUS_BYTES="20000000") as running:
        url = f"{running.parts.url('MCP_PROMETHEUS_PORT')}/api/v1/status/runtimeinfo"
        kept = httpx.get(url, trust_env=False).json()["data"]["storageRetention"]
    assert kept.startswith(("1h30m", "90m"))


def test_loki_ends_when_asked_and_starts_again(stack: OnCall) -> None:
    assert stack.end("loki") == 0
    stack.start("loki")
    stack.until_ready("loki")
