"""Where to look further: dashboards, traces and log lines of a service, where their addresses are known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote, urlencode


@dataclass(frozen=True)
class Links:
    """Base URLs as the operator's browser reaches them, each "" where there is none."""

    grafana: str = ""
    jaeger: str = ""
    logs: str = ""

    @classmethod
    def of(cls, grafana: str, jaeger: str, logs: str) -> Links:
        """Without slashes at the end."""
        return cls(grafana.rstrip("/"), jaeger.rstrip("/"), logs.rstrip("/"))

    def whole(self) -> list[tuple[str, str]]:
        """For the platform: words and address."""
        found = [("Dashboards", f"{self.grafana}/d/tekup-overview")] if self.grafana else []
        return found + ([("Traces", f"{self.jaeger}/search")] if self.jaeger else [])

    def service(self, name: str) -> list[tuple[str, str]]:
        """For a service: words and address."""
        found = []
        if self.grafana:
            found.append(("Dashboard", f"{self.grafana}/d/tekup-service?{urlencode({'var-service': name})}"))
        if self.jaeger:
            found.append(
                ("Traces", f"{self.jaeger}/search?{urlencode({'service': f'tekup-{name}', 'lookback': '1h'})}")
            )
        if self.logs:
            found.append(("Logs", self.logs.replace("{service}", quote(name, safe=""))))
        elif self.grafana:
            asked = {"schemaVersion": 1, "orgId": 1, "panes": _lines(name)}
            found.append(("Logs", f"{self.grafana}/explore?{urlencode(asked)}"))
        return found

    def rollout(self, service: str, stable: str, canary: str) -> list[tuple[str, str]]:
        """For a rollout: words and address."""
        chosen = {"var-service": service, "var-stable": stable, "var-canary": canary}
        return [("Dashboard", f"{self.grafana}/d/tekup-rollout?{urlencode(chosen)}")] if self.grafana else []


def _lines(service: str) -> str:
    """Grafana's explore of a service's log lines, as it stands in an address."""
    query = {"refId": "A", "expr": f'{{service_name="{service}"}}', "datasource": {"type": "loki", "uid": "loki"}}
    pane = {"datasource": "loki", "queries": [query], "range": {"from": "now-1h", "to": "now"}}
    return json.dumps({"a": pane}, separators=(",", ":"))
