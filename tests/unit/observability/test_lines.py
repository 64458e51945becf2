"""Every log line is one JSON object of bounded length, with who wrote it and the trace it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace

from observability.telemetry.lines import LONGEST_LINE, JsonLines

LINES = JsonLines({"service": "demo", "version": "1.0.0", "instance": "a1b2c3"})
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=8,
)
names = st.text(min_size=1, max_size=20).filter(lambda name: name not in vars(logging.makeLogRecord({})))


def record_of(message: str = "call", **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("services.x", logging.INFO, "f", 1, message, None, None)
    record.__dict__.update(fields)
    return record


def with_fields(record: logging.LogRecord, fields: dict[str, object]) -> logging.LogRecord:
    record.__dict__.update(fields)
    return record


def parsed(record: logging.LogRecord) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = LINES.format(record)
    assert "\n" not in text
    assert len(text.encode()) <= LONGEST_LINE
    line: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return line


def test_a_line_carries_event_fields_and_who_wrote_it() -> None:
    line = parsed(record_of(tool="demo_x", odd=object))
    assert (line["event"], line["level"], line["tool"]) == ("call", "info", "demo_x")
    assert (line["service"], line["version"], line["instance"]) == ("demo", "1.0.0", "a1b2c3")
    assert "logger" not in line
    assert line["ts"].endswith("+00:00")


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.LogRecord("lib", logging.ERROR, "f", 1, "went %s", ("wrong",), sys.exc_info())
    line = parsed(record)
    assert (line["event"], line["logger"]) == ("went wrong", "lib")
    assert "ValueError: a\nb" in line["exception"]


def test_a_line_carries_the_trace_it_was_written_in_and_none_elsewhere() -> None:
    context = trace.SpanContext(0xAB, 0xCD, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        line = parsed(record_of())
    assert (line["trace_id"], line["span_id"]) == (f"{0xAB:032x}", f"{0xCD:016x}")
    assert "trace_id" not in parsed(record_of())


def test_what_a_line_is_about_is_not_taken_for_who_wrote_it() -> None:
    line = parsed(record_of(service="search", version="2.0.0", level="loud", instance="a1b2c3"))
    assert (line["service"], line["version"], line["level"]) == ("demo", "1.0.0", "info")
    assert (line["about_service"], line["about_version"], line["about_level"]) == ("search", "2.0.0", "loud")
    assert "about_instance" not in line


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(names, anything, max_size=5), st.text())
def test_whatever_is_logged_gives_a_line(fields: dict[str, object], message: str) -> None:
    assert parsed(with_fields(record_of(message), fields))["level"] == "info"


long = st.builds(
    lambda sign, length: sign * length, st.sampled_from(("x", "é", "\U0001f600", '"')), st.integers(0, 60_000)
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(names, long | st.lists(long, max_size=3), max_size=4))
def test_a_line_is_bounded_whatever_is_long_in_it(fields: dict[str, object]) -> None:
    parsed(with_fields(record_of(), fields))


def test_what_was_cut_is_said() -> None:
    line = parsed(record_of(reason="x" * 50_000, tool="demo_x", odd={"a": ["y" * 9_000] * 9}))
    assert line["cut"] == ["reason", "odd"]
    assert line["tool"] == "demo_x"
    assert "characters)" in line["reason"]
    many = parsed(record_of(**{f"field_{number}": "x" * 200 for number in range(2_000)}))
    assert many["event"] == "call"
    assert many["cut"].startswith("all but the first 20 of 2")


def test_a_text_of_many_megabytes_is_cut_before_it_is_looked_through() -> None:
    line = parsed(record_of(reason="tk_dev_" + "0" * 20_000_000))
    assert len(line["reason"]) < 5_000


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_printed_is_said_and_breaks_nothing() -> None:
    line = parsed(record_of(odd=Unprintable()))
    assert (line["event"], line["problem"], line["where"]) == ("log.unprintable", "RuntimeError", "f:1")
    wrong = logging.LogRecord("lib", logging.INFO, "f", 1, "%d of %d", ("one",), None)
    assert parsed(wrong)["event"] == "log.unprintable"
    circle: list[object] = []
    circle.append(circle)
    assert parsed(record_of(odd=circle))["event"] == "call"


def test_lines_remember_what_they_said_and_say_it_of_nothing_else() -> None:
    lines = JsonLines({"service": "demo", "version": "1.0.0", "instance": "a1b2c3"})
    for _ in range(3):
        for fields in ({"tool": "1", "n": 1}, {"tool": 1, "n": True}, {"tool": 1.5, "n": None}, {"of": "1"}):
            line = json.loads(lines.format(with_fields(record_of(), dict(fields))))
            assert {name: line[name] for name in fields} == fields
        other = json.loads(lines.format(logging.LogRecord("lib", logging.WARNING, "f", 1, "call", None, None)))
        assert (other["level"], other["logger"]) == ("warning", "lib")


def test_a_time_is_the_moment_of_its_record() -> None:
    record = record_of()
    for created_s, text in ((1.0004, "1970-01-01T00:00:01.000"), (1.9996, "1970-01-01T00:00:01.999"),
                            (86_400.25, "1970-01-02T00:00:00.250")):  # fmt: skip
        record.created = created_s
        assert parsed(record)["ts"] == f"{text}+00:00"
