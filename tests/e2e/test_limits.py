"""Limits over two real gates: together they allow what was decided, whoever of the platform is dead."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.support.gate import Gate, wait_until
from tests.support.load import body, headers
from tests.support.stage import Stage, stage

pytestmark = [pytest.mark.local, pytest.mark.feature("A7"), pytest.mark.timeout(300)]
NEVER = 0.001


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two gates, one control plane."""
    with stage(tmp_path_factory.mktemp("limits")) as made:
        yield made


def decide(play: Stage, *limits: dict[str, object]) -> None:
    """Put these limits of the client in force."""
    resource = {"kind": "Client", "id": "dev", "limits": list(limits)}
    done = play.ask("POST", "/v1/state/apply", {"resources": [resource], "reason": "test"})
    assert done["in_force"]


def table(gate: Gate) -> dict[str, object]:
    """What the plugin decides by."""
    found: dict[str, object] = json.loads((gate.folder / "tables/clients.json").read_text())
    return found


def call(play: Stage, gate: Gate, tool: str = "ledger_list") -> int:
    """The status of one call."""
    sent = headers(play.key, "tools/call", tool)
    arguments = {"text": "x"} if tool == "ledger_echo" else {}
    answer = httpx.post(
        f"{gate.public}/ledger/mcp",
        headers=sent,
        json=body("tools/call", {"name": tool, "arguments": arguments}),
        timeout=40,
        trust_env=False,
    )
    return answer.status_code


def spend(play: Stage, calls: int, tool: str = "ledger_list") -> Counter[int]:
    """Statuses of calls over both gates in turn."""
    return Counter(call(play, play.gates[number % 2], tool) for number in range(calls))


def test_two_gates_together_allow_what_was_decided(play: Stage) -> None:
    wait_until(lambda: all(table(gate)["gates"] == 2 for gate in play.gates), "each gate knows of the other", 30)
    decide(play, {"name": "both", "per_s": NEVER, "burst": 10})
    assert spend(play, 16) == {200: 10, 429: 6}


def test_limits_hold_without_control_plane_and_consul(play: Stage) -> None:
    decide(play, {"name": "alone", "tools": ["ledger_echo"], "per_s": NEVER, "burst": 4})
    play.replicas["r1"].send(signal.SIGSTOP)
    play.consul.freeze()
    try:
        assert spend(play, 8, "ledger_echo") == {200: 4, 429: 4}
        assert spend(play, 8) == {200: 8}
    finally:
        play.consul.thaw()
        play.replicas["r1"].send(signal.SIGCONT)


def test_the_gate_knows_how_old_its_policy_is(play: Stage) -> None:
    def age_s(gate: Gate) -> float:
        page = gate.http.get(f"{gate.private}/metrics").text
        return float(next(line for line in page.splitlines() if line.startswith("tekup_gate_policy_age")).split()[1])

    decide(play)
    assert all(age_s(gate) < 15 for gate in play.gates)
    play.consul.freeze()
    try:
        wait_until(lambda: all(age_s(gate) > 15 for gate in play.gates), "it grows while Consul is away", 40)
    finally:
        play.consul.thaw()
    wait_until(lambda: all(age_s(gate) < 15 for gate in play.gates), "young again", 40)


def test_a_restarted_traefik_keeps_its_limits_and_begins_them_anew(play: Stage) -> None:
    decide(play, {"name": "restart", "per_s": NEVER, "burst": 4})
    assert spend(play, 6) == {200: 4, 429: 2}
    play.gates[0].stop()
    play.gates[0].start()
    assert Counter(call(play, play.gates[0]) for _ in range(4)) == {200: 2, 429: 2}
    assert call(play, play.gates[1]) == 429


@pytest.mark.long
def test_what_a_gate_left_behind_goes_to_the_other_after_a_while(play: Stage) -> None:
    decide(play, {"name": "left", "per_s": NEVER, "burst": 6})
    play.agents[1].end(signal.SIGKILL)
    wait_until(lambda: table(play.gates[0])["gates"] == 1, "only one gate is left", 90)
    assert Counter(call(play, play.gates[0]) for _ in range(8)) == {200: 6, 429: 2}
