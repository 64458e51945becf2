"""Every alert that comes with the platform, from the rules Prometheus loads."""

from __future__ import annotations

from typing import Any

import yaml

from tests.reference.table import code, heading, table
from tests.support.programs import ROOT

RULES = ROOT / "observability" / "prometheus" / "rules" / "alerts"


def page() -> str:
    """The page of alerts."""
    lines = heading(
        "Alerts",
        "What Prometheus watches for, with the platform's own bounds. Each has a runbook: what it means, what to "
        "look at, what to do. "
        "Rules of your own: [how to](../how-to.md#add-an-alert-rule-of-your-own). Where they are sent: "
        "[contracts](../contracts.md#alerts).",
    )
    for file in sorted(RULES.glob("*.yml")):
        rules: list[dict[str, Any]] = [
            rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"] if "alert" in rule
        ]
        rows = [
            (
                f"[{rule['alert']}](../runbooks/{rule['alert']}.md)",
                rule["labels"]["severity"],
                str(rule.get("for", "at once")),
                rule["annotations"]["description"],
            )
            for rule in rules
        ]
        lines += [f"## {file.stem[0].upper()}{file.stem[1:]}", ""]
        lines += table(("alert", "severity", "after", "what it says"), rows)
        for rule in rules:
            lines += [f"{code(rule['alert'])} ({rule['labels']['severity']}):", "", "```promql"]
            lines += [*str(rule["expr"]).strip().splitlines(), "```", ""]
    return "\n".join(lines)
