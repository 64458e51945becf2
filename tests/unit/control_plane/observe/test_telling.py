"""`tekup logs`, `tekup trace` and `tekup usage`: what they show, and what they say where there is nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from compose.local.errors import BadInput, LocalError, NotRunning
from compose.local.layout import Layout
from compose.local.levels import set_levels, shown_levels
from compose.local.table import Process, Service, Table, write_table
from control_plane.cli.main import app
from control_plane.cli.observe.jaeger import as_tree, spans_of
from control_plane.cli.observe.usage import usage_query
from tests.support.answering import Answering

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "f" * 32
LINE = {"ts": "2026-01-31T12:00:00.250+00:00", "level": "info", "event": "call", "service": "search",
        "tool": "search_find", "client": "dev", "outcome": "ok", "duration_ms": 12.3, "trace_id": TRACE}  # fmt: skip
TAGS = {"outcome": "tekup.outcome", "status": "http.response.status_code"}
Tekup = Callable[..., Result]


def span(
    name: str, parent: str = "", service: str = "p1", at: int = 0, took: int = 1000, **tags: object
) -> dict[str, Any]:
    """A span as Jaeger gives it; its id is its name."""
    return {
        "traceID": TRACE, "spanID": name, "operationName": name, "duration": took,
        "startTime": 1_769_860_800_000_000 + at,
        "references": [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": parent}] if parent else [],
        "tags": [{"key": TAGS.get(key, key), "type": "string", "value": value} for key, value in tags.items()],
        "processID": service, "logs": [], "warnings": None,
    }  # fmt: skip


ANSWER = {
    "data": [
        {
            "traceID": TRACE,
            "spans": [
                span("tools/call search_find", "EntryPoint", "p2", at=2_000, took=15_300, outcome="ok"),
                span("rg", "tools/call search_find", "p2", at=4_000, took=9_000, error=True),
                span("EntryPoint", at=0, took=20_500, status=200),
                span("lost", "nobody", "p2", at=30_000, took=1_500_000),
            ],
            "processes": {"p1": {"serviceName": "traefik", "tags": []}, "p2": {"serviceName": "tekup-search"}},
        }
    ],
    "total": 0,
    "errors": None,
}
FOUND = {f"/api/traces/{TRACE}": ANSWER}


@pytest.fixture
def tekup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tekup:
    """Runs `tekup` in a directory with the logs of one process and nothing that runs."""
    monkeypatch.chdir(tmp_path)
    for program in ("LOKI", "JAEGER", "PROMETHEUS"):
        monkeypatch.delenv(f"MCP_{program}_URL", raising=False)
    logs = tmp_path / ".tekup" / "logs"
    logs.mkdir(parents=True)
    lines = [json.dumps({**LINE, "n": number, "trace_id": trace}) for number, trace in ((1, TRACE), (2, OTHER))]
    (logs / "search-1.0.0-1.log").write_text("\n".join(lines) + "\n")

    def run(*args: str, **variables: str) -> Result:
        return CliRunner().invoke(app, args, env={f"MCP_{name}": value for name, value in variables.items()})

    return run


def refused(result: Result) -> LocalError:
    assert isinstance(result.exception, LocalError), result.output
    return result.exception


def test_spans_form_a_tree_in_the_order_they_began() -> None:
    assert [(depth, one.name, one.outcome) for depth, one in as_tree(spans_of(ANSWER))] == [
        (0, "EntryPoint", "200"),
        (1, "tools/call search_find", "ok"),
        (2, "rg", "error"),
        (0, "lost", ""),
    ]


def test_spans_that_are_part_of_each_other_end() -> None:
    circle = {**ANSWER["data"][0], "spans": [span("a", "b"), span("b", "a"), span("c", "c")]}  # type: ignore[index]
    assert [one.name for _, one in as_tree(spans_of({"data": [circle]}))] == ["c"]


def test_a_trace_is_shown_as_a_tree_with_its_log_lines_below(tekup: Tekup) -> None:
    with Answering(FOUND) as jaeger:
        shown = tekup("trace", f"00-{TRACE}-b7ad6b7169203331-01", JAEGER_URL=jaeger.url)
        data = json.loads(tekup("trace", TRACE, "--json", JAEGER_URL=jaeger.url).stdout)
    assert shown.exit_code == 0
    rows = shown.stdout.splitlines()
    assert rows[2:6] == [
        "   0.0 ms   20.5 ms  traefik EntryPoint 200",
        "   2.0 ms   15.3 ms    tekup-search tools/call search_find ok",
        "   4.0 ms    9.0 ms      tekup-search rg error",
        "  30.0 ms    1.50 s  tekup-search lost",
    ]
    assert "12:00:00.250 search-1.0.0-1" in rows[-2]
    assert max(map(len, rows)) <= 80
    assert len(data["spans"]) == 4
    assert [one["line"]["n"] for one in data["lines"]] == [1]


def test_without_jaeger_a_trace_is_its_log_lines_and_it_says_so(tekup: Tekup) -> None:
    for variables, said in (
        ({}, "there is no Jaeger to ask"),
        ({"JAEGER_URL": "http://127.0.0.1:1"}, "does not answer"),
    ):
        shown = tekup("trace", TRACE, **variables)
        assert shown.exit_code == 0
        assert said in " ".join(shown.stdout.split())
        assert "call n=1" in " ".join(shown.stdout.split()) or "tool=search_find" in shown.stdout


def test_a_trace_nobody_knows_is_one_sentence(tekup: Tekup) -> None:
    with Answering({}) as jaeger:
        error = refused(tekup("trace", "1" * 32, JAEGER_URL=jaeger.url))
    assert str(error).startswith(
        f"nothing is known of trace {'1' * 32}: no span or log line of it is in Jaeger, nor in"
    )
    assert error.exit_code == 1
    wrong = refused(tekup("trace", "dev"))
    assert isinstance(wrong, BadInput)
    assert "32 hex digits" in str(wrong)


def test_log_lines_are_found_by_trace_client_and_tool(tekup: Tekup) -> None:
    shown = tekup("logs", "--trace", TRACE, "--client", "dev", "--tool", "search_find", "--json")
    assert [json.loads(line)["n"] for line in shown.stdout.splitlines()] == [1]
    both = tekup("logs", "--client", "dev", "-n", "1")
    assert f"trace={OTHER}" in " ".join(both.output.split())
    assert "older lines are left out" in both.output
    assert tekup("logs", "search-1.0.0-1", "-n", "1").stdout == json.dumps({**LINE, "n": 2, "trace_id": OTHER}) + "\n"
    assert tekup("logs").stdout.splitlines()[0] == "2026-01-31 (UTC)"
    assert "no log line fits" in str(refused(tekup("logs", "--client", "nobody")))
    assert "no log line fits" in str(refused(tekup("logs", "--client", "dev", "--since", "15m")))
    for wrong in (("--since", "soon"), ("--trace", "x")):
        assert isinstance(refused(tekup("logs", *wrong)), BadInput)
    assert isinstance(refused(tekup("logs", "nothing")), BadInput)


def test_where_loki_is_dead_the_files_are_read_and_it_says_so(tekup: Tekup) -> None:
    shown = tekup("logs", "--trace", TRACE, LOKI_URL="http://127.0.0.1:1")
    assert "Loki at http://127.0.0.1:1 does not answer" in shown.output
    assert "search-1.0.0-1" in shown.stdout


# -- usage


def counted(client: str, service: str, outcome: str, count: float) -> dict[str, object]:
    return {"metric": {"client": client, "service": service, "outcome": outcome}, "value": [1.0, str(count)]}


def test_usage_is_shown_by_client_and_service(tekup: Tekup) -> None:
    results = [counted("dev", "search", "passed", 7), counted("dev", "search", "refused", 2),
               counted("", "", "refused", 40), counted("ci", "hub", "passed", 0)]  # fmt: skip
    with Answering({"/api/v1/query": {"status": "success", "data": {"result": results}}}) as prometheus:
        shown = tekup("usage", "--since", "7d", PROMETHEUS_URL=prometheus.url)
        data = json.loads(tekup("usage", "--client", "dev", "--json", PROMETHEUS_URL=prometheus.url).stdout)
        asked = [dict(httpx.QueryParams(one.partition(" ")[2]))["query"] for one in prometheus.asked]
    assert [row.split() for row in shown.stdout.splitlines()] == [
        ["CLIENT", "SERVICE", "PASSED", "REFUSED"], ["-", "-", "0", "40"], ["dev", "search", "7", "2"],
    ]  # fmt: skip
    assert data[1] == {"client": "dev", "service": "search", "passed": 7, "refused": 2}
    assert asked == [usage_query("7d"), usage_query("24h", "dev")]


def test_usage_says_what_is_missing(tekup: Tekup) -> None:
    nobody = refused(tekup("usage"))
    assert isinstance(nobody, NotRunning)
    assert "tekup up --with prometheus" in str(nobody)
    with Answering({"/api/v1/query": {"status": "success", "data": {"result": []}}}) as prometheus:
        assert "no call of dev was counted" in str(
            refused(tekup("usage", "--client", "dev", PROMETHEUS_URL=prometheus.url))
        )
    with Answering({"/api/v1/query": {"status": "error", "error": "bad_data"}}, 400) as prometheus:
        assert "refuses the question: bad_data" in str(refused(tekup("usage", PROMETHEUS_URL=prometheus.url)))


# -- levels


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An environment of which nothing runs."""
    layout = Layout(tmp_path)
    layout.make_folders()
    env = {"MCP_LOG_LEVEL_FILE": "{name}"}
    processes = (
        Process(name="agent", group="gate", argv=("x",), env=env),
        Process(name="traefik", group="gate", argv=("x",)),
    )
    pattern = Process(name="search", group="search", argv=("x",), env=env)
    services = (Service(name="search", version="1.0.0", port=1, pattern=pattern),)
    write_table(layout.table, Table(processes=processes, services=services))
    return layout


def test_levels_are_set_by_process_or_group_and_shown(layout: Layout) -> None:
    assert [(one.process, one.level) for one in shown_levels(layout)] == [("agent", ""), ("search-1.0.0-1", "")]
    (search,) = set_levels(layout, "search", ["warning", "services.search=debug"])
    assert search.level == "warning, services.search=debug"
    assert (layout.levels / "search-1.0.0-1").read_text() == "warning\nservices.search=debug\n"
    assert [one.level for one in shown_levels(layout, "gate")] == [""]
    set_levels(layout, "search", ["default"])
    assert not (layout.levels / "search-1.0.0-1").exists()


@pytest.mark.parametrize("words", [["loud"], ["=debug"], ["debug", "default"], ["a b=debug"]])
def test_what_is_no_level_is_refused_before_it_is_written(layout: Layout, words: list[str]) -> None:
    with pytest.raises(BadInput, match="is no level; it takes debug, info"):
        set_levels(layout, "search", words)
    assert list(layout.levels.iterdir()) == []


def test_a_process_whose_level_cannot_be_set_is_named_with_those_that_can(layout: Layout) -> None:
    with pytest.raises(
        BadInput, match="no process or group 'traefik' whose level can be set; there are: agent, gate, search"
    ):
        shown_levels(layout, "traefik")
