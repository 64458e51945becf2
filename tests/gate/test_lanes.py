"""How calls are divided, and what a caller cannot do about it."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.gate import Gate, Maker

pytestmark = pytest.mark.local


def shares(gate: Gate, make: Maker, calls: int) -> Counter[str]:
    """Which target each call reached."""
    headers, seen = make.modern("tools/call", "alpha_read"), Counter[str]()
    with closing(HTTPConnection(gate.public.removeprefix("http://"), timeout=10)) as connection:
        for _ in range(calls):
            connection.request("POST", "/mcp", b"{}", headers)
            sent = dict(json.loads(connection.getresponse().read())["headers"])
            seen[sent["X-Tekup-Route"]] += 1
    return seen


@pytest.mark.feature("C3")
@pytest.mark.parametrize(("weight_pct", "within"), [(10, 25), (1, 5)])
def test_a_canary_gets_its_share_of_5000_calls(gate: Gate, make: Maker, weight_pct: int, within: int) -> None:
    gate.services({"alpha": {"alpha_1-0-0": 100 - weight_pct, "alpha_1-1-0": weight_pct}})
    gate.in_force()
    seen = shares(gate, make, 5000)
    assert abs(seen["alpha_1-1-0"] - 50 * weight_pct) <= within
    assert seen.total() == 5000


@pytest.mark.feature("A1")
def test_instances_of_a_version_share_evenly(gate: Gate, make: Maker) -> None:
    gate.services({"alpha": {"alpha_1-0-0": 100}})
    gate.in_force()
    seen = Counter(gate.call("/mcp", make.modern("tools/call", "alpha_read")).name for _ in range(600))
    assert seen == {"aaaaa1": 300, "aaaaa2": 300}


@pytest.mark.feature("A4")
def test_a_handle_always_reaches_its_instance_and_nobody_elses_does(gate: Gate, make: Maker) -> None:
    headers = make.modern("tools/call", "alpha_read")
    own = headers | {"Mcp-Param-Handle": make.handle("alpha", "aaaaa2", "dev")}
    borrowed = headers | {"Mcp-Param-Handle": make.handle("alpha", "aaaaa2", "narrow")}
    assert {gate.call("/mcp", own).name for _ in range(50)} == {"aaaaa2"}
    assert {gate.call("/mcp", borrowed).name for _ in range(50)} > {"aaaaa2"}


@pytest.mark.feature("A4")
def test_a_handle_of_an_instance_that_died_goes_to_another_once_it_is_found_dead(gate: Gate, make: Maker) -> None:
    headers = make.modern("tools/call", "alpha_read") | {"Mcp-Param-Handle": make.handle("alpha", "aaaaa2", "dev")}
    gate.kill("aaaaa2")
    first = gate.call("/mcp", headers)
    assert (first.status, first.code) == (502, 502)
    make.wait(lambda: gate.call("/mcp", headers).status == 200, "the active check has found it", 8.0)
    answers = [gate.call("/mcp", headers) for _ in range(20)]
    assert [answer.status for answer in answers] == [200] * 20
    assert {answer.headers["x-tekup-route"] for answer in answers} == {"alpha_1-0-0_aaaaa2"}


@pytest.mark.feature("A5")
@pytest.mark.parametrize("name", ["X_Tekup_Client", "x.tekup.client", "X~Tekup~Grant", "Mcp_Name"])
def test_an_alias_of_a_believed_header_is_refused(gate: Gate, make: Maker, name: str) -> None:
    assert gate.call("/mcp", make.modern() | {name: "narrow"}).status == 400
    assert gate.call("/alpha/mcp", make.modern() | make.proof("hub") | {name: "narrow"}, to=gate.internal).status == 400


@pytest.mark.feature("A5")
def test_headers_above_the_limit_are_refused(gate: Gate, make: Maker) -> None:
    assert gate.call("/mcp", make.modern() | {"X-Long": "x" * 20_000}).status == 431
    assert gate.call("/mcp", make.modern() | {"X-Long": "x" * 6000}).status == 200


@pytest.mark.feature("A5")
def test_neither_keys_nor_grants_stand_in_the_log(gate: Gate, make: Maker) -> None:
    gate.call("/mcp", make.modern("tools/call", "alpha_read"))
    grant = make.grant("dev", ["*"])
    gate.call("/alpha/mcp", make.modern() | make.proof("hub") | {"X-Tekup-Grant": grant}, to=gate.internal)
    log = (gate.folder / "traefik.log").read_text()
    assert '"request_X-Tekup-Client":"dev"' in log
    for secret in (make.keys["dev"], grant, make.proof("hub")["X-Tekup-Proof"]):
        assert secret not in log


@pytest.mark.feature("A2")
def test_a_large_body_is_streamed_through(gate: Gate, make: Maker) -> None:
    answer = gate.call("/mcp", make.modern("tools/call", "alpha_read"), content=b"x" * 5_000_000)
    assert (answer.status, answer.body["body"]) == (200, 5_000_000)


@pytest.mark.feature("C1")
def test_a_proven_caller_learns_which_services_live(gate: Gate, make: Maker) -> None:
    said = gate.call("/tekup/services", make.proof("hub"), "GET", to=gate.internal)
    assert said.body == {"services": {"alpha": {"stable": "alpha_1-0-0"}, "beta": {"stable": "beta_1-0-0"}}}
    assert gate.call("/tekup/services", {}, "GET", to=gate.internal).code == 403
    assert gate.call("/tekup/services", make.proof("hub"), "GET").code == 404
