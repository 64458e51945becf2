"""An engine for container tests, and the images of third parties they run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.engine import engine as an_engine
from tests.support.images import our_images
from tests.support.leftovers import left, removed, things
from tests.support.stand_ins import base_image, stand_ins

HERE = Path(__file__).parent
TEST_S = 20 * 60
"""The first test of a run waits for engine and images; each wait inside has a bound of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here time to get an engine first."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_S))


@pytest.fixture(scope="session")
def run_prefix() -> str:
    """What the names of everything made in this run begin with: Compose projects, and the value of `tekup.test`."""
    return f"tekup-test-{secrets.token_hex(3)}"


@pytest.fixture(scope="session")
def engine(run_prefix: str) -> Iterator[Engine]:
    """A container engine; what tests leave on it fails the run's last test, by name, and is removed."""
    with an_engine() as running:
        before = things(running)
        yield running
        found = list(removed(running, left(running, run_prefix, before)))
        assert not found, f"tests have left {', '.join(found)}: remove what you make, in a fixture's last lines"


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """The image everything is built on."""
    return base_image(engine)


@pytest.fixture(scope="session")
def third_parties(engine: Engine, base: str) -> list[str]:
    """The images of third parties that can be had here, each by its own name; see `stand_ins`."""
    return stand_ins(engine, base)


@pytest.fixture(scope="session")
def images(engine: Engine, base: str) -> str:
    """The platform's own images, built; what building them said."""
    return our_images(engine, base)
