"""Walks take turns, and one that hangs holds up nobody for long."""

from __future__ import annotations

import asyncio

from services.filesystem.turns import Turns

FOREVER_S = 600.0
SOON_S = 10.0


async def test_the_next_begins_when_the_one_before_has_ended_and_in_the_order_they_came() -> None:
    turns, order = Turns(turn_s=FOREVER_S), list[str]()

    async def walk(name: str) -> None:
        async with turns.turn():
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as walks:
        for name in "abc":
            walks.create_task(walk(name))
    assert order == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


async def test_one_that_outlasts_its_turn_is_joined_by_one_other_at_a_time() -> None:
    turns, begun, hung = Turns(turn_s=0.01), list[int](), asyncio.Event()

    async def walk(number: int) -> None:
        async with turns.turn():
            begun.append(number)
            await hung.wait()

    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as walks:
        for number in range(3):
            walks.create_task(walk(number))
        while len(begun) < 3:
            await asyncio.sleep(0)
        hung.set()


async def test_a_turn_that_outlasted_its_time_is_given_back_once() -> None:
    turns = Turns(turn_s=0.01)
    joined = asyncio.Event()

    async def other() -> None:
        async with turns.turn():
            joined.set()

    async with asyncio.timeout(SOON_S):
        async with turns.turn():
            waiting = asyncio.create_task(other())
            await joined.wait()
        await waiting
        turns.turn_s = FOREVER_S
        async with turns.turn():
            third = asyncio.create_task(other())
            joined.clear()
            await asyncio.sleep(0)
            assert not joined.is_set(), "two are let in at once"
        await third


async def test_who_gives_up_waiting_takes_no_turn_from_anybody() -> None:
    turns = Turns(turn_s=FOREVER_S)
    async with turns.turn():
        gave_up = asyncio.create_task(_one(turns))
        await asyncio.sleep(0)
        gave_up.cancel()
        await asyncio.gather(gave_up, return_exceptions=True)
    async with asyncio.timeout(SOON_S):
        await _one(turns)


async def _one(turns: Turns) -> None:
    async with turns.turn():
        pass
