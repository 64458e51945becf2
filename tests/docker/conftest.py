"""Tests that need an engine for containers; its fixtures are in tests/conftest.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import REPOSITORY
from tests.support.container_environment import ContainerEnvironment, container_environment
from tests.support.engine import Engine

HERE = Path(__file__).parent
TEST_S = 20 * 60
"""The first test of a run waits for engine and images; each wait inside has a bound of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here time to get an engine first."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_S))


@pytest.fixture(scope="session")
def dev(
    engine: Engine, images: str, third_parties: list[str], run_prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ContainerEnvironment]:
    """The development environment, up, over a copy of our source; leave it as you found it."""
    folder = tmp_path_factory.mktemp("dev")
    shutil.copytree(REPOSITORY / "services", folder / "source/services", ignore=shutil.ignore_patterns("__pycache__"))
    own = {"MCP_SOURCE": str(folder / "source")}
    with container_environment(engine.env, "dev", folder, f"{run_prefix}-dev", own) as running:
        yield running
