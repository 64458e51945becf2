"""Rollouts over a store in memory: what is written, who wins, and that another replica goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from control_plane import steer
from control_plane.analysis import Verdict
from control_plane.checks import Plan, default_checks
from control_plane.delivery import BUILT_IN, Delivery, Step
from control_plane.engine import Engine, Start
from control_plane.errors import Conflict, NotFound, Refused
from control_plane.kept import ROLLOUTS_PREFIX
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane, Wish
from control_plane.model import ClientPolicy, Instance, ServicePolicy, Table
from control_plane.ports import Write
from control_plane.review import Span
from control_plane.rollout import Phase, Rollout
from tests.support.fake_metrics import FakeMetrics
from tests.support.gateways import FakeGateway
from tests.support.memory import Memory
from tests.support.plane import ObedientGate

WISH = Wish("ada", "try it")
OLD, NEW = (
    Instance("search", version, number * 6, "127.0.0.1", 1) for version, number in (("1.0.0", "a"), ("1.1.0", "b"))
)
QUICK = {"steps": [{"weight_pct": 10, "bake_s": 10, "verdict_s": 50}], "keep_warm_s": 20}


@dataclass
class Clock:
    """Ten seconds of a rollout pass at each look at it."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        self.now_s += 2.0
        return self.now_s


@dataclass
class Jumping:
    """A monotonic clock that can be put forward."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


class World:
    """A store, a gate, and replicas over them."""

    def __init__(self) -> None:
        self.store = Memory()
        self.gate = ObedientGate(self.store, "gate-1")
        self.metrics, self.clock = FakeMetrics(), Clock()
        self.gateway = FakeGateway(tools={"search_1-0-0": ("search_grep",), "search_1-1-0": ("search_grep",)})

    def replica(self, name: str, clock: Callable[[], float] = time.monotonic) -> tuple[ControlPlane, Engine]:
        leadership = Leadership(self.store, name, ttl_s=1, clock=clock)
        plane = ControlPlane(self.store, self.store, leadership, in_force_timeout_s=5, now=self.clock)
        engine = Engine(plane, self.store, metrics=self.metrics, gateway=self.gateway, now=self.clock, turn_s=0.01)
        return plane, engine

    async def policy(self) -> ServicePolicy:
        raw = (await self.store.read(f"{Table.SERVICES.prefix}search")).entries[""].value
        return ServicePolicy.parse(raw, "policy")


@contextlib.asynccontextmanager
async def led(plane: ControlPlane, engine: Engine) -> AsyncIterator[Engine]:
    """Run a replica for the length of a block, leading."""
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(plane.run()), tasks.create_task(engine.run())]
        async with asyncio.timeout(20):
            await plane.leadership.held()
        try:
            yield engine
        finally:
            for task in work:
                task.cancel()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    gate = asyncio.create_task(made.gate.run())
    yield made
    gate.cancel()


@pytest.fixture
async def engine(world: World) -> AsyncIterator[Engine]:
    plane, made = world.replica("one")
    async with led(plane, made):
        await ready(world, plane)
        yield made


async def ready(world: World, plane: ControlPlane) -> None:
    await until(lambda: bool(plane.gates.all))
    await plane.init(WISH)
    await world.store.register(OLD)
    async with asyncio.timeout(20):
        while "search" not in (await plane.page()).tables[Table.SERVICES]:
            await asyncio.sleep(0.01)
    await world.store.register(OLD, NEW)
    await until(lambda: len(plane.instances()) == 2)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def reached(engine: Engine, phase: Phase) -> Rollout:
    async with asyncio.timeout(20):
        while (held := await engine.shelf.one("search")).phase is not phase:
            await asyncio.sleep(0.005)
    return held


async def test_a_good_canary_is_promoted(world: World, engine: Engine) -> None:
    _, outcome = await engine.start("search", WISH, Start("1.1.0", QUICK))
    assert outcome.waiting_for == ()
    ended = await reached(engine, Phase.SUCCEEDED)
    policy = await world.policy()
    assert (policy.stable, policy.closed) == ("1.1.0", ())
    assert [event.phase for event in ended.events] == [
        Phase.PREPARING, Phase.SHIFTING, Phase.BAKING, Phase.PROMOTING, Phase.WARM, Phase.SUCCEEDED,
    ]  # fmt: skip


async def test_a_bad_canary_is_rolled_back_and_closed(world: World, engine: Engine) -> None:
    world.metrics.bad = {"tool_errors": 1.0}
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    ended = await reached(engine, Phase.ROLLED_BACK)
    policy = await world.policy()
    assert (policy.stable, policy.closed, len(policy.lanes)) == ("1.0.0", ("1.1.0",), 1)
    assert "tool errors" in ended.said


async def test_the_record_of_a_change_says_why_in_the_words_of_the_rollout(world: World, engine: Engine) -> None:
    world.metrics.bad = {"tool_errors": 1.0}
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    ended = await reached(engine, Phase.ROLLED_BACK)
    back = next(event.said for event in ended.events if event.phase is Phase.ROLLING_BACK)
    records = (await world.store.read("tekup/state/history/")).entries.values()
    assert any(back in entry.value.decode() for entry in records)


async def test_a_tool_less_than_stable_is_refused_before_any_traffic(world: World, engine: Engine) -> None:
    world.gateway.tools["search_1-0-0"] = ("search_grep", "search_find")
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    ended = await reached(engine, Phase.FAILED)
    assert "search_find" in ended.said
    assert [lane.version for lane in (await world.policy()).lanes] == ["1.0.0"]


async def test_abort_is_in_force_when_it_returns(world: World, engine: Engine) -> None:
    await engine.start("search", WISH, Start("1.1.0", {**QUICK, "steps": [{"weight_pct": 10, "bake_s": 500}]}))
    await reached(engine, Phase.BAKING)
    _, outcome = await engine.steer("search", "abort", WISH, lambda held, by: steer.abort(held, by, drain=False))
    assert outcome.waiting_for == ()
    assert [lane.version for lane in (await world.policy()).lanes] == ["1.0.0"]
    await reached(engine, Phase.ROLLED_BACK)


async def test_a_verb_that_was_carried_out_already_writes_nothing(world: World, engine: Engine) -> None:
    await engine.start("search", WISH, Start("1.1.0", {**QUICK, "steps": [{"weight_pct": 10, "bake_s": 5000}]}))
    await reached(engine, Phase.BAKING)
    await engine.steer("search", "pause", WISH, steer.pause)
    paused, outcome = await engine.steer("search", "pause", WISH, steer.pause)
    assert (paused.phase, outcome.changed) == (Phase.PAUSED, False)


async def test_a_verb_that_leaves_the_traffic_as_it_is_is_a_change_all_the_same_and_a_dry_run_writes_nothing(
    world: World, engine: Engine
) -> None:
    _, outcome = await engine.start("search", WISH, Start("1.1.0", {**QUICK, "steps": [{"weight_pct": 10}]}))
    assert outcome.changed
    await reached(engine, Phase.BAKING)
    for dry_run in (True, False):
        before = await engine.shelf.one("search")
        wish = Wish("ada", "hold it", dry_run=dry_run)
        paused, outcome = await engine.steer("search", "pause", wish, steer.pause)
        assert (paused.phase, outcome.changed, outcome.changes) == (Phase.PAUSED, True, ())
        assert ((await engine.shelf.one("search")).phase is before.phase) is dry_run


async def test_of_many_verbs_at_once_none_is_lost_to_another_and_one_course_is_taken(
    world: World, engine: Engine
) -> None:
    for _ in range(4):
        await engine.start("search", WISH, Start("1.1.0", {**QUICK, "steps": [{"weight_pct": 10, "bake_s": 500}]}))
        await reached(engine, Phase.BAKING)
        aborts = [
            engine.steer("search", "abort", WISH, lambda held, by: steer.abort(held, by, drain=False)) for _ in range(8)
        ]
        others = [engine.steer("search", "pause", WISH, steer.pause) for _ in range(8)]
        done = await asyncio.gather(*aborts, *others, return_exceptions=True)
        assert all(isinstance(one, tuple) for one in done[:8])
        assert all(isinstance(one, (tuple, Refused)) and not isinstance(one, Conflict) for one in done[8:])
        ended = await reached(engine, Phase.ROLLED_BACK)
        assert [event.phase for event in ended.events].count(Phase.ROLLING_BACK) == 1


async def test_a_rollout_that_makes_no_sense_holds_up_no_other_and_says_what_to_do(
    world: World, engine: Engine
) -> None:
    await world.store.commit([Write("tekup/state/rollouts/broken", b"{}")])
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    await reached(engine, Phase.SUCCEEDED)
    with pytest.raises(Refused, match="consul kv delete tekup/state/rollouts/broken"):
        await engine.shelf.one("broken")


async def test_a_rollout_of_the_hub_is_refused_with_what_to_do_instead(world: World, engine: Engine) -> None:
    await world.store.register(*(Instance("hub", one.version, one.id, "127.0.0.1", 2) for one in (OLD, NEW)), OLD, NEW)
    async with asyncio.timeout(20):
        while "hub" not in (await engine._plane.page()).tables[Table.SERVICES]:
            await asyncio.sleep(0.01)
    with pytest.raises(Refused, match=r"tekup traffic set hub 1\.1\.0=10"):
        await engine.start("hub", WISH, Start("1.1.0", QUICK))


async def test_traffic_that_a_rollout_decides_is_not_set_by_hand(world: World, engine: Engine) -> None:
    await engine.start("search", WISH, Start("1.1.0", {**QUICK, "steps": [{"weight_pct": 10, "bake_s": 5000}]}))
    with pytest.raises(Conflict, match="tekup rollout abort search"):
        await engine._plane.set_traffic("search", {"1.1.0": 50}, WISH)


async def test_a_policy_changed_by_another_hand_is_put_right(world: World, engine: Engine) -> None:
    await engine.start("search", WISH, Start("1.1.0", {**QUICK, "steps": [{"weight_pct": 10, "bake_s": 5000}]}))
    await reached(engine, Phase.BAKING)
    wrong = (await world.policy()).model_copy(update={"lanes": (await world.policy()).lanes[:1]})
    assert len(wrong.lanes) == 1
    wrong = wrong.model_copy(update={"lanes": (wrong.lanes[0].model_copy(update={"weight_pct": 100.0}),)})
    await world.store.commit([Write(f"{Table.SERVICES.prefix}search", wrong.to_bytes())])
    await saying(engine, "changed by another hand")
    await engine._plane.repair(WISH)
    async with asyncio.timeout(20):
        while len((await world.policy()).lanes) != 2:
            await asyncio.sleep(0.01)
        while "another hand" in (await engine.shelf.one("search")).said:
            await asyncio.sleep(0.01)


async def test_another_replica_goes_on_where_the_leader_died(world: World) -> None:
    plane, engine = world.replica("one")
    async with led(plane, engine):
        await ready(world, plane)
        await engine.start("search", WISH, Start("1.1.0", QUICK))
        await reached(engine, Phase.BAKING)
    plane, engine = world.replica("two")
    async with led(plane, engine):
        ended = await reached(engine, Phase.SUCCEEDED)
    phases = [event.phase for event in ended.events]
    assert len(phases) == len(set(phases))  # no step done twice


async def test_undo_flips_back_after_all_is_over_and_retry_begins_anew(world: World, engine: Engine) -> None:
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    await reached(engine, Phase.SUCCEEDED)
    await engine.steer("search", "undo", WISH, lambda held, by: steer.undo(held, by, drain=False))
    await reached(engine, Phase.ROLLED_BACK)
    assert (await world.policy()).stable == "1.0.0"
    again, _ = await engine.retry("search", WISH)
    assert again.number == 2
    assert (await world.policy()).closed == ()
    await reached(engine, Phase.SUCCEEDED)
    assert [one.number for one in await engine.shelf.past("search")] == [2, 1]


async def test_what_cannot_be_judged_or_makes_no_sense_is_refused_before_anything_is_written(
    world: World, engine: Engine
) -> None:
    before = (await world.store.read("")).index
    for changes, message in (
        ({"checks": [{"name": "mine", "query": "sum(", "high": 1}]}, "no PromQL"),
        ({"steps": []}, "steps"),
        ({"steps": [{"weight_pct": 101}]}, "weight_pct"),
        ({"strategy": "red-black"}, "strategy"),
        ({"checks": [{"name": "latency", "query": "1", "high": 1}]}, "checks: latency is the name of a built-in check"),
        ({"checks": [{"name": "mine", "query": "up{a='{{canari}}'}", "high": 1}]}, "{{canari}} stands for nothing"),
        ({"dry_run": ["latncy"]}, "no built-in check is named latncy"),
        ({"dry_run": list(BUILT_IN)}, "no check is left that counts"),
    ):
        with pytest.raises(Refused, match=message):
            await engine.start("search", WISH, Start("1.1.0", changes))
    with pytest.raises(Refused, match=r"no instance of version 9\.9"):
        await engine.start("search", WISH, Start("9.9", QUICK))
    for nobody in ("nobody", "..", "a b", "search/x", "search\n", ""):
        for asked in (
            engine.start(nobody, WISH, Start("1.1.0", QUICK)),
            engine.delivery(nobody, {}),
            engine.shelf.past(nobody),
            engine.shelf.one(nobody),
            engine.steer(nobody, "pause", WISH, steer.pause),
        ):
            with pytest.raises(NotFound, match="there is no service"):
                await asked
    assert (await world.store.read("tekup/state/rollouts/")).entries == {}
    assert (await world.store.read("tekup/policy/")).entries
    assert before


async def test_without_a_metrics_source_a_step_with_analysis_is_refused(world: World) -> None:
    plane, _ = world.replica("one")
    engine = Engine(plane, world.store, gateway=world.gateway, now=world.clock, turn_s=0.01)
    async with led(plane, engine):
        await ready(world, plane)
        with pytest.raises(Refused, match="MCP_PROMETHEUS_URL"):
            await engine.start("search", WISH, Start("1.1.0"))
        steps = Delivery(service="search", steps=(Step(weight_pct=10, bake_s=1, analysis=False),))
        await engine.start("search", WISH, Start("1.1.0", steps.model_dump(mode="json", include={"steps"})))
        await reached(engine, Phase.WARM)


async def test_metrics_show_the_phase_and_what_looks_came_to(world: World, engine: Engine) -> None:
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    await reached(engine, Phase.SUCCEEDED)
    shown = 'tekup_rollout_phase{phase="succeeded",service="search"} 1.0'
    await until(lambda: shown in engine._plane.metrics.shown("")[0].decode())
    text = engine._plane.metrics.shown("")[0].decode()
    assert text.count("tekup_rollout_phase{") == 1
    assert 'tekup_rollout_looks_total{service="search",verdict="inconclusive"}' in text
    assert 'tekup_rollout_ended_total{outcome="succeeded",service="search"} 1.0' in text
    assert 'tekup_rollout_ended_total{outcome="rolled_back",service="search"} 0.0' in text
    assert 'tekup_rollout_moved_seconds{service="search"}' not in text, "none runs any more"


async def test_metrics_show_when_a_rollout_that_runs_last_moved_on(world: World, engine: Engine) -> None:
    await engine.start("search", WISH, Start("1.1.0", {"steps": [{"weight_pct": 10, "bake_s": 3600}]}))
    rollout = await reached(engine, Phase.BAKING)
    shown = f'tekup_rollout_moved_seconds{{service="search"}} {max(rollout.since, rollout.step_since)}'
    await until(lambda: shown in engine._plane.metrics.shown("")[0].decode())


async def test_the_past_is_judged_by_the_same_checks(world: World, engine: Engine) -> None:
    plan = Plan("1.0.0", "1.1.0", default_checks())
    good = await engine.review("search", plan, Span(0, 300))
    assert (good.looks, good.last.verdict, good.failed_s) == (61, Verdict.PASS, None)
    world.metrics.bad = {"tool_errors": 0.5}
    bad = await engine.review("search", plan, Span(0, 300))
    assert bad.last.verdict is Verdict.FAIL
    assert bad.failed_s is not None
    assert bad.failed_s <= 15
    with pytest.raises(Refused, match="must span 5 to 5000 seconds"):
        await engine.review("search", plan, Span(0, 6000))


async def test_a_leader_that_is_not_certain_any_more_does_not_starve_what_makes_it_certain(world: World) -> None:
    clock = Jumping()
    plane, engine = world.replica("one", clock)
    async with led(plane, engine):
        clock.ahead_s += 100  # as if the process had been frozen
        assert not plane.leadership.leading
        await until(lambda: plane.leadership.leading)


async def test_a_turn_that_breaks_is_logged_and_taken_again(
    world: World, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    world.metrics.broken = True
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    await until(lambda: "rollout.turn_broke" in caplog.messages)
    assert "ValueError: a fault of ours" in caplog.text
    await saying(engine, "cannot go on: ValueError")
    world.metrics.broken = False
    await reached(engine, Phase.SUCCEEDED)


async def test_a_rollout_that_makes_no_sense_does_not_hold_up_the_others(world: World, engine: Engine) -> None:
    await world.store.commit([Write(f"{ROLLOUTS_PREFIX}alpha", b"{}")])
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    await reached(engine, Phase.SUCCEEDED)
    assert list(await engine.shelf.all()) == ["search"]


async def test_a_verb_wins_over_a_turn_that_came_in_between(world: World, engine: Engine) -> None:
    await engine.start("search", WISH, Start("1.1.0", {**QUICK, "steps": [{"weight_pct": 10, "bake_s": 5000}]}))
    await reached(engine, Phase.BAKING)
    asked: list[Rollout] = []

    def abort(held: Rollout, by: steer.By) -> Rollout:
        if not asked:
            world.store.put(ROLLOUTS_PREFIX + "search", held.to_bytes())
        asked.append(held)
        return steer.abort(held, by, drain=False)

    await engine.steer("search", "abort", WISH, abort)
    assert len(asked) >= 2
    await reached(engine, Phase.ROLLED_BACK)


async def test_a_declared_probe_that_cannot_be_called_is_said(world: World, engine: Engine) -> None:
    world.gateway.probes = {"not a tool": {}}
    await engine.start("search", WISH, Start("1.1.0", QUICK))
    await saying(engine, "cannot be made")


async def test_a_new_leader_takes_gates_that_are_further_for_what_they_are(world: World) -> None:
    plane, engine = world.replica("one")
    async with led(plane, engine):
        await ready(world, plane)
        world.gate.obeys = False
        starting = asyncio.create_task(engine.start("search", WISH, Start("1.1.0", QUICK)))
        await until_begun(engine)
        await reached(engine, Phase.SHIFTING)
        adding = asyncio.create_task(plane.rights.add_client(ClientPolicy(id="dev"), WISH))
        async with asyncio.timeout(20):
            while not (await plane.page()).tables[Table.CLIENTS]:
                await asyncio.sleep(0.01)
        for task in (starting, adding):
            task.cancel()
    world.gate.obeys = True
    plane, engine = world.replica("two")
    async with led(plane, engine):
        await reached(engine, Phase.SUCCEEDED)


async def until_begun(engine: Engine) -> None:
    async with asyncio.timeout(20):
        while not await engine.shelf.all():
            await asyncio.sleep(0.005)


async def saying(engine: Engine, words: str) -> None:
    async with asyncio.timeout(20):
        while words not in (await engine.shelf.one("search")).said:
            await asyncio.sleep(0.01)
