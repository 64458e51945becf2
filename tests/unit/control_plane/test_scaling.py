"""Autoscaling at work, over a store in memory and instances that tell what they did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from control_plane.autoscale import Autoscale
from control_plane.errors import NotFound, Unavailable
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane, Wish
from control_plane.model import Instance, InstanceState
from control_plane.outcome import Outcome
from control_plane.scaling import SCALED_PREFIX, Around, Autoscaling, Scaling, unlike
from control_plane.told import LOAD
from tests.support.gateways import FakeGateway
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, running
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C11")
WHY = Wish("tester", "to see")
ONE = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
TWO = Instance("search", "1.0.0", "bbbbbb", "127.0.0.1", 4002)


class Instances:
    """Tell what they did, but for those that are silent; each look finds them busy by so much."""

    def __init__(self) -> None:
        self.busy = 0.0
        self.silent: set[str] = set()
        self.asked = 0
        self._at_s = 0.0
        self._in_flight_seconds = 0.0

    def pass_time(self, seconds: float) -> None:
        self._at_s += seconds
        self._in_flight_seconds += seconds * self.busy

    def __call__(self, target: str, method: str) -> Mapping[str, Any]:
        assert method == LOAD
        self.asked += 1
        if target in self.silent:
            raise Unavailable("nobody is there")
        told = {"at_s": self._at_s, "in_flight_seconds": self._in_flight_seconds}
        return {"resultType": "complete", **told, "cpu_seconds": 0, "late_seconds": 0, "turns": self._at_s}


class World:
    """A control plane on a clock of the test's, and the instances it asks."""

    def __init__(self) -> None:
        self.store = Memory()
        self.instances = Instances()
        self.now_s = 1000.0
        gateway = FakeGateway(tells=self.instances)
        leadership = Leadership(self.store, "one", url="http://one")
        self.plane = ControlPlane(self.store, self.store, leadership, in_force_timeout_s=1, now=lambda: self.now_s)
        # The plane's own asks nobody, without a gate: looks are the test's alone.
        around = Around(self.plane.page, self._nobody_changes, self.plane.instances, lambda: self.now_s)
        self.scaling = Autoscaling(self.store, leadership, around, self.plane.metrics.scaling, gateway)

    async def _nobody_changes(self, *_: object) -> Outcome:
        raise AssertionError("looking changes no policy")

    async def registered(self, *instances: Instance) -> None:
        await self.store.register(*instances)

        async def seen() -> bool:
            known = {one.id for one in self.plane.instances() if one.live}
            taken_in = "search" in (await self.plane.policy()).services
            return taken_in and known == {one.id for one in instances if one.live}

        await eventually(seen, f"{len(instances)} instances")

    async def turns(self, count: int, seconds: float = 2.0) -> Scaling:
        for _ in range(count):
            self.now_s += seconds
            self.instances.pass_time(seconds)
            await self.scaling.turn()
        return (await self.scaling.decided())["search"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with running(made.plane, ObedientGate(made.store, "gate-1")):
        await made.plane.init(WHY)
        await made.registered(ONE)
        yield made


def wish(**fields: object) -> Autoscale:
    told = {"service": "search", "max": 4, "in_flight": 2, "down_cooldown_s": 20} | fields
    return Autoscale.model_validate(told)


async def test_a_load_is_answered_with_more_written_where_it_is_read_and_with_fewer_once_it_is_gone(
    world: World,
) -> None:
    await world.plane.scaling.set(wish(), WHY)
    world.instances.busy = 3.0
    busy = await world.turns(4)
    assert [(one.version, one.wanted, one.live) for one in busy.versions] == [("1.0.0", 2, 1)]
    assert "3.0 calls under way" in busy.versions[0].why
    assert unlike([busy]) == (f"autoscale: search 1.0.0 should have 2 instances and has 1: {busy.versions[0].why}",)
    await world.registered(ONE, TWO)
    world.instances.busy = 0.5
    assert (await world.turns(5)).versions[0].wanted == 2
    assert (await world.turns(15)).versions[0].wanted == 1


async def test_instances_that_do_not_answer_change_nothing(world: World) -> None:
    await world.registered(ONE, TWO)
    await world.plane.scaling.set(wish(), WHY)
    await world.turns(3)
    world.instances.silent = {ONE.target, TWO.target}
    held = await world.turns(30)
    assert held.versions[0].wanted == 2
    assert "none of 2 instances told what it did" in held.versions[0].why


async def test_a_draining_instance_counts_for_nothing(world: World) -> None:
    await world.registered(ONE, replace(TWO, state=InstanceState.DRAINING))
    await world.plane.scaling.set(wish(), WHY)
    assert (await world.turns(2)).versions[0].live == 1


async def test_who_is_not_autoscaled_is_not_asked_and_leaves_no_document(world: World) -> None:
    await world.scaling.turn()
    assert world.instances.asked == 0
    await world.plane.scaling.set(wish(), WHY)
    await world.turns(1)
    await world.plane.scaling.off("search", Wish("tester", "to see", dry_run=True))
    assert (await world.store.read(SCALED_PREFIX)).entries
    await world.plane.scaling.off("search", WHY)
    assert not (await world.store.read(SCALED_PREFIX)).entries
    await world.scaling.turn()
    assert not (await world.store.read(SCALED_PREFIX)).entries
    assert "tekup_autoscale_wanted{" not in world.plane.metrics.shown("")[0].decode()


async def test_an_unknown_service_is_refused_by_name(world: World) -> None:
    with pytest.raises(NotFound, match="there is no service notes"):
        await world.plane.scaling.set(wish(service="notes"), WHY)
    with pytest.raises(NotFound, match="search is not autoscaled"):
        await world.plane.scaling.off("search", WHY)


async def test_metrics_tell_what_is_wanted_needed_and_allowed(world: World) -> None:
    await world.plane.scaling.set(wish(max=1), WHY)
    world.instances.busy = 9.0
    await world.turns(4)
    shown = world.plane.metrics.shown("")[0].decode()
    for name, value in (("wanted", 1), ("needed", 5), ("most", 1)):
        assert f'tekup_autoscale_{name}{{service="search",version="1.0.0"}} {value}.0' in shown
