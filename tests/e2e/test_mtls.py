"""Mutual TLS between everything real: Consul's CA, a gate with its agent, control plane, hub and instances."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.consul_process import ConsulProcess
from tests.support.gate import Gate, wait_until
from tests.support.identities import CONNECT, papers
from tests.support.load import body, headers
from tests.support.stage import SERVICE, Stage, stage

pytestmark = [pytest.mark.local, pytest.mark.feature("E1"), pytest.mark.timeout(240)]


def with_ca(folder: Path) -> ConsulProcess:
    return ConsulProcess(folder, connect=CONNECT)


@contextlib.contextmanager
def mutual(folder: Path) -> Iterator[Stage]:
    """A stage on which everybody proves itself by a certificate, with one gate."""
    with stage(folder, gates=(2,), registry=with_ca, mtls=True) as made:
        yield made


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage that tests use and none changes."""
    with mutual(tmp_path_factory.mktemp("stage")) as made:
        yield made


def call(made: Stage, tool: str = f"{SERVICE}_write", **arguments: object) -> httpx.Response:
    """One tool call as a client makes it."""
    params: dict[str, object] = {"name": tool, "arguments": arguments}
    url = f"{made.gates[0].public}/{SERVICE}/mcp"
    return httpx.post(
        url, headers=headers(made.key, "tools/call", tool), json=body("tools/call", params), timeout=20, trust_env=False
    )


def test_a_call_goes_through_the_gate_to_the_service(here: Stage) -> None:
    answer = call(here)
    assert answer.status_code == 200, answer.text
