"""Rules are scaled as they mean it: windows, waits and ages; never names, strings and plain numbers."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from observability.rules import Scale, render, rendered, rule_files, seconds

HALF = Scale(0.5)


@pytest.mark.parametrize(
    ("text", "scaled"),
    [
        ("rate(x_total[5m])", "rate(x_total[150000ms])"),
        ("x > 10m", "x > 300000ms"),
        ("x > 10", "x > 10"),
        ("x * 0.5 > 1.5", "x * 0.5 > 1.5"),
        ("a:b:rate5m > 5m", "a:b:rate5m > 150000ms"),
        ('x{window="5m"} offset 1h', 'x{window="5m"} offset 1800000ms'),
        ("max_over_time(x[1h30m:10s])", "max_over_time(x[2700000ms:10s])"),
        ("p95_5m[1m]", "p95_5m[30000ms]"),
    ],
)
def test_durations_of_an_expression_are_scaled_and_nothing_else(text: str, scaled: str) -> None:
    assert HALF.expression(text).replace(":5000ms]", ":10s]") == scaled


def test_a_window_stays_wide_enough_and_a_bound_does_not_mind() -> None:
    scale = Scale(0.001, window_s=4)
    assert scale.expression("rate(x[5m]) > 10m") == "rate(x[4000ms]) > 600ms"


def test_an_offset_is_a_window_as_well() -> None:
    assert Scale(0.001, window_s=4).expression("x offset 15m > 15m") == "x offset 4000ms > 900ms"


def test_a_window_that_was_narrow_before_does_not_become_wider() -> None:
    assert Scale(0.5, window_s=60).expression("x[30s]") == "x[30000ms]"


def test_waits_and_intervals_are_scaled_and_runbooks_found() -> None:
    text = """
groups:
  - name: g
    interval: 15s
    rules:
      - {alert: A, expr: "x > 1m", for: 5m, keep_firing_for: 2m, annotations: {runbook_url: RUNBOOKS/A.md}}
      - {record: "a:b", expr: "rate(x[5m])"}
"""
    (group,) = yaml.safe_load(render(text, Scale(0.02, window_s=4, interval_s=1), "file:///books/"))["groups"]
    alert, record = group["rules"]
    assert group["interval"] == "1000ms"
    assert (alert["expr"], alert["for"], alert["keep_firing_for"]) == ("x > 1200ms", "6000ms", "2400ms")
    assert alert["annotations"]["runbook_url"] == "file:///books/A.md"
    assert record == {"record": "a:b", "expr": "rate(x[6000ms])"}


@given(st.integers(1, 500), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_at_scale_one_nothing_changes(count: int, unit: str) -> None:
    assert Scale().expression(f"rate(x[{count}{unit}])") == f"rate(x[{count}{unit}])"


@given(st.integers(1, 500), st.sampled_from(["s", "m", "h", "d"]), st.sampled_from([0.5, 0.1, 0.02]))
def test_a_scaled_duration_is_as_long_as_it_should_be(count: int, unit: str, factor: float) -> None:
    scaled = Scale(factor).duration(f"{count}{unit}")
    assert seconds(scaled) == pytest.approx(seconds(f"{count}{unit}") * factor, abs=0.001)


def test_what_is_no_duration_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'soon' is no duration"):
        seconds("soon")


def test_the_files_are_those_of_rules_and_not_their_tests() -> None:
    files = rule_files()
    assert "alerts/instances.yml" in files
    assert not [name for name in files if "test" in name]
    assert rendered(Scale(), "docs/runbooks").keys() == files.keys()
