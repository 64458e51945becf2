"""What runbooks' queries answer about figures that are known, by Prometheus's own tool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alerting import RUNBOOKS, queries
from tests.support.programs import program

pytestmark = [pytest.mark.local, pytest.mark.feature("D4")]
FOR = "40m"
CALLS = 'tekup_tool_calls_total{{service="search", tool="{tool}", version="{version}", outcome="{outcome}"}}'
EDGES = 'tekup_tool_seconds_bucket{{service="search", tool="{tool}", version="{version}", le="{le}"}}'
Json = dict[str, Any]


def calls(a_minute: float, tool: str, version: str, outcome: str) -> Json:
    return _series(CALLS.format(tool=tool, version=version, outcome=outcome), a_minute)


def lasting(a_minute: float, tool: str, version: str, seconds: float) -> list[Json]:
    """Calls of one length, in a histogram of three edges."""
    return [
        _series(EDGES.format(tool=tool, version=version, le=le), a_minute if seconds <= float(le) else 0)
        for le in ("0.5", "2.0", "+Inf")
    ]


def _series(name: str, a_minute: float) -> Json:
    return {"series": name, "values": f"0+{a_minute:g}x60"}


def answers(folder: Path, name: str, number: int, input_series: list[Json], *expected: tuple[str, float]) -> None:
    """A query of a runbook answers exactly this at the end of forty minutes."""
    query = queries((RUNBOOKS / f"{name}.md").read_text())[number]
    for label, value in (("SERVICE", "search"), ("TOOL", "search_text")):
        query = query.replace(label, value)
    samples = [{"labels": labels, "value": value} for labels, value in expected]
    look = {"expr": query, "eval_time": FOR, "exp_samples": samples}
    case = {"interval": "1m", "input_series": input_series, "promql_expr_test": [look]}
    path = folder / "answers.yml"
    path.write_text(yaml.safe_dump({"fuzzy_compare": True, "tests": [case]}))
    done = subprocess.run([program("promtool"), "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_canary_of_few_calls_that_all_fail_comes_before_a_stable_version_of_many_that_seldom_do(
    tmp_path: Path,
) -> None:
    figures = [
        calls(90, "search_text", "1.0.0", "ok"),
        calls(10, "search_text", "1.0.0", "tool_error"),
        calls(4, "search_text", "1.1.0", "schema"),
        calls(4, "search_files", "1.1.0", "ok"),
    ]
    stable = '{tool="search_text", version="1.0.0", outcome="tool_error"}', 0.1
    canary = '{tool="search_text", version="1.1.0", outcome="schema"}', 1
    answers(tmp_path, "CanaryFailing", 1, figures, stable, canary)


def test_a_tool_s_failures_are_told_as_shares_of_each_version_s_calls_whatever_other_tools_do(tmp_path: Path) -> None:
    figures = [
        calls(98, "search_text", "1.0.0", "ok"),
        calls(2, "search_text", "1.0.0", "deadline"),
        calls(1, "search_text", "1.1.0", "error"),
        calls(50, "search_files", "1.0.0", "error"),
    ]
    stable = '{tool="search_text", version="1.0.0", outcome="deadline"}', 0.02
    new = '{tool="search_text", version="1.1.0", outcome="error"}', 1
    answers(tmp_path, "ToolErrors", 0, figures, stable, new)


def test_a_slow_tool_is_told_by_version_whatever_other_tools_do(tmp_path: Path) -> None:
    figures = [
        *lasting(100, "search_text", "1.0.0", 0.1),
        *lasting(10, "search_text", "1.1.0", 1),
        *lasting(1, "search_files", "1.0.0", 10),
    ]
    stable = '{tool="search_text", version="1.0.0"}', 0.475
    new = '{tool="search_text", version="1.1.0"}', 1.925
    answers(tmp_path, "ToolSlow", 0, figures, stable, new)


def test_an_objective_missed_slowly_is_traced_to_what_is_long_over(tmp_path: Path) -> None:
    gone = {"series": CALLS.format(tool="search_text", version="1.0.0", outcome="error"), "values": "0+6x10 60x50"}
    answers(tmp_path, "SloBurnSlow", 2, [gone], ('{tool="search_text", version="1.0.0", outcome="error"}', 60))
