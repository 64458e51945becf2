"""What an instance counts, and how it shows it."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from services.common.metrics import Metrics, Outcome

OPEN = "application/openmetrics-text;version=1.0.0"
TRACE = 0xABCDEF


def made() -> Metrics:
    return Metrics(service="demo", version="1.0.0", instance="i1")


async def exemplars(metrics: Metrics) -> list[str]:
    """The traces that are shown, quickest bucket first."""
    text, media_type = await metrics.shown(OPEN)
    assert media_type.startswith("application/openmetrics-text")
    families = text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
    samples = [sample for family in families if family.name == "tekup_tool_seconds" for sample in family.samples]
    return [sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar]


@pytest.mark.parametrize(("kept", "shown"), [(TraceFlags.SAMPLED, [f"{TRACE:032x}"]), (TraceFlags.DEFAULT, [])])
async def test_a_measured_call_names_its_trace_where_that_is_kept(kept: int, shown: list[str]) -> None:
    metrics = made()
    span = NonRecordingSpan(SpanContext(TRACE, 1, is_remote=False, trace_flags=TraceFlags(kept)))
    with trace.use_span(span):
        metrics.count("demo_echo", Outcome.OK, 0.003)
    assert await exemplars(metrics) == shown


async def test_a_call_without_a_trace_names_none() -> None:
    metrics = made()
    metrics.count("demo_echo", Outcome.OK, 0.003)
    assert await exemplars(metrics) == []


async def test_every_slow_call_names_its_trace_and_one_quick_call_a_second() -> None:
    metrics = made()
    for number, seconds in enumerate((0.003, 0.04, 0.7, 4.0), start=1):
        span = NonRecordingSpan(SpanContext(number, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
        with trace.use_span(span):
            metrics.count("demo_echo", Outcome.OK, seconds)
    assert await exemplars(metrics) == [f"{number:032x}" for number in (1, 3, 4)]


async def test_who_asks_for_no_form_gets_plain_text_without_series_of_when_series_began() -> None:
    metrics = made()
    metrics.expect("demo_echo")
    text, media_type = await metrics.shown("")
    assert media_type.startswith("text/plain")
    assert b'tekup_tool_calls_total{outcome="ok",tool="demo_echo"} 0.0' in text
    assert b"_created" not in text


async def test_handles_are_told_by_kind_and_their_limit_only_where_there_is_one() -> None:
    metrics = made()
    metrics.watch_handles("page", lambda: 3, 50)
    metrics.watch_handles("book", lambda: 1)
    text = (await metrics.shown(""))[0].decode()
    assert 'tekup_handles{kind="page"} 3.0' in text
    assert 'tekup_handles{kind="book"} 1.0' in text
    assert 'tekup_handles_limit{kind="page"} 50.0' in text
    assert 'tekup_handles_limit{kind="book"}' not in text
