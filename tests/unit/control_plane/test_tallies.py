"""From samples to readings, without a Prometheus: what counts, what is missing, and what cannot be."""

from __future__ import annotations

import math

import pytest

from control_plane.readings import Counts, Durations, Missing
from control_plane.sequential import Count
from control_plane.tallies import Sample, Sides, Tallies

NOW_S = 1000.0
SIDES = Sides("1.0.0", "1.1.0", "s_1-0-0", "s_1-1-0")
SCRAPED = [
    Sample({"version": "1.0.0"}, NOW_S, NOW_S - 2),
    Sample({"version": "1.1.0"}, NOW_S, NOW_S - 4),
    Sample({"job": "traefik"}, NOW_S, NOW_S - 1),
]


def ended(version: str, outcome: str, calls: float, tool: str = "s_a") -> Sample:
    labels = {"__name__": "tekup_tool_calls_total", "version": version, "tool": tool, "outcome": outcome}
    return Sample(labels, NOW_S, calls)


def bucket(version: str, edge: str, calls: float, tool: str = "s_a") -> Sample:
    labels = {"__name__": "tekup_tool_seconds_bucket", "version": version, "tool": tool, "le": edge}
    return Sample(labels, NOW_S, calls)


def carried(service: str, code: str, calls: float, gate: str = "g1") -> Sample:
    labels = {"__name__": "traefik_service_requests_total", "service": f"{service}@file", "code": code}
    return Sample(labels | {"instance": gate}, NOW_S, calls)


def meant(target: str, code: str, calls: float, gate: str = "g1") -> Sample:
    labels = {"__name__": "traefik_router_requests_total", "service": f"{target}@file", "code": code}
    return Sample(labels | {"instance": gate}, NOW_S, calls)


def reading(check: str, *samples: Sample, scraped: list[Sample] | None = None) -> object:
    return Tallies([*(SCRAPED if scraped is None else scraped), *samples], SIDES, stale_s=15).reading(check)


def test_a_version_that_is_scraped_and_has_no_series_yet_counts_as_zero() -> None:
    for check in ("tool_errors", "deadline", "schema", "http_5xx", "tool_errors:s_a"):
        assert reading(check) == Counts(Count(), Count())
    none = reading("latency")
    assert isinstance(none, Durations)
    assert (none.stable[-1], none.canary[-1]) == (0, 0)


def test_each_outcome_is_bad_for_one_check_and_a_cancelled_call_says_nothing() -> None:
    samples = [ended("1.1.0", outcome, 1) for outcome in ("tool_error", "error", "deadline", "schema", "cancelled")]
    samples += [ended("1.1.0", "ok", 10), ended("1.0.0", "ok", 7), ended("1.0.0", "error", 3, tool="s_b")]
    assert reading("tool_errors", *samples) == Counts(Count(3, 10), Count(2, 14))
    assert reading("deadline", *samples) == Counts(Count(0, 10), Count(1, 14))
    assert reading("schema", *samples) == Counts(Count(0, 10), Count(1, 14))
    assert reading("tool_errors:s_b", *samples) == Counts(Count(3, 3), Count())


def test_durations_are_summed_over_tools_and_names_that_are_no_tool_are_left_out() -> None:
    samples = [bucket(version, edge, calls, tool) for version in ("1.0.0", "1.1.0") for tool in ("s_a", "s_b")
               for edge, calls in (("0.1", 1), ("1.0", 2), ("+Inf", 3))]  # fmt: skip
    samples += [bucket("1.1.0", edge, 9, "(unknown)") for edge in ("0.1", "1.0", "+Inf")]
    assert reading("latency", *samples) == Durations((0.1, 1.0), (2, 4, 6), (2, 4, 6))
    assert reading("latency:s_b", *samples) == Durations((0.1, 1.0), (1, 2, 3), (1, 2, 3))


def test_versions_with_different_edges_cannot_be_compared() -> None:
    samples = [bucket("1.0.0", edge, 1) for edge in ("0.1", "+Inf")]
    samples += [bucket("1.1.0", edge, 1) for edge in ("0.2", "+Inf")]
    assert reading("latency", *samples) == Missing("the histograms of the two versions have different edges")


def test_a_call_the_canary_answers_badly_or_others_take_for_it_is_its_fault() -> None:
    samples = (
        meant("s_1-1-0", "200", 18), meant("s_1-1-0", "503", 2), carried("s_1-1-0.lb", "503", 2),
        carried("s_1-1-0_a1b2c3.lb", "200", 5), meant("s_1-1-0_a1b2c3", "200", 5),
        meant("s_1-0-0", "200", 50), carried("s_1-0-0.lb", "200", 68), carried("s_1-0-0.lb", "502", 1),
    )  # fmt: skip
    assert reading("http_5xx", *samples) == Counts(Count(1, 69), Count(20, 25))


def test_each_gate_is_reckoned_by_itself_and_calls_from_elsewhere_never_excuse() -> None:
    # By the second gate the canary took 30 calls that were meant for stable: no less is its fault at the first.
    samples = (
        meant("s_1-1-0", "200", 10), carried("s_1-1-0.lb", "200", 4),
        meant("s_1-1-0", "200", 10, "g2"), carried("s_1-1-0.lb", "200", 40, "g2"),
    )  # fmt: skip
    assert reading("http_5xx", *samples) == Counts(Count(), Count(6, 50))


def test_another_version_whose_name_begins_alike_is_not_counted() -> None:
    assert reading("http_5xx", carried("s_1-1-0-1.lb", "500", 9)) == Counts(Count(), Count())


@pytest.mark.parametrize("away", ["1.0.0", "1.1.0"])
def test_a_side_that_nobody_scrapes_has_no_readings_but_those_of_gates(away: str) -> None:
    scraped = [sample for sample in SCRAPED if sample.labels.get("version") != away]
    assert reading("tool_errors", scraped=scraped) == Missing(f"Prometheus scrapes no instance of {away}")
    assert reading("http_5xx", scraped=scraped) == Counts(Count(), Count())


def test_an_old_sample_is_stale_and_its_age_is_said() -> None:
    scraped = [SCRAPED[0], Sample({"version": "1.1.0"}, NOW_S, NOW_S - 16), SCRAPED[2]]
    assert reading("latency", scraped=scraped) == Missing(
        "the newest sample of any instance of 1.1.0 is 16 s old, more than 15 s"
    )


def test_without_a_gate_there_are_no_http_errors_to_count() -> None:
    assert reading("http_5xx", scraped=SCRAPED[:2]) == Missing("Prometheus scrapes no gate")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.5])
def test_what_is_no_count_is_missing(value: float) -> None:
    for check, sample in (
        ("tool_errors", ended("1.1.0", "ok", value)),
        ("http_5xx", carried("s_1-1-0.lb", "200", value)),
        ("latency", bucket("1.1.0", "+Inf", value)),
    ):
        assert isinstance(reading(check, sample), Missing), check


def test_a_check_there_is_no_metric_for_says_so() -> None:
    assert reading("coffee") == Missing("there is no metric for a check named coffee")
