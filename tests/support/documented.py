"""The table of all metrics in docs/contracts.md, and what of a `/metrics` does not fit it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from prometheus_client.parser import text_string_to_metric_families

from tests.support.programs import ROOT, program

_ROW = re.compile(r"^\| `([a-z0-9_*]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Documented:
    """One row.

    Attributes:
        name: The metric's, or a pattern.
        kind: Its type.
        unit: Its unit.
        labels: Each set of labels that its series may have.
        who: Who shows it.
    """

    name: str
    kind: str
    unit: str
    labels: tuple[frozenset[str], ...]
    who: frozenset[str]


def table() -> list[Documented]:
    """All rows, in their order."""
    text = (ROOT / "docs" / "contracts.md").read_text()
    section = text[text.index("## All metrics") :].split("\n## ")[0]
    return [
        Documented(name, kind.strip(), unit.strip(), tuple(map(_set, labels.split("·"))), _set(who.replace("·", ",")))
        for name, kind, unit, labels, who in _ROW.findall(section)
    ]


def problems(who: str, text: str) -> list[str]:
    """What of a `/metrics` is not as documented, or not as Prometheus's own tool wants it.

    Args:
        who: Who shows it, as the table says: `instance`; several joined by a comma.
        text: Prometheus's text.
    """
    rows = [row for row in table() if row.who & _set(who)]
    found = []
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        row = next((row for row in rows if fnmatchcase(name, row.name)), None)
        if row is None:
            found.append(f"{name} is not in the table for {who}")
            continue
        if "*" not in row.name and row.kind != family.type:
            found.append(f"{name} is a {family.type}, and a {row.kind} in the table")
        for sample in family.samples:
            labels = frozenset(sample.labels) - {"le"}
            if labels not in row.labels and not (row.name.endswith("*") and not labels):
                found.append(
                    f"{name} has labels {sorted(labels)}; the table says {[sorted(one) for one in row.labels]}"
                )
    return sorted({*found, *_lint(text)})


def _lint(text: str) -> list[str]:
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def _set(text: str) -> frozenset[str]:
    return frozenset(filter(None, (part.strip() for part in text.split(","))))


def shown(text: str) -> Mapping[str, int]:
    """How many series each metric of a `/metrics` has."""
    return {family.name: len(family.samples) for family in text_string_to_metric_families(text)}
