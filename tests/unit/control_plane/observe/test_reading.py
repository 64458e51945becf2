"""Log lines of every kind of process are read alike, from files and from Loki; what is wanted is found."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import httpx
import pytest

from control_plane.cli.observe.files import Newest, follow_files, read_files
from control_plane.cli.observe.lines import Line, Wanted, line_of, time_of, trace_id_of
from control_plane.cli.observe.loki import Loki, LokiFailed, query_of
from control_plane.cli.observe.render import LineRows
from tests.support.answering import Answering

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALL = {"ts": "2026-01-31T12:00:00.250+00:00", "level": "info", "event": "call", "service": "search",
        "version": "1.0.0", "instance": "a1b2c3", "trace_id": TRACE, "span_id": "b7ad6b7169203331",
        "tool": "search_find", "client": "dev",
        "outcome": "ok", "duration_ms": 12.345}  # fmt: skip
ACCESS = {"entryPointName": "public", "StartUTC": "2026-01-31T12:00:00.123456789Z", "Duration": 20_500_000,
          "level": "info", "DownstreamStatus": 200, "RequestMethod": "POST", "RequestPath": "/mcp", "TraceId": TRACE,
          "request_X-Tekup-Client": "dev", "request_X-Tekup-Service": "search", "request_Mcp-Name": "search_find",
          "time": "2026-01-31T12:00:01Z"}  # fmt: skip
CONSUL = "2026-01-31T12:00:02.000Z [WARN]  agent: something about dev"
NOON = 1769860800.0


def text_of(fields: dict[str, object], **more: object) -> str:
    return json.dumps({**fields, **more})


@pytest.mark.parametrize(
    ("text", "at", "level", "trace", "client", "tool"),
    [
        (text_of(CALL), NOON + 0.25, "info", TRACE, "dev", "search_find"),
        (text_of(ACCESS), NOON + 0.123456, "info", TRACE, "dev", "search_find"),
        (CONSUL, NOON + 2, "warning", "", "", ""),
        ('{"@timestamp": "2026-01-31T12:00:00Z", "@level": "ERR"}', NOON, "", "", "", ""),
        ("Traceback (most recent call last):", 7.0, "", "", "", ""),
        ('{"torn', 7.0, "", "", "", ""),
        ("{}", 7.0, "", "", "", ""),
    ],
)
def test_each_kind_of_line_is_read(text: str, at: float, level: str, trace: str, client: str, tool: str) -> None:
    line = line_of(text, "x", 7.0)
    assert line.at == pytest.approx(at, abs=1e-6)
    assert (line.level, line.trace, line.client, line.tool) == (level, trace, client, tool)


def test_times_are_read_in_the_forms_that_logs_have() -> None:
    for text in (
        "T12:00:00Z",
        "T13:00:00+01:00",
        "T12:00:00",
        "T12:00:00.000000000Z",
    ):
        assert time_of(f"2026-01-31{text}") == NOON
    assert time_of(NOON) == NOON
    assert time_of("soon") is None
    assert time_of(None) is None


@pytest.mark.parametrize("text", [TRACE, TRACE.upper(), f" {TRACE}\n", f"00-{TRACE}-b7ad6b7169203331-01"])
def test_a_trace_is_named_by_its_id_or_a_traceparent(text: str) -> None:
    assert trace_id_of(text) == TRACE


@pytest.mark.parametrize("text", ["", "dev", TRACE[:-1], f"{TRACE}0"])
def test_what_is_no_trace_is_none(text: str) -> None:
    assert trace_id_of(text) == ""


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted(), True),
        (Wanted(trace=TRACE, client="dev", tool="search_find", since=NOON, level="info", process="x"), True),
        (Wanted(process="y"), False),
        (Wanted(trace=TRACE[::-1]), False),
        (Wanted(client="de"), False),
        (Wanted(tool="search"), False),
        (Wanted(level="warning"), False),
        (Wanted(since=NOON + 1), False),
    ],
)
def test_what_is_wanted_fits(wanted: Wanted, fits: bool) -> None:
    assert wanted.fits(line_of(text_of(CALL), "x", 0)) is fits


def test_users_of_a_client_are_the_clients() -> None:
    line = line_of(text_of(CALL, client="dev~0123456789abcdef"), "x", 0)
    assert Wanted(client="dev").fits(line)
    assert not Wanted(client="de").fits(line)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The logs of three processes, one of which was cut twice."""
    (tmp_path / "search-1.0.0-1.log.2").write_text(text_of(CALL, ts="2026-01-31T11:00:00Z", n=1) + "\n")
    (tmp_path / "search-1.0.0-1.log.1").write_text(text_of(CALL, ts="2026-01-31T11:30:00Z", n=2) + "\n")
    (tmp_path / "search-1.0.0-1.log").write_text(
        text_of(CALL, n=4) + "\n\nnot json\n" + text_of(CALL, client="ci") + "\n"
    )
    (tmp_path / "traefik.log").write_text(text_of(ACCESS, n=3) + "\n" + '{"torn')
    (tmp_path / "consul.log").write_text(f"{CONSUL}\n")
    (tmp_path / "table.json").write_text("{}")
    return tmp_path


def test_lines_of_all_processes_come_in_the_order_of_time_also_those_cut_off(logs: Path) -> None:
    found = read_files(logs, Wanted(client="dev"), 100)
    assert [line.fields["n"] for line in found.lines] == [1, 2, 3, 4]
    assert [line.process for line in found.lines] == ["search-1.0.0-1", "search-1.0.0-1", "traefik", "search-1.0.0-1"]
    assert not found.more
    everything = read_files(logs, Wanted(), 100).lines
    assert len(everything) == 8
    assert everything[[line.text for line in everything].index("not json") - 1].fields["n"] == 4
    assert [line.process for line in read_files(logs, Wanted(process="consul"), 9).lines] == ["consul"]
    assert [line.text for line in read_files(logs, Wanted(level="warning"), 9).lines] == [CONSUL]


def test_of_too_many_lines_the_newest_are_kept_and_memory_is_bounded(logs: Path) -> None:
    assert [line.fields["n"] for line in read_files(logs, Wanted(client="dev"), 2).lines] == [3, 4]
    assert read_files(logs, Wanted(client="dev"), 2).more
    with (logs / "hub-1.log").open("w") as file:
        file.writelines(text_of(CALL, trace_id="", filler="x" * 1000, n=number) + "\n" for number in range(20_000))
    tracemalloc.start()
    found = read_files(logs, Wanted(tool="search_find"), 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.lines) == 50
    assert peak < 4_000_000


def test_a_line_without_an_end_is_read_in_parts_of_bounded_size(logs: Path) -> None:
    (logs / "wild.log").write_bytes(b"\xff" * 1_000_000)
    assert {len(line.text) for line in read_files(logs, Wanted(process="wild"), 9).lines} == {262_144, 213_568}


def test_following_gives_what_is_written_from_now_on_of_new_processes_too(logs: Path) -> None:
    following = follow_files(logs, Wanted(client="dev"))

    def came() -> list[object]:
        return [line.fields["n"] for line in next(following)]

    assert next(following) == ()
    with (logs / "search-1.0.0-1.log").open("a") as file:
        file.write(text_of(CALL, n=5) + "\n" + text_of(CALL, n=6)[:20])
        file.flush()
        assert came() == [5]
        file.write(text_of(CALL, n=6)[20:] + "\n" + text_of(CALL, client="ci") + "\n")
    assert came() == [6]
    (logs / "late.log").write_text(text_of(CALL, n=7) + "\n")
    assert came() == [7]
    (logs / "search-1.0.0-1.log").write_text(text_of(CALL, n=8) + "\n")  # it was cut
    assert came() == [8]


def test_the_newest_of_one_moment_stay_in_the_order_they_came() -> None:
    newest = Newest(3)
    for number in range(5):
        newest.put(Line(1.0, "x", str(number), {}))
    assert [line.text for line in newest.lines()] == ["2", "3", "4"]


# -- Loki


@pytest.mark.parametrize(
    ("wanted", "query"),
    [
        (Wanted(), '{service_name=~".+"}'),
        (Wanted(trace=TRACE), f'{{service_name=~".+"}} | trace_id="{TRACE}"'),
        (Wanted(tool="t", level="warning"), '{service_name=~".+", level=~"warning|error|critical"} | tool="t"'),
        (Wanted(process="hub-1"), '{service_name=~".+", instance="hub-1"}'),
        (Wanted(client="a.b"), '{service_name=~".+"} | (client="a.b" or client=~"a\\\\.b~.*")'),
        (Wanted(tool='x" or "'), '{service_name=~".+"} | tool="x\\" or \\""'),
    ],
)
def test_what_is_wanted_is_asked_of_loki_by_labels_and_metadata(wanted: Wanted, query: str) -> None:
    assert query_of(wanted) == query


def stream(lines: list[tuple[int, str]], **labels: str) -> dict[str, object]:
    return {"stream": labels, "values": [[str(at), text] for at, text in lines]}


def test_lines_are_read_from_loki_with_the_process_and_the_time_it_gives() -> None:
    call, plain = text_of(CALL), "no json at all"
    result = [
        stream(
            [(1769860800250000000, call)], service_name="search", instance="search-1.0.0-1", level="info", tool="other"
        ),
        stream([(1769860800000000000, plain)], service_name="consul", instance="consul", level="error", trace_id=TRACE),
    ]
    with Answering({"/loki/api/v1/query_range": {"status": "success", "data": {"result": result}}}) as loki:
        found = Loki(loki.url).read(Wanted(trace=TRACE, since=NOON), 10)
        assert dict(httpx.QueryParams(loki.asked[0].partition("?")[2]))["query"] == query_of(Wanted(trace=TRACE))
    assert [(line.process, line.text, line.level) for line in found.lines] == [
        ("consul", plain, "error"), ("search-1.0.0-1", call, "info")
    ]  # fmt: skip
    assert found.lines[1].tool == "search_find"
    assert found.lines[0].trace == TRACE
    assert not found.more


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"message": "parse error"}, 400, "answered 400: .*parse error"),
        ({"data": {}}, 200, "is no Loki: KeyError"),
        ([], 200, "is no Loki"),
    ],
)
def test_what_loki_refuses_is_said(answer: object, status: int, said: str) -> None:
    with Answering({"/loki/api/v1/query_range": answer}, status) as loki, pytest.raises(LokiFailed, match=said):
        Loki(loki.url).read(Wanted(), 10)


def test_a_loki_that_is_not_there_is_said() -> None:
    with pytest.raises(LokiFailed, match=r"Loki at http://127\.0\.0\.1:1 does not answer"):
        Loki("http://127.0.0.1:1").read(Wanted(), 10)


# -- for people


def test_lines_are_shown_in_80_columns_with_what_matters() -> None:
    crashed = {"level": "error", "event": "tool.crashed", "exception": "Traceback:\n  x\nValueError: no"}
    texts = [text_of(ACCESS), text_of(CALL), text_of(ACCESS, entryPointName="internal"),
             text_of(CALL, **crashed, reason="y" * 500), "plain text"]  # fmt: skip
    lines = [line_of(text, "search-1.0.0-1", NOON + 1) for text in texts]
    rows = list(LineRows(with_trace=False).rows(lines))
    assert rows[:2] == [
        "2026-01-31 (UTC)",
        "12:00:00.123 search-1.0.0-1  access status=200 path=/mcp client=dev",
    ]
    assert rows[2] == "  service=search tool=search_find 20.5ms"
    said = " ".join(" ".join(rows).split())
    assert "call tool=search_find client=dev outcome=ok 12.3ms" in said
    assert "access (internal) status=200" in said
    assert "ERROR tool.crashed" in said
    assert "exception=ValueError: no" in said
    assert TRACE not in said
    assert max(map(len, rows)) <= 80
    assert f"trace={TRACE}" in " ".join(LineRows(with_trace=True).rows(lines))
