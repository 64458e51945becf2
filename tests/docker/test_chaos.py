"""Production in containers under faults, as `make chaos ARGS=--containers` has it, for some of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_proofs import run
from tests.support.engine import Engine

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200), pytest.mark.feature("A12", "C1")]


def test_chaos_in_containers_keeps_its_promises_for_some_faults_and_a_pair(
    engine: Engine, images: str, third_parties: list[str], tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    names = ["an instance of two killed", "one gate of two killed", "the collector killed"]
    command = ("tests.chaos", "--containers", "--pairs", "1", "--docs", "--only", *names)
    said = run(tmp_path, *command, given=engine.env)
    assert ", 0 promises broken" in said
    page = (tmp_path / "docs/reliability-containers.md").read_text()
    assert all(f"| {name} |" in page for name in names)
    assert "${" not in page
