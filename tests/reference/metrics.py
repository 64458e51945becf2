"""Every metric, with the help that stands at its declaration.

Declarations are read, not run: of Python by their syntax, of the plugin by the lines it writes. Labels, unit and who
shows a metric stand in docs/contracts.md, which another test holds against what a running environment shows.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.reference.table import code, heading, table
from tests.support.documented import table as documented
from tests.support.programs import ROOT

Helps = dict[str, dict[str, str]]
"""Help by the metric's name as it is declared, and by the package that declares it."""
NAME = re.compile(r"tekup_[a-z0-9_]+")
_GO = re.compile(r'"# HELP (tekup_[a-z0-9_]+) (.+?)"')


def page() -> str:
    """The page of metrics."""
    helps = declared()
    lines = heading(
        "Metrics",
        "Prometheus's text, or OpenMetrics where it is asked for. Labels that Prometheus adds are not listed. "
        "What some of them count, in more words: [contracts](../contracts.md#all-metrics). "
        "What is worth looking at: [observability](../observability.md).",
    )
    shown = [one for one in documented() if "*" not in one.name]
    for who in sorted({name for one in shown for name in one.who}):
        rows = [
            (code(one.name), one.kind, one.unit, _labels(one.labels), help_of(one.name, who, helps))
            for one in shown
            if who in one.who
        ]
        lines += [f"## {who}", "", *table(("name", "type", "unit", "labels", "what it says"), rows)]
    return "\n".join(lines)


def _labels(sets: tuple[frozenset[str], ...]) -> str:
    return " · ".join(", ".join(sorted(one)) for one in sets)


def help_of(name: str, who: str, helps: Helps) -> str:
    """The help of a metric, "" where none is declared.

    Args:
        name: the metric's; Python's client adds `_total` to that of a counter by itself.
        who: who shows it; two may show one of the same name, each with help of its own.
        helps: what is declared.
    """
    said = helps.get(name) or helps.get(name.removesuffix("_total"), {})
    package = "control_plane" if who in ("control-plane", "oauth") else "services"
    return said.get(package) or next(iter(said.values()), "")


def declared() -> Helps:
    """The help of every metric that is declared."""
    found: Helps = {}
    for name, said in _GO.findall((ROOT / "traefik" / "plugin" / "metrics.go").read_text()):
        found.setdefault(name, {})["traefik"] = said
    for package in ("control_plane", "services", "observability"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for name, said in _in(file):
                found.setdefault(name, {})[package] = said
    return found


def _in(file: Path) -> Iterator[tuple[str, str]]:
    text = file.read_text()
    if "tekup_" not in text:
        return
    tree = ast.parse(text)
    assigned = sorted(_assigned(tree))

    def said(node: ast.expr) -> str:
        """A text, or that of the name that was given one last above."""
        if isinstance(node, ast.Name):
            return next(
                (said for line, name, said in reversed(assigned) if name == node.id and line <= node.lineno), ""
            )
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""

    for node in ast.walk(tree):
        for name, told in _pairs(node):
            if name is not None and NAME.fullmatch(said(name)) and " " in said(told):
                yield said(name), said(told)


def _assigned(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    yield node.lineno, target.id, node.value.value


def _pairs(node: ast.AST) -> list[tuple[ast.expr | None, ast.expr]]:
    """What may be a name and its help: two arguments, two of a tuple, a key and its value."""
    if isinstance(node, ast.Dict):
        return list(zip(node.keys, node.values, strict=True))
    parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
    return [(parts[0], parts[1])] if len(parts) > 1 else []
