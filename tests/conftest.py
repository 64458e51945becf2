"""Fixtures every folder of tests may use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.consul_process import ConsulProcess
from tests.support.prometheus_process import PrometheusProcess
from tests.support.replicas import Crew, replicas


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests marked `anywhere` run against an environment of local processes, or against another."""
    kinds = ("local", "dev", "staging", "prod")
    parser.addoption("--environment", choices=kinds, default="local", help="what `anywhere` tests run against")


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
