"""Rollouts on real parts that die, freeze or are cut off: they go on, no step is done twice, no call is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from control_plane.model import Table
from tests.support.gate import wait_until
from tests.support.stage import SERVICE
from tests.support.trouble import FENCED, LAGS, TAKEOVER_S, Trouble, after_s, step, trouble

pytestmark = [pytest.mark.local, pytest.mark.feature("C12"), pytest.mark.timeout(300)]

ONE = ["preparing", "shifting", "baking"]
WELL = ["promoting", "keeping_warm", "succeeded"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    with trouble(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture
def on(shared: Trouble) -> Iterator[Trouble]:
    yield shared
    shared.restore()


# -- a leader that is gone, in each phase


def prepare(on: Trouble) -> None:
    on.stage.drill(on.canary, [{"tool": "ledger_list", "error": "drill"}])
    on.begin(step())
    wait_until(lambda: "a probe of" in on.stage.rollout()["said"], "a probe that fails", 20)


def shift(on: Trouble) -> None:
    on.freeze_agent()
    on.begin(step())
    on.stage.reached("shifting")


def bake(on: Trouble) -> None:
    on.begin(step(bake_s=6), step(50))
    on.stage.reached("baking")


def ask(on: Trouble) -> None:
    on.begin(step(approval=True), step(50))
    on.stage.reached("waiting_for_approval")


def pause(on: Trouble) -> None:
    on.begin(step(bake_s=3), step(50))
    on.stage.reached("baking")
    on.stage.verb("pause")


def promote(on: Trouble) -> None:
    on.begin(step(bake_s=4))
    on.stage.reached("baking")
    on.freeze_agent()
    on.stage.reached("promoting")


def warm(on: Trouble) -> None:
    on.begin(step(), keep_warm_s=6)
    on.stage.reached("keeping_warm")


def roll_back(on: Trouble) -> None:
    on.begin(step(bake_s=60))
    on.stage.reached("baking")
    on.freeze_agent()
    on.later("abort")
    on.stage.reached("rolling_back")


def agent_back(on: Trouble) -> None:
    on.mend(f"agent {LAGS}")


def nothing(_: Trouble) -> None:
    """It goes on by itself."""


@dataclass(frozen=True)
class Case:
    """A phase: how to come there, what lets it go on, and everything the rollout must have gone through in the end."""

    reach: Callable[[Trouble], None]
    release: Callable[[Trouble], None]
    phases: list[str]
    records: list[str]


STEP, BOTH = ["rollout.shifting"], ["rollout.shifting", "rollout.promoting"]
TWO = [*ONE, "shifting", "baking", *WELL]
CASES = {
    "preparing": Case(prepare, lambda on: on.stage.drill(on.canary, []), [*ONE, *WELL], BOTH),
    "shifting": Case(shift, agent_back, [*ONE, *WELL], BOTH),
    "baking": Case(bake, nothing, TWO, [*STEP, *BOTH]),
    "waiting_for_approval": Case(
        ask,
        lambda on: on.later("promote"),
        [*ONE, "waiting_for_approval", "shifting", "baking", *WELL],
        [*STEP, "rollout.promote", "rollout.promoting"],
    ),
    "paused": Case(
        pause, lambda on: on.later("resume"), [*ONE, "paused", "baking", "shifting", "baking", *WELL], [*STEP, *BOTH]
    ),
    "promoting": Case(promote, agent_back, [*ONE, *WELL], BOTH),
    "keeping_warm": Case(warm, nothing, [*ONE, *WELL], BOTH),
    "rolling_back": Case(roll_back, agent_back, [*ONE, "rolling_back", "rolled_back"], [*STEP, "rollout.abort"]),
}
QUICK = ("killed", "baking")


@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        pytest.param(fault, phase, marks=[] if (fault, phase) == QUICK else [pytest.mark.long])
        for phase in CASES
        for fault in ("killed", "frozen", "cut off")
    ],
)
def test_another_replica_goes_on_where_the_leader_was(on: Trouble, fault: str, phase: str) -> None:
    case, stage = CASES[phase], on.stage
    with on.load() as calls:
        case.reach(on)
        come_to, old = len(on.phases()), stage.leader()
        began_s = time.monotonic()
        strike(on, fault, old, writes=phase == "baking")
        on.other_leads(old)
        took_s = time.monotonic() - began_s
        case.release(on)
        on.left(phase, come_to, TAKEOVER_S - took_s)
        print(f"{fault} in {phase}: another led after {took_s:.1f} s, went on after {time.monotonic() - began_s:.1f} s")
        on.mend(old)
        stage.reached(case.phases[-1])
        ended = stage.policy()
        on.stands_by(old)
    assert on.phases() == case.phases
    assert on.records() == case.records
    assert stage.policy() == ended
    assert not calls.failed
    if fault == "cut off" and phase == "baking":
        assert FENCED in stage.lines[old].late
        assert b"session" in stage.lines[old].late


def strike(on: Trouble, fault: str, name: str, *, writes: bool) -> None:
    if fault == "killed":
        on.kill(name)
    elif fault == "frozen":
        on.freeze(name)
    elif writes:
        on.cut_at_its_next_write(name)
    else:
        on.cut(name)


# -- Consul and Prometheus


def judged(on: Trouble, bake_s: int = 12) -> None:
    """A rollout in a step that ends with a verdict only, after its first look."""
    on.begin({"weight_pct": 50, "bake_s": bake_s})
    on.stage.reached("baking")
    wait_until(lambda: on.stage.rollout()["findings"], "a first look", 30)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["restarted", "down", "frozen"])
def test_consul_away_for_a_while_costs_no_call_and_rolls_nothing_back(on: Trouble, fault: str) -> None:
    with on.load() as calls:
        judged(on)
        if fault == "frozen":
            on.stage.consul.freeze()
            after_s(10)
            on.stage.consul.thaw()
        else:
            on.stage.consul.kill()
            after_s(10 if fault == "down" else 0)
            on.stage.consul.start()
        on.stage.reached("succeeded", within_s=120)
    assert on.phases() == [*ONE, *WELL]
    assert on.records() == BOTH
    assert not calls.failed


@pytest.mark.long
@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_without_prometheus_a_rollout_holds_and_says_so_and_goes_on_once_it_is_back(on: Trouble, fault: str) -> None:
    prometheus = on.stage.prometheus
    with on.load() as calls:
        judged(on)
        if fault == "killed":
            prometheus.kill()
        else:
            prometheus.freeze()
        wait_until(lambda: prometheus.url in on.stage.rollout()["said"], "the rollout to say what is away", 30)
        after_s(15)
        held = on.stage.rollout()
        assert held["phase"] == "baking"
        assert "cannot be asked" in held["said"]
        if fault == "killed":
            prometheus.start()
        else:
            prometheus.thaw()
        on.stage.reached("succeeded", within_s=90)
    assert on.phases() == [*ONE, *WELL]
    assert not calls.failed


# -- gates


@pytest.mark.long
def test_a_gate_restarted_while_no_control_plane_runs_serves_the_same_weights(on: Trouble) -> None:
    gate = on.stage.gates[1]
    with on.load(gates=(0,)) as calls:
        on.begin(step(50, bake_s=20))
        on.stage.reached("baking")
        for name in on.stage.replicas:
            on.kill(name)
        gate.stop()
        gate.start()
        with on.load(gates=(1,)) as through:
            wait_until(lambda: len(through.made) >= 400, "400 calls through the restarted gate", 60)
        for name in on.stage.replicas:
            on.mend(name)
        on.stage.reached("succeeded")
    shares = {version: len(through.of(version)) / len(through.made) for version in ("1.0.0", "1.1.0")}
    assert all(0.35 < share < 0.65 for share in shares.values()), shares
    assert not through.failed
    assert not calls.failed
    assert on.phases() == [*ONE, *WELL]


@pytest.mark.long
def test_a_gate_that_is_gone_is_left_out_of_a_shift(on: Trouble) -> None:
    on.stage.add_gate()
    gone = len(on.stage.gates)
    wait_until(lambda: len(on.stage.ask("GET", "/v1/status")["gates"]) == gone, "the third gate's report", 30)
    on.stage.agents[gone - 1].end(9)
    on.stage.gates[gone - 1].stop()
    with on.load() as calls:
        on.begin(step(50))
        on.stage.reached("succeeded", within_s=TAKEOVER_S)
    assert on.phases() == [*ONE, *WELL]
    assert not calls.failed
    on.stage.ask("DELETE", f"/v1/gates/gate-{gone}", {"reason": "test"})


@pytest.mark.long
def test_a_gate_that_lags_is_named_until_it_has_the_step(on: Trouble) -> None:
    shift(on)
    wait_until(lambda: "waits for gate gate-2" in on.stage.rollout()["said"], "the gate that lags to be named", 20)
    assert on.stage.rollout()["phase"] == "shifting"
    agent_back(on)
    on.stage.reached("succeeded")
    assert on.phases() == [*ONE, *WELL]


# -- another hand


@pytest.mark.long
def test_a_policy_changed_by_hand_is_put_right_once_it_is_accepted(on: Trouble) -> None:
    with on.load() as calls:
        on.begin(step(50, bake_s=15))
        on.stage.reached("baking")
        right = on.stage.policy()["lanes"]
        by_hand(on)
        wait_until(lambda: "changed by another hand" in on.stage.rollout()["said"], "the rollout to say so", 20)
        on.stage.ask("POST", "/v1/repair", {"reason": "test"})
        wait_until(lambda: on.stage.policy()["lanes"] == right, "the weights of the rollout", 20)
        assert on.stage.rollout()["phase"] == "baking"
        on.stage.reached("succeeded")
    assert on.phases() == [*ONE, *WELL]
    assert not calls.failed


def by_hand(on: Trouble) -> None:
    """Give the stable version everything, in Consul itself."""
    url = f"{on.stage.consul.url}/v1/kv/{Table.SERVICES.prefix}{SERVICE}"
    found = httpx.get(f"{url}?raw", timeout=10, trust_env=False).json()
    found["lanes"] = [{"version": found["stable"], "weight_pct": 100}]
    text = json.dumps(found, separators=(",", ":"))
    assert httpx.put(url, content=text, timeout=10, trust_env=False).is_success
