"""A whole dashboard: its variables, what is marked on every panel, its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery, Dashboard, QueryVariable, Row
from grafana_foundation_sdk.models import dashboard

from observability.dashboards.links import TAG, boards
from observability.dashboards.panels import Made
from observability.dashboards.queries import PROMETHEUS

ENDED = "succeeded|rolled_back|failed|superseded"
"""Phases of a rollout that is over."""


@dataclass(frozen=True)
class Section:
    """A row of panels under a heading."""

    title: str
    panels: Sequence[Made]


def section(title: str, *panels: Made) -> Section:
    """Panels under a heading.

    Args:
        title: The heading.
        panels: From left to right, then down; the widths of a line add up to 24.
    """
    return Section(title, panels)


def one_of(name: str, metric: str, label: str, *, words: str = "", last: bool = False) -> QueryVariable:
    """A variable of which one value is chosen.

    Args:
        name: The variable.
        metric: A series that bears its values, with its selector.
        label: As which label.
        words: What people read; the name unless told.
        last: Whether the highest value comes first.
    """
    order = dashboard.VariableSort.NATURAL_DESC if last else dashboard.VariableSort.NATURAL_ASC
    asked = {
        "qryType": 1,
        "query": f"label_values({metric},{label})",
        "refId": "PrometheusVariableQueryEditor-VariableQuery",
    }
    made = QueryVariable(name).label(words or name.capitalize()).datasource(PROMETHEUS).query(asked)
    return made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(order)


def any_of(name: str, metric: str, label: str, *, words: str = "") -> QueryVariable:
    """A variable of which any number is chosen; all at first.

    Args:
        name: The variable.
        metric: A series that bears its values, with its selector.
        label: As which label.
        words: What people read; the name unless told.
    """
    made = one_of(name, metric, label, words=words).multi(True).include_all(True).all_value(".*")
    return made.current(dashboard.VariableOption(selected=True, text="All", value="$__all"))


def dashboard_of(
    uid: str, title: str, about: str, variables: Sequence[QueryVariable ], *sections: Section,
    service: str = ".*", refresh: str = "10s",
) -> dashboard.Dashboard:  # fmt: skip
    """A dashboard.

    Args:
        uid: Its id, without the prefix.
        title: What it is called.
        about: What question it answers.
        variables: What can be chosen.
        sections: Its rows.
        service: Whose rollouts and alerts are marked, a regular expression.
        refresh: How often it asks again.
    """
    made = Dashboard(f"TekUp / {title}").uid(f"tekup-{uid}").description(about).tags([TAG]).readonly()
    made = made.time("now-1h", "now").refresh(refresh).timezone("browser").link(boards())
    made = made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR).variables(list(variables))
    made = made.annotations([_rollouts(service), _alerts(service)])
    for row in sections:
        made = made.with_row(Row(row.title))
        for panel in row.panels:
            made = made.with_panel(panel)
    return _numbered(made.build())


def _numbered(made: dashboard.Dashboard) -> dashboard.Dashboard:
    """Give each panel its number, by which links name it."""
    for number, panel in enumerate(made.panels or (), start=1):
        panel.id_val = number
    return made


def _rollouts(service: str) -> AnnotationQuery:
    # Grafana titles what Prometheus tells by its label `alertname`.
    running = f'max by (service, phase) (tekup_rollout_phase{{service=~"{service}", phase!~"{ENDED}"}} == 1)'
    named = f'label_replace({running}, "alertname", "Rollout of $1", "service", "(.*)")'
    return AnnotationQuery().name("Rollouts").datasource(PROMETHEUS).enable(True).icon_color("blue").expr(named)


def _alerts(service: str) -> AnnotationQuery:
    firing = f'ALERTS{{alertstate="firing", alertname!="Watchdog", service=~"{service}|"}}'
    return AnnotationQuery().name("Alerts").datasource(PROMETHEUS).enable(True).icon_color("red").expr(firing)
