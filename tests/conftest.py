"""Fixtures every folder of tests may use."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.consul_process import ConsulProcess
from tests.support.drill import told
from tests.support.engine import Engine
from tests.support.engine import engine as an_engine
from tests.support.images import our_images
from tests.support.leftovers import left, removed, things
from tests.support.prometheus_process import PrometheusProcess
from tests.support.replicas import Crew, replicas
from tests.support.stand_ins import base_image, stand_ins


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests marked `anywhere` run against an environment of local processes, or against another."""
    kinds = ("local", "dev", "staging", "prod")
    parser.addoption("--environment", choices=kinds, default="local", help="what `anywhere` tests run against")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how long each drill took."""
    if lines := list(told()):
        terminalreporter.section("drills")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def shared_consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulProcess]:
    """A real Consul for tests that only add to it."""
    with ConsulProcess(tmp_path_factory.mktemp("consul")) as consul:
        yield consul


@pytest.fixture
def own_consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulProcess]:
    """A real Consul for a test that kills it or counts its contents."""
    with ConsulProcess(tmp_path_factory.mktemp("consul")) as consul:
        yield consul


@pytest.fixture
async def three_replicas(
    own_consul: ConsulProcess, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Crew]:
    """Three replicas of the control plane as processes, one leading, over a Consul of their own.

    Sessions live 2 s, so that tests need not wait long; ``indirect`` parameters set another TTL.
    """
    async with replicas(own_consul, tmp_path, ttl_s=getattr(request, "param", 2)) as crew:
        yield crew


@pytest.fixture
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], PrometheusProcess]]:
    """Starts a real Prometheus on a given Consul; ended after the test."""
    with ExitStack() as running:
        yield lambda consul_url: running.enter_context(
            PrometheusProcess(tmp_path_factory.mktemp("prometheus"), consul_url)
        )


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
