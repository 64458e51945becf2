"""Rules on the real Traefik: whose calls they take, and that the shares are exact whatever happens elsewhere."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.gate import Gate, Maker

pytestmark = [pytest.mark.local, pytest.mark.feature("C8")]
STABLE, CANARY = "alpha_1-0-0", "alpha_1-1-0"
REST: dict[str, dict[str, float]] = {"beta": {"beta_1-0-0": 100}, "hub": {"hub_1-0-0": 100}}


def rule(canary_pct: float, tools: tuple[str, ...] = (), cohort: str = "", name: str = "canary") -> dict[str, object]:
    """A rule that gives the canary a share."""
    lanes = [{"target": STABLE, "weight_pct": 100 - canary_pct}, {"target": CANARY, "weight_pct": canary_pct}]
    return {"name": name, "tools": list(tools), "cohort": cohort, "lanes": lanes}


def decide(gate: Gate, canary_pct: float, *rules: dict[str, object], **more: object) -> None:
    """Put lanes and rules of alpha in force."""
    weights = {STABLE: 100 - canary_pct, CANARY: canary_pct}
    gate.services({"alpha": weights, **REST}, alpha={"rules": list(rules), **more})
    gate.in_force()


def drawn(gate: Gate, headers: dict[str, str], calls: int) -> Counter[str]:
    """Which target each of so many calls took."""
    seen = Counter[str]()
    with closing(HTTPConnection(gate.public.removeprefix("http://"), timeout=20)) as connection:
        for _ in range(calls):
            connection.request("POST", "/mcp", b"{}", headers)
            answer = connection.getresponse()
            sent = dict(json.loads(answer.read()).get("headers", {}))
            seen[sent.get("X-Tekup-Route", f"HTTP {answer.status}")] += 1
    return seen


@contextmanager
def flapping(gate: Gate, canary_pct: float) -> Iterator[Counter[str]]:
    """beta's only instance comes and goes ten times a second, in routes and tables."""
    ended, count = threading.Event(), Counter[str]()
    routes = json.loads((gate.folder / "dynamic/routes.yml").read_text())
    servers = routes["http"]["services"]["beta_1-0-0.lb"]["loadBalancer"]["servers"]

    def flap() -> None:
        while not ended.wait(0.1):
            count["flaps"] += 1
            there = count["flaps"] % 2 == 0
            routes["http"]["services"]["beta_1-0-0.lb"]["loadBalancer"]["servers"] = servers if there else []
            gate.write("dynamic/routes.yml", json.dumps(routes))
            beta = {"beta": {"bbbbb1": "beta_1-0-0_bbbbb1"} if there else {}}
            weights = {STABLE: 100 - canary_pct, CANARY: canary_pct}
            gate.services({"alpha": weights, **REST}, beta, alpha={"rules": [rule(canary_pct, ("alpha_read",))]})

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield count
    finally:
        ended.set()
        thread.join()


@pytest.mark.feature("C4")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("calls", [4_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_a_canary_at_1_percent_gets_it_while_another_service_flaps(gate: Gate, make: Maker, calls: int) -> None:
    decide(gate, 1, rule(1, ("alpha_read",)))
    by_rule, by_lane = (make.modern("tools/call", tool) for tool in ("alpha_read", "alpha_write"))
    with flapping(gate, 1) as count, ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda headers: drawn(gate, headers, calls // 4), (by_rule, by_rule, by_lane, by_lane)))
    assert count["flaps"] > calls // 1_000
    for seen in (parts[0] + parts[1], parts[2] + parts[3]):
        assert seen.keys() == {STABLE, CANARY}
        assert abs(seen[CANARY] - calls // 200) <= max(3, calls // 2_000), seen


def test_a_rule_for_one_tool_takes_its_calls_only(gate: Gate, make: Maker) -> None:
    decide(gate, 0, rule(10, tools=("alpha_read",)))
    taken = drawn(gate, make.modern("tools/call", "alpha_read"), 1000)
    assert abs(taken[CANARY] - 100) <= 3, taken
    assert drawn(gate, make.modern("tools/call", "alpha_readx"), 100) == {STABLE: 100}
    assert drawn(gate, make.modern("tools/call", "alpha_write"), 100) == {STABLE: 100}


def test_each_rule_holds_its_share_by_itself(gate: Gate, make: Maker) -> None:
    decide(gate, 0, rule(50, ("alpha_a",), name="a"), rule(50, ("alpha_b",), name="b"))
    seen = Counter[str]()
    for _ in range(100):  # taken in turns: one walk for both would give each a half of its own
        for tool in ("alpha_a", "alpha_b"):
            route = gate.call("/mcp", make.modern("tools/call", tool)).headers["x-tekup-route"]
            seen[f"{tool} {route}"] += 1
    assert all(47 <= count <= 53 for count in seen.values()), seen
    assert len(seen) == 4


def test_a_rule_for_a_cohort_takes_its_clients_only(gate: Gate, make: Maker) -> None:
    gate.clients({"dev": ["*"], "narrow": ["alpha_read*"]}, {"narrow": "early"})
    decide(gate, 0, rule(100, cohort="early"))
    assert drawn(gate, make.modern("tools/call", "alpha_read", "narrow"), 50) == {CANARY: 50}
    assert drawn(gate, make.modern("tools/call", "alpha_read"), 50) == {STABLE: 50}
    early, late = (
        make.modern("tools/call", "alpha_read") | make.proof("hub") | {"X-Tekup-Grant": make.grant(client, ["*"])}
        for client in ("narrow", "dev")
    )
    assert gate.call("/alpha/mcp", early, to=gate.internal).headers["x-tekup-route"] == CANARY
    assert gate.call("/alpha/mcp", late, to=gate.internal).headers["x-tekup-route"] == STABLE


@pytest.mark.feature("A6")
def test_a_rule_gives_nobody_a_right(gate: Gate, make: Maker) -> None:
    decide(gate, 0, rule(100, tools=("alpha_write",)))
    assert gate.call("/mcp", make.modern("tools/call", "alpha_write", "narrow")).code == 403


def test_a_client_stays_where_it_was_drawn(gate: Gate, make: Maker) -> None:
    clients = ("dev", "narrow")
    for weight in (1, 20, 50, 99):
        decide(gate, weight, split="client", salt="r1")
        for client in clients:
            assert len(drawn(gate, make.modern("tools/call", "alpha_read", client), 20)) == 1
    decide(gate, 100, split="client", salt="r1")
    for client in clients:
        assert drawn(gate, make.modern("tools/call", "alpha_read", client), 5) == {CANARY: 5}


@pytest.mark.feature("C2")
@pytest.mark.parametrize("bad", [{"split": "luck"}, {"rules": [{"name": "r", "lanes": []}]}])
def test_a_bad_rule_costs_its_own_service_and_no_other(gate: Gate, make: Maker, bad: dict[str, object]) -> None:
    gate.services({"alpha": {STABLE: 100}, **REST}, alpha=bad)
    gate.in_force()
    assert "services.alpha is refused" in str(gate.state()["services"]["problems"])
    assert gate.call("/beta/mcp", make.modern("tools/call", "beta_x")).status == 200
    assert gate.call("/alpha/mcp", make.modern("tools/call", "alpha_x")).status == 404
