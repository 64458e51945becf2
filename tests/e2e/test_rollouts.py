"""Rollouts on real parts: two gates, Consul, Prometheus, and the ledger in two versions, every call counted.

Each canary is a new version of its own; what a test has promoted is the next one's stable version.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.support.consul_cluster import ConsulCluster
from tests.support.counted import Calls
from tests.support.load import body, headers
from tests.support.stage import Process, Stage, stage

T = TypeVar("T")
Json = dict[str, Any]
pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
TOOLS: dict[str, dict[str, object]] = {
    "ledger_list": {},
    "ledger_echo": {"text": "again"},
    "ledger_note": {"entry": "noted", "hold_ms": 20},
    "ledger_hurry": {"entry": "hurried", "hold_ms": 5},
}
QUICK = [
    {"weight_pct": 5, "bake_s": 5, "margin": 0.1, "verdict_s": 120},
    {"weight_pct": 50, "bake_s": 5, "margin": 0.1, "verdict_s": 120},
]
MEMORY_BYTES = 2_000_000_000


@dataclass
class Play:
    """A stage with a canary beside the stable version."""

    stage: Stage
    stable: str = "1.0.0"
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    canary: str = ""
    process: Process | None = None

    def put_on(self, drills: list[Json] | None = None) -> None:
        """Start an instance of the next version, with these drills."""
        self.canary = f"1.{next(self.numbers)}.0"
        self.process = self.stage.add_instance(self.canary, drills)
        self.stage.serving(self.canary)

    def calls(self) -> Calls:
        """A load on both gates, not begun."""
        urls = [f"{gate.public}/ledger/mcp" for gate in self.stage.gates]
        return Calls(urls, self.stage.key, TOOLS)

    def clear(self) -> None:
        """End what the test has left, and whichever version is not stable."""
        if self.stage.answer("GET", "/v1/services/ledger/rollout").is_success and not self.stage.rollout()["ended"]:
            self.stage.verb("abort")
            self.stage.reached("rolled_back", "failed")
        now = self.stage.policy()["stable"]
        if self.process and now != self.canary:
            self.process.end()
        self.stable = now


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    with stage(tmp_path_factory.mktemp("stage")) as made:
        yield Play(made)


@pytest.fixture
def play(shared: Play) -> Iterator[Play]:
    yield shared
    shared.clear()


async def aside(work: Callable[..., T], *given: Any, **named: Any) -> T:
    """Ask without holding the load up."""
    return await asyncio.to_thread(lambda: work(*given, **named))


@contextlib.asynccontextmanager
async def load(play: Play) -> AsyncIterator[Calls]:
    async with play.calls().running() as calls:
        await more(calls, 100)
        yield calls


async def more(calls: Calls, count: int) -> None:
    wanted = len(calls.made) + count
    async with asyncio.timeout(60):
        while len(calls.made) < wanted:
            await asyncio.sleep(0.02)


@pytest.mark.feature("C4", "C6")
async def test_a_good_canary_is_promoted_and_no_call_is_lost(play: Play) -> None:
    play.put_on()
    async with load(play) as calls:
        begun = await aside(play.stage.begin, play.canary, steps=QUICK, keep_warm_s=2)
        assert begun["in_force"]
        ended = await aside(play.stage.reached, "succeeded", "rolled_back", "failed", within_s=240)
        await more(calls, 100)
    assert ended["phase"] == "succeeded", ended["said"]
    assert play.stage.policy()["stable"] == play.canary
    assert calls.failed == []
    assert calls.made[-1].version == play.canary


@pytest.mark.feature("C5")
async def test_blue_green_flips_and_flips_back_and_no_call_is_lost(play: Play) -> None:
    play.put_on()
    async with load(play) as calls:
        await aside(play.stage.begin, play.canary, strategy="blue-green", keep_warm_s=600)
        await aside(play.stage.reached, "keeping_warm")
        await more(calls, 100)
        assert calls.made[-1].version == play.canary
        undone = await aside(play.stage.verb, "undo", drain=True)
        assert undone["in_force"]
        flipped = len(calls.made) + 10  # those under way
        await more(calls, 100)
        await aside(play.stage.reached, "rolled_back")
    assert calls.failed == []
    assert {call.version for call in calls.made[flipped:]} == {play.stable}


@pytest.mark.feature("C4")
async def test_a_canary_whose_tool_breaks_is_rolled_back_within_seconds_and_hits_few_calls(play: Play) -> None:
    """The tools work at first: what fails its probes gets no call at all."""
    await broken(play, {"tool": "ledger_note", "error": "drill"}, "tool errors")


FAULTS: dict[str, tuple[Json, str]] = {
    "answers 5xx": ({"tool": "*", "status": 503}, "5xx"),
    "fails every tool": ({"tool": "*", "error": "drill"}, "tool errors"),
    "hangs": ({"tool": "ledger_hurry", "hang": True}, "deadline"),
    "breaks its schema": ({"tool": "*", "break_schema": True}, "schema"),
    "is three times as slow": ({"tool": "ledger_note", "delay_ms": 50}, "slow calls"),
    "grows until it dies": ({"tool": "ledger_list", "grow_mb": 150}, "serves any more"),
}


@pytest.mark.long
@pytest.mark.feature("C4")
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_canary_that(play: Play, fault: str) -> None:
    await broken(play, *FAULTS[fault])


async def broken(play: Play, drill: Json, said: str) -> None:
    """A canary at the default steps that breaks under traffic: stopped by the right check, with less than 1 % hit."""
    play.put_on()
    assert play.process
    resource.prlimit(play.process.pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    async with load(play) as calls:
        began_s = time.monotonic()
        await aside(play.stage.begin, play.canary)
        await aside(play.stage.reached, "baking")
        while not calls.of(play.canary):
            await more(calls, 50)
        broke_s = time.monotonic()
        play.stage.drill(play.canary, [drill])
        ended = await aside(play.stage.reached, "rolled_back", "succeeded", "failed", within_s=150)
        over_s = time.monotonic()
        await more(calls, 100)
    assert ended["phase"] == "rolled_back", ended["said"]
    assert said in ended["said"]
    assert play.canary in play.stage.policy()["closed"]
    assert [call for call in calls.failed if call.began_s < broke_s] == []
    assert [call for call in calls.failed if call.began_s > over_s + 1] == []
    during = [call for call in calls.made if began_s <= call.began_s <= over_s]
    assert len(calls.failed) < 0.01 * len(during), f"{len(calls.failed)} of {len(during)} calls"


@pytest.mark.feature("C6", "D8")
async def test_what_fails_its_probes_gets_no_call(play: Play) -> None:
    play.put_on([{"tool": "*", "error": "drill"}])
    async with load(play) as calls:
        await aside(play.stage.begin, play.canary)
        while "probe" not in (held := await aside(play.stage.rollout))["said"] or "fails" not in held["said"]:
            await more(calls, 50)
        await more(calls, 300)
        assert (await aside(play.stage.rollout))["phase"] == "preparing"
        await aside(play.stage.verb, "abort")
    assert calls.failed == []
    assert calls.of(play.canary) == []


@pytest.mark.feature("C6")
async def test_a_version_that_drops_a_tool_is_refused_with_the_difference_unless_it_is_waived(play: Play) -> None:
    play.canary = f"1.{next(play.numbers)}.0"
    play.process = play.stage.add_instance(play.canary, MCP_LEDGER_WITHOUT="ledger_hurry")
    play.stage.serving(play.canary)
    await aside(play.stage.begin, play.canary, steps=QUICK)
    refused = await aside(play.stage.reached, "failed", "shifting", "baking")
    assert refused["phase"] == "failed"
    assert "ledger_hurry" in refused["said"]
    assert [lane["version"] for lane in play.stage.policy()["lanes"]] == [play.stable]
    await aside(play.stage.begin, play.canary, steps=QUICK, waive=["ledger_hurry:gone"])
    waived = await aside(play.stage.reached, "failed", "baking")
    assert waived["phase"] == "baking", waived["said"]
    assert "waived" in " ".join(event["said"] for event in waived["events"])


@pytest.mark.long
@pytest.mark.feature("C7")
async def test_copies_that_come_to_the_same_pass_and_the_canary_gets_no_call(play: Play) -> None:
    asked, calls = await copied(play, "ledger_echo")
    assert asked["phase"] == "waiting_for_approval", asked["said"]
    assert "go on from copies of read-only calls of ledger_echo" in asked["said"]
    assert asked["findings"][0]["sentence"].startswith("copies with another result 0 of ")
    assert calls.of(play.canary) == []


@pytest.mark.feature("C7")
async def test_copies_that_come_to_something_else_end_the_rollout_and_no_client_notices(play: Play) -> None:
    ended, calls = await copied(play, "ledger_list")  # it names the instance
    assert ended["phase"] == "rolled_back"
    assert "copies with another result" in ended["said"]
    assert calls.failed == []
    assert calls.of(play.canary) == []


async def copied(play: Play, tool: str) -> tuple[Json, Calls]:
    """How a step of copies ends; what comes after it wants an approval."""
    play.put_on()
    step = {"mirror": True, "tools": [tool], "bake_s": 5, "margin": 0.1, "verdict_s": 120, "approval": True}
    async with load(play) as calls:
        await aside(play.stage.begin, play.canary, steps=[step])
        ended = await aside(play.stage.reached, "waiting_for_approval", "rolled_back", "failed", within_s=150)
    return ended, calls


@pytest.mark.feature("C8")
async def test_only_calls_of_one_tool_and_one_cohort_go_to_the_canary(play: Play) -> None:
    play.put_on()
    play.stage.ask("POST", "/v1/clients", {"id": play.canary.replace(".", "-"), "cohort": "beta", "reason": "test"})
    made = play.stage.ask("POST", f"/v1/clients/{play.canary.replace('.', '-')}/keys", {"reason": "test"})
    beta = play.calls()
    beta.key = made["key"]
    step = {"weight_pct": 100, "tools": ["ledger_n*"], "cohort": "beta", "bake_s": 600}
    await aside(play.stage.begin, play.canary, steps=[step])
    await aside(play.stage.reached, "baking")
    async with load(play) as others, beta.running(workers=2):
        await more(beta, 200)
        await more(others, 100)
    assert others.of(play.canary) == []
    assert {call.tool for call in beta.of(play.canary)} == {"ledger_note"}
    assert {call.version for call in beta.made if call.tool == "ledger_note"} == {play.canary}


@pytest.mark.long
@pytest.mark.feature("C4")
async def test_a_query_of_ones_own_judges_too_and_nonsense_is_refused_by_prometheus_itself(play: Play) -> None:
    play.put_on()
    check = {"name": "in-flight", "high": -1, "failures": 2,
             "query": 'max(tekup_requests_in_flight{service="{{service}}", version="{{canary}}"})'}  # fmt: skip
    broken_one = {"version": play.canary, "reason": "test", "checks": [{**check, "query": "max("}]}
    refused = play.stage.answer("POST", "/v1/services/ledger/rollout", broken_one)
    assert refused.status_code == 422
    assert "in-flight" in refused.json()["detail"]
    assert "parse error" in refused.json()["detail"]
    await aside(play.stage.begin, play.canary, steps=QUICK, checks=[check])
    ended = await aside(play.stage.reached, "rolled_back", "succeeded", "failed", within_s=120)
    assert "in-flight" in ended["said"]
    assert ended["phase"] == "rolled_back"


@pytest.mark.feature("A4", "C4")
@pytest.mark.parametrize(("drain", "answered"), [(True, True), (False, False)], ids=["drained", "closed"])
async def test_handles_of_a_canary_end_with_it_unless_it_is_drained(play: Play, drain: bool, answered: bool) -> None:
    play.put_on()
    step = {"weight_pct": 100, "tools": ["ledger_open"], "bake_s": 600}
    await aside(play.stage.begin, play.canary, steps=[step])
    await aside(play.stage.reached, "baking")
    opened = await called(play, "ledger_open", {})
    handle = opened["structuredContent"]["handle"]
    added = {"handle": handle, "entry": "before"}
    assert (await called(play, "ledger_add", added, handle))["isError"] is False
    await aside(play.stage.verb, "abort", drain=drain)
    after = await called(play, "ledger_add", {**added, "entry": "after"}, handle)
    assert (after["isError"] is False) is answered, after
    if not answered:
        assert "ledger_open" in str(after["content"]) or "anew" in str(after["content"])


async def called(play: Play, tool: str, arguments: dict[str, object], handle: str = "") -> Json:
    """The result of one call through the first gate."""
    sent = headers(play.stage.key, "tools/call", tool) | ({"Mcp-Param-Handle": handle} if handle else {})
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        asked = body("tools/call", {"name": tool, "arguments": arguments})
        answer = await client.post(f"{play.stage.gates[0].public}/ledger/mcp", json=asked, headers=sent)
    result: Json = answer.json()["result"]
    return result


@pytest.mark.feature("A4", "C5")
async def test_handles_stay_on_the_old_version_after_a_promotion(play: Play) -> None:
    opened = await called(play, "ledger_open", {})
    handle = opened["structuredContent"]["handle"]
    play.put_on()
    await aside(play.stage.begin, play.canary, strategy="immediate")
    await aside(play.stage.reached, "succeeded")
    added = await called(play, "ledger_add", {"handle": handle, "entry": "after"}, handle)
    assert added["isError"] is False
    assert added["structuredContent"]["instance"] == opened["structuredContent"]["instance"]


@pytest.mark.long
@pytest.mark.feature("C12")
async def test_consul_that_loses_its_leader_loses_no_call_and_no_step(tmp_path: Path) -> None:
    with stage(tmp_path, registry=ConsulCluster) as made:
        play = Play(made)
        play.put_on()
        cluster = made.consul
        assert isinstance(cluster, ConsulCluster)
        async with load(play) as calls:
            await aside(made.begin, play.canary, steps=QUICK, keep_warm_s=2)
            await aside(made.reached, "baking")
            without_s = await aside(cluster.lose_leader)
            ended = await aside(made.reached, "succeeded", "rolled_back", "failed", within_s=240)
        print(f"Consul had no leader for {without_s:.1f} s")
    assert ended["phase"] == "succeeded", ended["said"]
    assert calls.failed == []
    steps = [event["said"] for event in ended["events"] if event["phase"] == "shifting"]
    assert len(steps) == len(set(steps)) == len(QUICK)
