"""The keeper brings a lost registration back, and never writes "serving" over "draining"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.common import registration
from services.common.errors import RegistryError
from services.common.kit import Kit
from services.common.registration import Keeper
from services.common.registry import Registration

WANTED = Registration("demo", "a1b2c3", "1.0.0", "127.0.0.1", 1, 2, "serving")


class FakeRegistry:
    """Keeps one registration, and can be away."""

    def __init__(self) -> None:
        self.held: Registration | None = None
        self.away = False
        self.writes: list[str] = []
        self.changed = asyncio.Event()
        self.refusals = 0
        self.asked = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()

    async def register(self, wanted: Registration) -> None:
        self._reach()
        self.asked.set()
        under_way = asyncio.ensure_future(self._written(wanted))  # as Consul does, who has hung up meanwhile or not
        await asyncio.shield(under_way)

    async def _written(self, wanted: Registration) -> None:
        await self.answering.wait()
        self.held = wanted
        self.writes.append(wanted.state)
        self.changed.set()

    async def holds(self, wanted: Registration) -> bool:
        self._reach()
        await asyncio.sleep(0)
        return self.held == wanted

    async def deregister(self, service_id: str) -> None:
        self._reach()
        self.held = None

    def _reach(self) -> None:
        self.refusals -= 1
        if self.away or self.refusals >= 0:
            raise RegistryError("away")


@asynccontextmanager
async def keeping(keeper: Keeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.feature("C1")
async def test_a_lost_registration_is_written_again(kit: Kit) -> None:
    registry = FakeRegistry()
    async with keeping(Keeper(registry, WANTED, kit.metrics)), asyncio.timeout(5):
        await registry.changed.wait()
        registry.held = None
        registry.changed.clear()
        await registry.changed.wait()
    assert registry.writes == ["serving", "serving"]
    assert registry.held == WANTED


async def test_a_registry_that_is_away_is_tried_again(kit: Kit) -> None:
    registry = FakeRegistry()
    registry.away = True
    keeper = Keeper(registry, WANTED, kit.metrics)
    async with keeping(keeper), asyncio.timeout(5):
        await keeper.drain()
        assert registry.held is None
        registry.away = False
        await registry.changed.wait()
    assert registry.writes == ["draining"]


async def test_draining_is_never_overwritten_by_a_look_under_way(kit: Kit) -> None:
    registry = FakeRegistry()
    keeper = Keeper(registry, WANTED, kit.metrics)
    async with keeping(keeper), asyncio.timeout(5):
        await registry.changed.wait()
        registry.held = None
        await keeper.drain()
    assert registry.held is not None
    assert registry.held.state == "draining"


async def test_nothing_is_written_after_the_leaving_by_a_look_that_was_ended_under_way(kit: Kit) -> None:
    registry = FakeRegistry()
    registry.answering.clear()
    keeper = Keeper(registry, WANTED, kit.metrics)
    async with asyncio.timeout(5):
        async with keeping(keeper):
            await registry.asked.wait()
        leaving = asyncio.create_task(keeper.leave())
        await asyncio.sleep(0)
        registry.answering.set()
        await leaving
        await asyncio.sleep(0)
    assert registry.writes == ["serving"]
    assert registry.held is None


async def test_an_instance_that_a_busy_registry_refused_to_let_go_asks_once_more(kit: Kit) -> None:
    registry = FakeRegistry()
    registry.held = WANTED
    registry.refusals = 1
    await Keeper(registry, WANTED, kit.metrics).leave()
    assert registry.held is None


async def test_leaving_without_a_registry_is_no_error(kit: Kit) -> None:
    registry = FakeRegistry()
    registry.away = True
    await Keeper(registry, WANTED, kit.metrics).leave()


def test_the_keeper_looks_often_enough_to_be_back_within_two_seconds() -> None:
    assert registration.LOOK_EVERY_S + registration.RETRY_AFTER_S < 2
