"""Service level objectives: what was promised, how much of the allowed failure is left, how fast it goes."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from observability.dashboards.boards import any_of, dashboard_of, section
from observability.dashboards.links import board, runbook
from observability.dashboards.panels import FULL, HALF, Made, above, below, listing, timeseries
from observability.dashboards.queries import now, query

OF = 'service=~"$service"'
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
ITS_OWN = (board("This service", "service", service="${__field.labels.service}"),)
FAST, SLOW = 14.4, 6.0
"""How many times faster than allowed: at the first, a month's failures are gone in two days; at the second, in five."""


def slo() -> Dashboard:
    """The dashboard."""
    return dashboard_of(
        "slo", "Service levels",
        "What was promised, how much of the allowed failure is left, and how fast it goes: 1 uses a month's in a "
        "month.",
        [any_of("service", "slo:objective", "service")],
        section("Promised and kept", _kept()),
        section("Availability: calls that did not fail", *_level("availability")),
        section("Latency: calls that were quick enough", *_level("latency")),
        service="$service", refresh="30s",
    )  # fmt: skip


def _kept() -> Made:
    return listing(
        "Objectives", "Each service's promises, and what was left of the allowed failure over the last three days: "
                      "below 0 "
        "more has failed than was allowed, and what comes next is reliability, not features.",
        now(f"max by (service, slo) (slo:objective{{{OF}}})"),
        now(f"label_replace({_left('availability')}, \"slo\", \"availability\", \"\", \"\")"
            f" or label_replace({_left('latency')}, \"slo\", \"latency\", \"\", \"\")"),
        columns={"service": "Service", "slo": "Promise", "Value #A": "Objective", "Value #B": "Left of what may fail"},
        width=FULL, height=7, units={"Objective": "percentunit", "Left of what may fail": "percentunit"},
        links=[board("This service", "service", service="${__data.fields.Service}")],
    )  # fmt: skip


def _level(slo: str) -> list[Made]:
    return [
        timeseries("Left of what may fail", "Over the last three days. At 0 the promise is just kept.",
                   query(_left(slo), "{{service}}"), unit="percentunit", width=HALF, steps=below(0, 0.5),
                   links=ITS_OWN),
        timeseries("How fast it goes", f"Over the last hour. From {FAST:g} on somebody is woken: a month's failures "
                                       f"in two days.",
                   query(_burn(slo, "1h"), "{{service}}"), width=HALF, steps=above(SLOW, FAST), links=ITS_OWN,
                   more=[runbook("SloBurnFast"), runbook("SloBurnSlow")]),
        timeseries("How fast it goes, by window", "The worst service. Short windows above long ones: it has just "
                                                  "begun; "
                   "below: it is over.",
                   *(query(f"max({_burn(slo, window)})", window) for window in WINDOWS), width=FULL,
                   steps=above(SLOW, FAST), more=[runbook("SloBurnFast"), runbook("SloBurnSlow")]),
    ]  # fmt: skip


def _burn(slo: str, window: str) -> str:
    allowed = f'(1 - max by (service) (slo:objective{{{OF}, slo="{slo}"}}))'
    return f"slo:{slo}:errors_ratio_rate{window}{{{OF}}} / on (service) group_left () {allowed}"


def _left(slo: str) -> str:
    return f"1 - {_burn(slo, '3d')}"
