"""The protocol's conformance suite against the everything-server over stdio, through bridge and gate, in both eras."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.conformance.everything import HOST, everything_server, source, stdio_command
from tests.conformance.judging import GOOD, differences, expected_of_legacy, explained, problems
from tests.conformance.suite import Report
from tests.e2e.test_conformance import Runs, listed_by_the_hub
from tests.support.gate import wait_until
from tests.support.key_proxy import key_proxy
from tests.support.programs import ROOT

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.feature("A13", "B11"), pytest.mark.timeout(900)]
PATHS = ("/test/mcp", "/mcp")


@pytest.fixture(scope="module")
def runs(environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The everything-server twice: directly over HTTP, and over stdio as the service `test`."""
    folder = tmp_path_factory.mktemp("conformance-stdio")
    with ExitStack() as life:
        port = life.enter_context(everything_server(source(), folder / "everything.log"))
        life.callback(environment.tekup, "remove", "test")
        added = environment.tekup("add", "test", "--era", "modern", "--cwd", str(ROOT), "--", *stdio_command(source()))
        assert added.returncode == 0, added.stderr
        for method in ("tools/list", "resources/list", "prompts/list"):
            wait_until(partial(listed_by_the_hub, environment, method), f"the hub to have it in {method}", 60)
        gate_url = life.enter_context(key_proxy(environment.gateway_url, environment.key))
        yield Runs(f"http://{HOST}:{port}", gate_url, folder)


@pytest.mark.parametrize("path", PATHS)
def test_over_stdio_it_scores_the_same_but_for_what_stdio_cannot_carry(runs: Runs, path: str) -> None:
    known = explained()

    def judge(report: Report) -> list[str]:
        found = differences(runs.direct(), report)
        return problems(found, (*known.through_the_gate, *known.over_stdio), path)

    assert not runs.judged(path, judge)


@pytest.mark.parametrize("path", PATHS)
def test_older_clients_lose_what_is_listed_and_no_more(runs: Runs, path: str) -> None:
    report = runs.older(path)
    lost = {f"{place.scenario}:{place.check}" for place, one in report.verdicts.items() if one.status not in GOOD}
    assert lost == expected_of_legacy(), json.dumps(sorted(lost ^ expected_of_legacy()))
