"""The protocol's conformance suite against the everything-server over stdio, through a bridge and the gate.

It is called `test`, as its tools are, so that they are called behind the gate as the suite calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.everything import HOST, everything_server, over_stdio, source
from tests.conformance.judging import differences, explained, problems
from tests.conformance.suite import Report, run_suite
from tests.support.key_proxy import key_proxy

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.feature("B11", "A13")]
MODERN = ("--requirements", "2026-07-28")
PATH = "/test/mcp"
HASTY = "server-stateless"
"""Gives a stream one second for its first frame, which a loaded machine may miss: it is asked again."""
TRIES = 3


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """How it does over HTTP, with nothing between."""
    folder = tmp_path_factory.mktemp("direct")
    with everything_server(source(), folder / "everything.log") as port:
        return run_suite(f"http://{HOST}:{port}/mcp", folder / "suite", *MODERN)


@pytest.fixture(scope="module")
def bridged(environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Report]]:
    """Asks how it does behind a bridge."""
    added = environment.tekup("add", "test", "--era", "modern", "--", *over_stdio(source()))
    assert added.returncode == 0, added.stdout + added.stderr
    try:
        with key_proxy(environment.gateway_url, environment.key) as url:
            yield lambda: run_suite(f"{url}{PATH}", tmp_path_factory.mktemp("bridged") / "suite", *MODERN)
    finally:
        environment.tekup("remove", "test")


def test_what_an_everything_server_over_stdio_loses_behind_a_bridge_is_listed_and_no_more(
    direct: Report, bridged: Callable[[], Report]
) -> None:
    told: list[str] = []
    for _ in range(TRIES):
        told = problems(differences(direct, bridged()), explained().over_stdio, PATH)
        if not told or not all(f" {HASTY}: " in one for one in told):
            break
    assert not told, "\n".join(told)
