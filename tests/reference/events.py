"""Every event: those of the API's stream, and those that stand in log lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from control_plane.api.events import KINDS
from tests.reference.table import code, heading, table
from tests.support.programs import ROOT

LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)*")


def page() -> str:
    """The page of events."""
    lines = heading("Events")
    lines += ["## Live", "", "Of `GET /v1/events` ([how it is resumed](../contracts.md#live-events)).", ""]
    lines += table(("event", "when"), [(code(name), when) for name, when in KINDS.items()])
    lines += [
        "## In log lines", "",
        "The field `event` of a line, by which to look for it; `tekup logs NAME` and Loki have the lines. "
        "[What else stands in a line](../contracts.md#log-lines).", "",
    ]  # fmt: skip
    lines += table(("event", "level", "fields", "written in"), sorted(set(_all())))
    return "\n".join(lines)


def _all() -> Iterator[tuple[str, str, str, str]]:
    for package in ("control_plane", "services", "observability"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for name, level, fields in _in(file):
                yield code(name), level, fields, str(file.relative_to(ROOT))


def _in(file: Path) -> Iterator[tuple[str, str, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        if not (node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)):
            continue
        if EVENT.fullmatch(node.args[0].value):
            level = "error" if node.func.attr == "exception" else node.func.attr
            yield node.args[0].value, level, ", ".join(_fields(node))


def _fields(call: ast.Call) -> list[str]:
    extra = next((one.value for one in call.keywords if one.arg == "extra"), None)
    keys = extra.keys if isinstance(extra, ast.Dict) else []
    return [str(key.value) for key in keys if isinstance(key, ast.Constant)]
