"""The commands of the proofs run as documented; their full length is for whoever repeats the figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.timeout(900)]


def run(folder: Path, *command: str, given: Mapping[str, str] = os.environ) -> str:
    """Run a proof in a folder, with these variables; it must find nothing."""
    env = {**given, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=env, capture_output=True, text=True, timeout=850, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.feature("A12", "C1", "A14")
def test_chaos_keeps_its_promises_for_some_faults_and_a_pair(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    names = ["an instance of three killed", "one gate of two killed", "Consul's leader killed"]
    said = run(tmp_path, "tests.chaos", "--only", *names, "--pairs", "1", "--docs")
    assert ", 0 promises broken" in said
    rows = json.loads((tmp_path / "chaos-results/rows.json").read_text())
    assert [row["name"] for row in rows[:3]] == names
    assert all(row["calls"] > 100 and row["changes"] and row["recovered"] for row in rows)
    page = (tmp_path / "docs/reliability.md").read_text()
    assert all(f"| {name} |" in page for name in names)
    assert "${" not in page


@pytest.mark.feature("A14", "C12")
def test_a_short_soak_loses_no_call_and_counts_as_the_gate_does(tmp_path: Path) -> None:
    said = run(tmp_path, "tests.soak", "--minutes", "5")  # in two, browsers that come and go make a line of chance
    assert "nothing failed, nothing grew" in said
    assert " 0 failed" in said
