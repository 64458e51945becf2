"""The protocol's conformance suite against the everything-server, directly and through the gate, and against our own.

Two everything-servers are two instances of the service `test`, so that whatever needs one process to remember fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import pytest

from services.common.rights import LISTS
from tests.conformance.everything import HOST, everything_server, source
from tests.conformance.judging import (
    GOOD,
    LEGACY,
    differences,
    expected_of_legacy,
    explained,
    not_met,
    problems,
)
from tests.conformance.suite import Report, Status, run_suite
from tests.support import guest
from tests.support.gate import wait_until
from tests.support.key_proxy import key_proxy
from tests.support.load import body, headers

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
MODERN = ("--requirements", "2026-07-28")
OLDER = ("--requirements", "2025-11-25", "--expected-failures", str(LEGACY))
SERVICE = "test"
WAIT_S = 60.0
INSTANCES = ("0000a1", "0000a2")
FOR_ANY_SERVER = (
    "server-stateless",
    "tools-list",
    "completion-complete",
    "resources-list",
    "prompts-list",
    "sep-2164-resource-not-found",
    "dns-rebinding-protection",
    "caching",
    "http-header-validation",
    "http-custom-header-server-validation",
    "input-required-result-unsupported-methods",
)
"""The scenarios that need no fixture of the everything-server."""
PASSED_DIRECTLY = 169  # a comparison with a run that has proved less would prove less
HASTY = "server-stateless"
"""Gives a stream one second for its first frame, which a loaded machine may miss: it is asked twice."""
PARAM_HEADERS = "http-custom-header-server-validation"


@dataclass
class Runs:
    """Runs of the suite, each made once.

    Attributes:
        direct_url: An everything-server past the gate.
        gate_url: The gate, with a key.
        folder: Where the suite writes.
    """

    direct_url: str
    gate_url: str
    folder: Path
    made: dict[tuple[str, ...], Report] = field(default_factory=dict)

    def run(self, url: str, *options: str) -> Report:
        """A run against any address."""
        asked = (url, *options)
        if asked not in self.made:
            self.made[asked] = run_suite(url, Path(mkdtemp(dir=self.folder)), *options)
        return self.made[asked]

    def direct(self) -> Report:
        """The everything-server alone, in the modern era."""
        url = f"{self.direct_url}/mcp"
        if self.run(url, *MODERN).code:
            self.made.pop((url, *MODERN))
        return self.run(url, *MODERN)

    def modern(self, path: str) -> Report:
        """Through the gate, in the modern era."""
        return self.run(f"{self.gate_url}{path}", *MODERN)

    def judged(self, path: str, judge: Callable[[Report], list[str]]) -> str:
        """The problems a judge finds in the modern era, one a line."""
        told = judge(self.modern(path))
        cut_short = any(Status.ABSENT in one for one in told)  # such a run has judged nothing
        if told and (cut_short or all(f" {HASTY}: " in one for one in told)):
            self.made.pop((f"{self.gate_url}{path}", *MODERN))
            told = judge(self.modern(path))
        return "\n".join([*told, self.modern(path).said[-2000:]] if told else [])

    def older(self, path: str) -> Report:
        """Through the gate, as a client of 2025-11-25."""
        return self.run(f"{self.gate_url}{path}", *OLDER)


def answered_by(environment: Any, port: int) -> bool:
    """Whether the gate has an instance among those it balances over."""
    url = f"http://127.0.0.1:{environment.ports['MCP_PRIVATE_PORT']}/api/http/services/test_1-0-0.lb@file"
    found = httpx.get(url)
    return found.status_code == 200 and str(port) in found.text


def listed_by_the_hub(environment: Any, method: str) -> bool:
    sent = headers(environment.key, method)
    answer = httpx.post(f"{environment.gateway_url}/mcp", headers=sent, json=body(method), timeout=20)
    return '"test_' in answer.text or '"test://' in answer.text


@pytest.fixture(scope="module")
def runs(environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The service `test` in the environment, which knows nothing of it afterwards."""
    folder = tmp_path_factory.mktemp("conformance")
    with ExitStack() as life:
        guest.introduce(environment.state, SERVICE)
        life.callback(guest.forget, environment.control_plane_url, environment.operator_token, SERVICE)
        server = partial(everything_server, source(), folder / "everything.log")
        ports = [life.enter_context(server()) for _ in INSTANCES]
        token = guest.token_of(environment.state, SERVICE)
        for instance, port in zip(INSTANCES, ports, strict=True):
            guest.register(environment.consul_url, SERVICE, instance, "1.0.0", port, token)
            life.callback(guest.deregister, environment.consul_url, SERVICE, instance, token)
        for port in ports:
            wait_until(partial(answered_by, environment, port), "the gate to take the everything-servers in", WAIT_S)
        for method in LISTS:
            wait_until(partial(listed_by_the_hub, environment, method), f"the hub to have them in {method}", WAIT_S)
        gate_url = life.enter_context(key_proxy(environment.gateway_url, environment.key))
        yield Runs(f"http://{HOST}:{ports[0]}", gate_url, folder)


def test_asked_directly_the_everything_server_passes_all_that_is_required(runs: Runs) -> None:
    report = runs.direct()
    assert report.code == 0, report.said
    assert report.counts["SUCCESS"] >= PASSED_DIRECTLY, report.counts


@pytest.mark.feature("A2", "A3", "A13", "A1")
@pytest.mark.parametrize("path", ["/test/mcp", "/mcp"])
def test_through_the_gate_it_scores_the_same_check_by_check(runs: Runs, path: str) -> None:
    def judge(report: Report) -> list[str]:
        return problems(differences(runs.direct(), report), explained().through_the_gate, path)

    assert not runs.judged(path, judge)


def own_problems(path: str, report: Report) -> list[str]:
    """What a service of ours does not meet and nobody has explained."""
    return problems(not_met(report, FOR_ANY_SERVER), explained().not_met, path)


@pytest.mark.feature("A3", "A13")
def test_the_hub_passes_whatever_needs_no_fixture(runs: Runs) -> None:
    assert not runs.judged("/mcp", partial(own_problems, "/mcp"))


@pytest.mark.feature("A2", "A13", "B1", "B2", "B3")
@pytest.mark.parametrize("service", ["browser", "filesystem", "search"])
def test_a_service_of_ours_passes_whatever_needs_no_fixture(runs: Runs, service: str) -> None:
    path = f"/{service}/mcp"
    assert not runs.judged(path, partial(own_problems, path))


@pytest.mark.feature("A13")
@pytest.mark.parametrize("path", ["/test/mcp", "/mcp"])
def test_older_clients_lose_at_the_hub_what_is_listed_and_no_more(runs: Runs, path: str) -> None:
    report = runs.older(path)
    lost = {f"{place.scenario}:{place.check}" for place, one in report.verdicts.items() if one.status not in GOOD}
    assert lost == expected_of_legacy()
    assert report.code == 0, report.said


def test_every_loss_of_older_clients_has_its_reason() -> None:
    entries = [line for line in LEGACY.read_text().splitlines() if line.lstrip().startswith("- ")]
    assert len(entries) == len(expected_of_legacy())
    assert all(re.fullmatch(r"  - \S+  # .+", entry) for entry in entries)


@pytest.mark.feature("A13")
def test_a_gate_that_lost_a_header_would_be_found_out(runs: Runs) -> None:
    alone = ("--scenario", PARAM_HEADERS, "--spec-version", "2026-07-28")
    direct = runs.run(f"{runs.direct_url}/mcp", *alone)
    assert direct.counts["FAILURE"] == 0
    with key_proxy(runs.direct_url, drop="Mcp-Param-") as losing:
        found = differences(direct, runs.run(f"{losing}/mcp", *alone))
    told = problems(found, explained().through_the_gate, "/test/mcp")
    assert any(f"{PARAM_HEADERS}: sep-2243-server-validate-param-match: SUCCESS directly" in one for one in told), told
