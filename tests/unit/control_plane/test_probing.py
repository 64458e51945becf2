"""Probing through a gateway in memory: what is probed, what is kept, counted, said and forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from control_plane.api import create_app
from control_plane.contract import Offer
from control_plane.delivery import Delivery, ProbeCall
from control_plane.engine import Engine
from control_plane.errors import Unavailable
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane, Wish
from control_plane.metrics import PlaneMetrics, Standing
from control_plane.model import Instance, InstanceState
from control_plane.ports import Gateway
from control_plane.probing import Pace, ProbeState, Probing, Target, Wishes, calls_of, prove, targets_of
from tests.support.gateways import FakeGateway
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, running
from tests.support.wait import eventually

ONE = Instance("notes", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
TWO = Instance("notes", "1.1.0", "bbbbbb", "127.0.0.1", 4002)
VERSION, INSTANCE = "notes_1-0-0", "notes_1-0-0_aaaaaa"
QUICK = Pace(every_s=0.02)
WITHIN_S = 20


class World:
    """Probing at work, with what it asks and what it tells."""

    def __init__(self, gateway: Gateway, leadership: Leadership, pace: Pace) -> None:
        self.instances: tuple[Instance, ...] = (ONE,)
        self.declared = Wishes()
        self.metrics = PlaneMetrics(lambda: Standing(leading=True, epoch=1, revision=7, gates=2, lagging=1))
        self.probing = Probing(
            lambda: self.instances, gateway, self.wished, leadership, self.metrics, pace, now=lambda: 1000.0
        )

    async def wished(self) -> Wishes:
        """What the policy says of probes."""
        return self.declared

    def sample(self, line: str) -> float | None:
        """The value of a series, None if there is none."""
        for each in self.metrics.shown("")[0].decode().splitlines():
            if each.startswith(line):
                return float(each.rsplit(" ", 1)[1])
        return None

    async def until_failed(self, times: int) -> ProbeState:
        """Wait until the instance's probe has failed so often in a row."""

        async def look() -> ProbeState | None:
            state = self.probing.state("notes", "1.0.0", "aaaaaa")
            return state if state.failures >= times else None

        return await eventually(look, f"{times} failures", WITHIN_S)

    async def until_shown(self, wanted: str, instance: str = "aaaaaa", version: str = "1.0.0") -> None:
        """Wait until an instance is shown so."""

        async def look() -> bool:
            return self.probing.state("notes", version, instance).shown == wanted

        await eventually(look, wanted, WITHIN_S)


@contextlib.asynccontextmanager
async def probing(gateway: FakeGateway, pace: Pace = QUICK) -> AsyncIterator[World]:
    leadership = Leadership(Memory(), "one", ttl_s=1)
    world = World(gateway, leadership, pace)
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(leadership.run()), tasks.create_task(world.probing.run())]
        try:
            yield world
        finally:
            for task in work:
                task.cancel()


def test_what_is_probed_are_live_instances_and_their_versions_but_no_hub() -> None:
    draining = Instance("notes", "0.9.0", "cccccc", "127.0.0.1", 1, InstanceState.DRAINING)
    critical = Instance("notes", "0.8.0", "dddddd", "127.0.0.1", 1, passing=False)
    hub = Instance("hub", "1.0.0", "eeeeee", "127.0.0.1", 1)
    assert [target.name for target in targets_of([TWO, ONE, draining, critical, hub])] == [
        VERSION,
        INSTANCE,
        "notes_1-1-0",
        "notes_1-1-0_bbbbbb",
    ]


@pytest.mark.feature("D8")
async def test_an_instance_that_fails_every_call_is_shown_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "control_plane.probing")
    gateway = FakeGateway()
    async with probing(gateway) as world:
        await world.until_shown("ok")
        assert world.sample('tekup_probe_ok{instance="aaaaaa",service="notes",version="1.0.0"}') == 1
        gateway.problems[INSTANCE] = "drill"
        state = await world.until_failed(6)
        assert (state.ok_at_s, state.sick, state.shown) == (1000.0, True, "failing: notes_list: drill")
        assert world.sample('tekup_probe_ok{instance="aaaaaa",service="notes",version="1.0.0"}') == 0
        failed = world.sample('tekup_probe_failures_total{instance="aaaaaa",service="notes",version="1.0.0"}')
        assert failed is not None
        assert failed >= 6
        assert world.probing.state("notes", "1.0.0").shown == "ok"  # the version's own target
        gateway.problems.clear()
        await world.until_shown("ok")
    events = [(record.message, getattr(record, "instance", "")) for record in caplog.records]
    assert events == [("probe.failing", "aaaaaa"), ("probe.recovered", "aaaaaa")]


async def test_an_instance_that_left_takes_its_state_and_series_with_it() -> None:
    async with probing(FakeGateway()) as world:
        await world.until_shown("ok")
        world.instances = (TWO,)
        await world.until_shown("ok", "bbbbbb", "1.1.0")
        await world.until_shown("unknown")
        assert 'version="1.0.0"' not in world.metrics.shown("")[0].decode()


async def test_a_version_that_is_closed_is_not_called_sick_for_it(caplog: pytest.LogCaptureFixture) -> None:
    gateway = FakeGateway()
    async with probing(gateway, QUICK) as world:
        world.instances = (ONE, TWO)
        await world.until_shown("ok", "bbbbbb", "1.1.0")
        world.declared = Wishes(closed=frozenset({("notes", "1.1.0")}))
        gateway.problems = dict.fromkeys(("notes_1-1-0", "notes_1-1-0_bbbbbb"), "no live instance answers")
        await world.until_shown("unknown", "bbbbbb", "1.1.0")
        assert world.probing.state("notes", "1.0.0", "aaaaaa").shown == "ok"
        assert "probe.failing" not in caplog.text
        assert 'version="1.1.0"' not in world.metrics.shown("")[0].decode()


async def test_the_operators_probes_count_instead_of_the_services_own() -> None:
    gateway = FakeGateway()
    async with probing(gateway) as world:
        world.declared = Wishes({"notes": (ProbeCall(tool="notes_search", arguments={"for": "x"}),)})

        async def asked() -> bool:
            return gateway.asked[INSTANCE, "notes_search"] > 0

        await eventually(asked, "the operator's probe", WITHIN_S)


async def test_a_service_that_declares_no_probe_is_unknown() -> None:
    gateway = FakeGateway(probes={})
    async with probing(gateway) as world:

        async def asked() -> bool:
            return gateway.offers[INSTANCE] > 0

        await eventually(asked, "its offer to be read", WITHIN_S)
        assert world.probing.state("notes", "1.0.0", "aaaaaa").shown == "unknown"


async def test_one_target_that_hangs_holds_up_no_other_and_no_more_than_allowed_run() -> None:
    gateway = FakeGateway(hung={INSTANCE})
    async with probing(gateway, Pace(every_s=0.01, at_most=2)) as world:
        world.instances = (ONE, TWO)

        async def asked() -> bool:
            return gateway.asked["notes_1-1-0_bbbbbb", "notes_list"] > 5

        await eventually(asked, "the others", WITHIN_S)
        assert gateway.asked[INSTANCE, "notes_list"] == 1
        assert gateway.at_once <= 2


async def test_a_gate_that_is_away_and_a_probe_nobody_can_make_are_problems_and_no_end() -> None:
    gateway = FakeGateway(away=True)
    async with probing(gateway) as world:
        await world.until_shown("failing: no gate answers")
        gateway.away, gateway.probes = False, {"no such name!": {}}

        async def told() -> bool:
            return "a probe declared by 1.0.0 cannot be made" in world.probing.state("notes", "1.0.0", "aaaaaa").shown

        await eventually(told, "the probe that cannot be made", WITHIN_S)
        gateway.probes, gateway.broken = {"notes_list": {}}, True
        await world.until_shown("failing: the probe itself failed (ValueError)")
        gateway.broken = False
        await world.until_shown("ok")


async def test_a_proof_takes_every_call_several_times_and_says_which_failed() -> None:
    gateway = FakeGateway(problems={"notes_1-1-0": "answered by 1.0.0 (aaaaaa) in its place"})
    calls = [ProbeCall(tool="notes_list"), ProbeCall(tool="notes_search")]
    assert await prove(gateway, "notes", VERSION, calls, 3) == ""
    assert gateway.asked == {(VERSION, "notes_list"): 3, (VERSION, "notes_search"): 3}
    assert await prove(gateway, "notes", "notes_1-1-0", calls) == (
        "probe notes_list of notes_1-1-0, 1 of 3: answered by 1.0.0 (aaaaaa) in its place"
    )
    gateway.away = True
    with pytest.raises(Unavailable, match="no gate answers"):
        await prove(gateway, "notes", VERSION, calls)


def test_the_calls_that_have_to_work_are_the_operators_or_else_the_services_own() -> None:
    offer = Offer("1.0.0", frozenset(), {}, probes={"notes_list": {"limit": 1}})
    assert calls_of(offer) == (ProbeCall(tool="notes_list", arguments={"limit": 1}),)
    assert calls_of(offer, [ProbeCall(tool="notes_read")]) == (ProbeCall(tool="notes_read"),)


def test_a_state_is_unknown_before_its_first_probe() -> None:
    state = ProbeState(Target("notes", "1.0.0"))
    assert (state.shown, state.sick, state.after("", 5).ok_at_s) == ("unknown", False, 5)


def test_one_that_failed_is_probed_again_sooner() -> None:
    state = ProbeState(Target("notes", "1.0.0"))
    assert Pace(every_s=15).after_s(state.after("", 5)) == 15
    assert Pace(every_s=15).after_s(state.after("drill", 5)) == 3


async def test_the_api_shows_probes_and_metrics() -> None:
    store, gateway = Memory(), FakeGateway(problems={INSTANCE: "drill"})
    plane = ControlPlane(
        store, store, Leadership(store, "one", ttl_s=1), in_force_timeout_s=1, gateway=gateway, pace=QUICK
    )
    await store.register(ONE)
    async with running(plane, ObedientGate(store, "gate-1")):
        await plane.init(Wish("tester", "to see"))
        transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), "secret"))
        headers = {"Authorization": "Bearer secret"}
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as api:

            async def shown() -> bool:
                found = (await api.get("/v1/services")).json()["services"]
                return [one["probe"] for each in found for one in each["instances"]] == ["failing: notes_list: drill"]

            await eventually(shown, "the failing probe", WITHIN_S)
            text = (await api.get("/metrics", headers={"Authorization": ""})).text
        assert 'tekup_probe_ok{instance="aaaaaa",service="notes",version="1.0.0"} 0.0' in text
        assert "tekup_control_plane_leading 1.0" in text
        assert "tekup_policy_epoch 1.0" in text
        assert "tekup_gates_lagging 0.0" in text


def test_a_delivery_document_takes_probes() -> None:
    delivery = Delivery(service="notes", probes=(ProbeCall(tool="notes_list", arguments={"limit": 1}),))
    assert Delivery.parse(delivery.to_bytes(), "notes").probes == delivery.probes
