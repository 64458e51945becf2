"""Fixtures every folder of tests may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.consul_process import ConsulProcess


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
