"""One world for all attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.world import World
from tests.attacks.world import world as started


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What is attacked."""
    with started(tmp_path_factory.mktemp("attacks")) as made:
        yield made


@pytest.fixture(scope="session")
def said() -> list[str]:
    """Every answer of the run."""
    return []


@pytest.fixture(scope="session")
def marks() -> dict[str, str]:
    """The mark of each row that must not run."""
    return {}
