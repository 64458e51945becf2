"""Deployments at work: over a store in memory, a gate that obeys and a keeper that tells."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from control_plane.deployer import Deployer
from control_plane.deploying import Deployment, Stage, Wish
from control_plane.engine import Engine
from control_plane.errors import Conflict, Refused
from control_plane.keeper import KEEPER_KEY, SILENT_S, KeeperReport
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane
from control_plane.model import Instance, Table
from control_plane.outcome import Wish as Reason
from control_plane.rollout import Phase
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, running
from tests.support.wait import eventually

WHY = Reason("anna", "faster")
OLD = Instance("search", "1.0.0", "aaaaaa", "127.0.0.1", 4001)
NEW = Instance("search", "2.0.0", "bbbbbb", "127.0.0.1", 4002)


class World:
    """A control plane on a clock of the test's."""

    def __init__(self) -> None:
        self.store, self.now_s = Memory(), 1000.0
        leadership = Leadership(self.store, "one", url="http://one")
        self.plane = ControlPlane(self.store, self.store, leadership, in_force_timeout_s=1, now=lambda: self.now_s)
        self.engine = Engine(self.plane, self.store, now=lambda: self.now_s)
        self.deployer = Deployer(self.engine, now=lambda: self.now_s)

    def tell(self, **report: object) -> None:
        self.store.put(KEEPER_KEY, KeeperReport.model_validate({"at": self.now_s, **report}).to_bytes())

    async def ask(self, version: str, instances: int | None = None) -> Deployment:
        wish = Wish("search", version, instances, {"strategy": "immediate"}, WHY.author, WHY.reason)
        return await self.deployer.ask(wish, WHY)

    async def now(self) -> Deployment:
        await self.deployer.turn()
        return await self.deployer.last("search")

    async def seen(self, *instances: Instance) -> None:
        await self.store.register(*instances)

        async def known() -> bool:
            return set(self.plane.instances()) == set(instances)

        await eventually(known, "the instances", 10)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """One with search 1.0.0 in force, and a keeper."""
    made = World()
    async with running(made.plane, ObedientGate(made.store, "one")):

        async def begun() -> bool:
            await made.plane.init(WHY, force=True)
            return True

        await eventually(begun, "a policy", 10)
        await made.seen(OLD)

        async def taken_in() -> bool:
            return "search" in (await made.plane.page()).tables[Table.SERVICES]

        await eventually(taken_in, "search", 10)
        made.tell()
        yield made


async def test_without_a_keeper_nothing_is_begun_and_the_way_is_told(world: World) -> None:
    world.now_s += SILENT_S
    with pytest.raises(Refused, match="tekup scale"):
        await world.ask("2.0.0")


async def test_a_version_is_wanted_and_rolled_out_once_it_is_ready(world: World) -> None:
    asked = await world.ask("2.0.0")
    assert (asked.stage, asked.wanted("2.0.0")) == (Stage.STARTING, 1)
    assert (await world.now()).stage is Stage.STARTING
    await world.seen(OLD, NEW)
    assert (await world.now()).stage is Stage.SHIFTING
    rollout = await world.engine.shelf.one("search")
    assert (rollout.canary, rollout.phase) == ("2.0.0", Phase.PREPARING)
    assert rollout.author == "anna"


async def test_why_nothing_starts_is_said_while_it_is_waited_for(world: World) -> None:
    await world.ask("2.0.0")
    world.tell(problems={"search 2.0.0": "no such image"})
    assert "no such image" in (await world.now()).said


async def test_the_version_of_before_asked_for_during_the_rollout_ends_that(world: World) -> None:
    await world.ask("2.0.0")
    await world.seen(OLD, NEW)
    await world.now()
    await world.ask("1.0.0")
    assert (await world.engine.shelf.one("search")).phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    with pytest.raises(Conflict):
        await world.ask("3.0.0")


async def test_a_rollout_that_cannot_begin_takes_the_new_version_away(world: World) -> None:
    await world.ask("2.0.0")
    await world.seen(OLD, NEW)
    await world.plane.set_traffic("search", {"2.0.0": 50}, WHY)
    now = await world.now()
    assert (now.stage, now.wanted("2.0.0")) == (Stage.ENDING, 0)
    assert "split by hand" in now.said


async def test_a_dry_run_writes_nothing(world: World) -> None:
    wish = Wish("search", "2.0.0", None, {"strategy": "immediate"}, "anna", "faster")
    asked = await world.deployer.ask(wish, Reason("anna", "faster", dry_run=True))
    assert asked.version == "2.0.0"
    with pytest.raises(Refused, match="never deployed"):
        await world.deployer.last("search")
