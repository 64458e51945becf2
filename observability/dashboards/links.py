"""Where a panel leads: other dashboards, log lines, traces, runbooks. The time shown goes along."""

from __future__ import annotations

import json
import urllib.parse

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

from observability.dashboards.queries import JAEGER, LOKI

RUNBOOKS = "/public/runbooks"
"""Where Grafana itself serves docs/runbooks: whoever runs it mounts that folder there."""
TAG = "tekup"


def board(title: str, uid: str, **variables: str) -> DashboardLink:
    """To another dashboard.

    Args:
        title: What it says.
        uid: Which, without the prefix.
        variables: What it shows there; `${__field.labels.<label>}` is the series' own.
    """
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return _link(title, f"/d/tekup-{uid}?${{__url_time_range}}{chosen}")


def logs(title: str, expr: str) -> DashboardLink:
    """To log lines.

    Args:
        title: What it says.
        expr: LogQL; `${…}` is filled in by Grafana.
    """
    return _link(title, _explore(LOKI, {"expr": expr, "queryType": "range"}))


def traces(title: str, service: str, tags: str = "") -> DashboardLink:
    """To traces.

    Args:
        title: What it says.
        service: Whose spans; a process calls itself `tekup-<service>` there.
        tags: Which of them, as `name=value name=value`.
    """
    asked = {"queryType": "search", "service": service, "limit": 20, **({"tags": tags} if tags else {})}
    return _link(title, _explore(JAEGER, asked))


def runbook(alert: str) -> DashboardLink:
    """To what to do about an alert.

    Args:
        alert: Its name; `${…}` is filled in by Grafana.
    """
    title = "What to do: its runbook" if alert.startswith("$") else f"What to do: {alert}"
    return _link(title, f"{RUNBOOKS}/{alert}.md")


def boards() -> DashboardLink:
    """To all dashboards of the platform, with the variables chosen here."""
    made = DashboardLink("TekUp").type(DashboardLinkType.DASHBOARDS).tags([TAG]).icon("external link")
    return made.as_dropdown(False).include_vars(True).keep_time(True)


def _explore(source: DataSourceRef, asked: dict[str, object]) -> str:
    pane = {
        "datasource": source.uid,
        "queries": [{"refId": "A", "datasource": {"type": source.type_val, "uid": source.uid}, **asked}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    # Grafana looks for its ${…} in the link as it stands, so those signs stay as they are.
    panes = urllib.parse.quote(json.dumps({"a": pane}, separators=(",", ":")), safe="${}:,._")
    return f"/explore?schemaVersion=1&orgId=1&panes={panes}"


def _link(title: str, url: str) -> DashboardLink:
    return DashboardLink(title).type(DashboardLinkType.LINK).url(url).target_blank(True)
