"""Compose itself reads the Compose files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.programs import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.feature("F1")]

FILES = sorted((ROOT / "compose").glob("docker-compose.*.yml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_compose_accepts_the_file(engine: Engine, path: Path) -> None:
    engine.compose("--file", str(path), "config", "--quiet")
