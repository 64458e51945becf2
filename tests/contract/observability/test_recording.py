"""What is recorded of counters is what was meant, by Prometheus's own tool."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.programs import ROOT, program

pytestmark = [pytest.mark.local, pytest.mark.feature("D3")]
RULES = ROOT / "observability" / "prometheus" / "rules"


def test_the_recording_rules_pass_their_own_tests() -> None:
    command = [program("promtool"), "test", "rules", str(RULES / "tests" / "recording.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
