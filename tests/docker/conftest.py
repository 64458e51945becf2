"""Tests that need an engine for containers; its fixtures are in tests/conftest.py."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
TEST_S = 20 * 60
"""The first test of a run waits for engine and images; each wait inside has a bound of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here time to get an engine first."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_S))
