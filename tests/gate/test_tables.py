"""Tables: when a change is in force, what a bad one does, and what is lost meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.gate import Gate, Load, Maker

pytestmark = pytest.mark.local

RIGHTS = {"dev": ["*"], "narrow": ["alpha_read*"]}


def problems(gate: Gate, table: str) -> list[str]:
    """What the plugin says is wrong with a table."""
    said = gate.state()[table]["problems"]
    assert isinstance(said, list)
    return [str(item) for item in said]


@pytest.mark.feature("C2")
def test_twenty_shifts_under_load_lose_nothing(
    gate: Gate, make: Maker, load: Callable[[str, dict[str, str]], Load]
) -> None:
    with load("/mcp", make.modern("tools/call", "alpha_read")) as calls:
        for turn in range(20):
            gate.services({"alpha": {"alpha_1-0-0": 100 - 5 * turn, "alpha_1-1-0": 5 * turn}})
            gate.in_force()
            calls.more(40)
    assert not calls.lost
    assert calls.seen["aaaaa3"] > 100


@pytest.mark.feature("C2")
def test_every_shift_is_in_force_by_the_table_alone(gate: Gate, make: Maker) -> None:
    headers = make.modern("tools/list")

    def goes_to(target: str) -> Callable[[], bool]:
        return lambda: gate.call("/alpha/mcp", headers).headers["x-tekup-route"] == target

    for turn in range(20):
        stable = ("alpha_1-0-0", "alpha_1-1-0")[turn % 2]
        gate.services({"alpha": {stable: 100}})
        make.wait(goes_to(stable), f"{stable} to take all")


@pytest.mark.feature("A5")
def test_a_revocation_by_the_table_alone_holds_for_keys_and_grants(gate: Gate, make: Maker) -> None:
    granted = make.modern() | make.proof("hub") | {"X-Tekup-Grant": make.grant("dev", ["*"])}
    assert gate.call().status == 200
    assert gate.call("/alpha/mcp", granted, to=gate.internal).status == 200
    gate.clients(RIGHTS, dev={"revoked": 1})
    make.wait(lambda: gate.call().status != 200, "the revocation")
    assert gate.call().code == 401
    assert gate.call("/alpha/mcp", granted, to=gate.internal).code == 401


@pytest.mark.feature("A6")
def test_the_rights_of_now_count_and_not_those_of_the_grant(gate: Gate, make: Maker) -> None:
    old = make.modern("tools/call", "alpha_write") | make.proof("hub") | {"X-Tekup-Grant": make.grant("dev", ["*"])}
    assert gate.call("/alpha/mcp", old, to=gate.internal).status == 200
    gate.clients({"dev": ["alpha_read"]})
    gate.in_force()
    assert gate.call("/alpha/mcp", old, to=gate.internal).code == 403
    reading = gate.call("/alpha/mcp", old | {"Mcp-Name": "alpha_read"}, to=gate.internal)
    assert reading.headers["x-tekup-grant"] == make.grant("dev", ["alpha_read"])


@pytest.mark.feature("C2")
@pytest.mark.parametrize("content", ["", '{"serial": 99, "cli', "[]", '{"serial": 99}'])
def test_a_bad_file_leaves_the_last_good_in_force(gate: Gate, make: Maker, content: str) -> None:
    for table in ("services", "clients", "secrets"):
        gate.write(f"tables/{table}.json", content)
        make.wait(partial(problems, gate, table), f"a problem of {table}")
        assert "last good one stays in force" in problems(gate, table)[0]
        assert gate.call().status == 200


@pytest.mark.feature("A5")
def test_a_bad_client_is_that_client_refused_and_nobody_elses_revocation_waits(gate: Gate, make: Maker) -> None:
    gate.clients(RIGHTS, dev={"revoked": 1})
    table = json.loads((gate.folder / "tables/clients.json").read_text())
    table["clients"]["narrow"]["allow"] = "*"
    table["clients"]["Bad Name"] = 7
    gate.write("tables/clients.json", json.dumps(table))
    gate.in_force()
    make.wait(lambda: len(problems(gate, "clients")) == 2, "two problems")
    assert gate.call().code == 401
    assert gate.call(headers=make.modern(client="narrow")).code == 401


@pytest.mark.feature("C2")
def test_a_deleted_table_leaves_the_last_good_in_force(gate: Gate, make: Maker) -> None:
    (gate.folder / "tables/services.json").unlink()
    make.wait(lambda: problems(gate, "services") != [], "a problem")
    assert gate.call("/alpha/mcp").status == 200


@pytest.mark.feature("C2")
def test_a_restored_older_file_is_a_change_too(gate: Gate, make: Maker) -> None:
    older = (gate.folder / "tables/services.json").read_text()
    serial = gate.serial - 1
    gate.services({"alpha": {"alpha_1-1-0": 100}})
    gate.in_force()
    gate.write("tables/services.json", older)
    make.wait(lambda: gate.state()["services"]["serial"] == serial, "the older serial")
    assert gate.call("/alpha/mcp").headers["x-tekup-route"] == "alpha_1-0-0"


@pytest.mark.feature("C2")
def test_hundreds_of_table_writes_and_reloads_under_load_lose_nothing(
    gate: Gate, make: Maker, load: Callable[[str, dict[str, str]], Load]
) -> None:
    with load("/mcp", make.modern("tools/call", "beta_x")) as calls:
        for turn in range(200):
            gate.services({"alpha": {"alpha_1-0-0": 99, "alpha_1-1-0": 1}, "beta": {"beta_1-0-0": 100}})
            gate.clients(RIGHTS | {"late": [f"x{turn}"]})
            if turn % 40 == 0:
                flap(gate, with_alpha=turn % 80 == 0)
        gate.in_force()
    assert set(calls.seen) == {"bbbbb1"}
    assert calls.total > 200


def flap(gate: Gate, *, with_alpha: bool) -> None:
    """A target of an unrelated service goes, or comes back."""
    world = {"alpha": {"alpha_1-0-0": ["aaaaa1"], "alpha_1-1-0": ["aaaaa3"]}, "beta": {"beta_1-0-0": ["bbbbb1"]}}
    gate.routes(world if with_alpha else {"beta": world["beta"]})


@pytest.mark.feature("D3")
def test_decisions_ages_and_last_uses_are_counted(gate: Gate, make: Maker) -> None:
    gate.call("/mcp", make.modern("tools/call", "beta_x"))
    gate.call("/mcp", {})
    said = gate.http.get(f"{gate.private}/metrics").text
    assert (
        'tekup_gate_decisions_total{class="key",era="modern",service="beta",tool="beta_x",target="beta_1-0-0",reason=""}'
        in said
    )
    assert 'tekup_gate_decisions_total{class="none",era="legacy",service="",tool="",target="",reason="no_key"} ' in said
    assert 'tekup_gate_client_calls_total{client="dev",service="beta",outcome="passed"} ' in said
    assert 'tekup_gate_client_calls_total{client="",service="",outcome="refused"} ' in said
    assert 'tekup_gate_table_age_seconds{table="services"} 0.' in said
    used = next(line for line in said.splitlines() if line.startswith('tekup_gate_key_last_used_seconds{key="dev-1"'))
    assert abs(int(used.split()[-1]) - time.time()) < 5
