"""Handles: whose they are, how long they live, and that each value is closed once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from services.common import ToolError
from services.common.call import Call, set_call
from services.common.handles import Handles, call_uses
from services.common.rights import Rights
from services.common.signing import Keyring

if TYPE_CHECKING:
    from tests.unit.services.common.conftest import Clock

pytestmark = pytest.mark.feature("A4")


class Pages:
    """Handles of strings, and what was closed."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self.closed: list[str] = []
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.handles: Handles[str] = Handles(
            "page",
            self.close,
            idle_s=10,
            total_s=100,
            per_client=2,
            instance="a1b2c3",
            keyring=keyring,
            clock=clock,
        )

    async def close(self, page: str) -> None:
        await self.may_close.wait()
        self.closed.append(page)
        if page == "stubborn":
            raise OSError("it would not close")


@pytest.fixture
def pages(keyring: Keyring, clock: Clock, calling: Call) -> Pages:
    return Pages(keyring, clock)


def test_a_handle_gives_its_value_to_its_client(pages: Pages) -> None:
    handle = pages.handles.open("p1")
    assert pages.handles.get(handle) == "p1"
    assert [info.handle for info in pages.handles.mine()] == [handle]


def test_unknown_forged_and_foreign_handles_get_the_same_answer(pages: Pages, keyring: Keyring) -> None:
    handle = pages.handles.open("p1")
    body = handle.rpartition(".")[0]
    never_opened = keyring.sign_handle("a1b2c3", "dev")
    of_another_instance = keyring.sign_handle("d4e5f6", "dev")
    for bad in ("", "x", body, f"{body}.AAAAAAAAAAAAAAAAAAAAAA", f"{handle}x", never_opened, of_another_instance):
        with pytest.raises(ToolError, match="is gone, open anew"):
            pages.handles.get(bad)
    set_call(Call(client="eve", rights=Rights(("*",))))
    with pytest.raises(ToolError, match="is gone, open anew"):
        pages.handles.get(handle)
    assert pages.handles.mine() == []


async def test_an_idle_handle_expires_and_is_closed_once(pages: Pages, clock: Clock) -> None:
    handle = pages.handles.open("p1")
    clock.now += 9
    pages.handles.get(handle)
    clock.now += 9
    pages.handles.get(handle)
    clock.now += 10
    with pytest.raises(ToolError, match="gone"):
        pages.handles.get(handle)
    await pages.handles.expire()
    await pages.handles.expire()
    assert pages.closed == ["p1"]


async def test_a_used_handle_still_expires_by_its_age(pages: Pages, clock: Clock) -> None:
    handle = pages.handles.open("p1")
    for _ in range(11):
        clock.now += 9
        pages.handles.get(handle)
    clock.now += 1
    with pytest.raises(ToolError, match="gone"):
        pages.handles.get(handle)


async def test_a_handle_in_use_by_a_running_call_does_not_expire_under_it(pages: Pages, clock: Clock) -> None:
    handle = pages.handles.open("p1")
    token = call_uses.set([])
    pages.handles.get(handle)
    clock.now += 50
    await pages.handles.expire()
    assert pages.closed == []
    for release in call_uses.get():
        release()
    call_uses.reset(token)
    clock.now += 9
    assert pages.handles.get(handle) == "p1", "the end of the call was its last use"
    clock.now += 10
    await pages.handles.expire()
    assert pages.closed == ["p1"]


async def test_a_client_over_its_limit_is_told_so_and_others_are_not_hurt(pages: Pages) -> None:
    first = pages.handles.open("p1")
    pages.handles.open("p2")
    with pytest.raises(ToolError, match="the most one client may"):
        pages.handles.open("p3")
    set_call(Call(client="eve", rights=Rights(("*",))))
    pages.handles.open("p4")
    set_call(Call(client="dev", rights=Rights(("*",))))
    await pages.handles.close(first)
    pages.handles.open("p3")
    assert pages.closed == ["p1"]


async def test_a_value_that_does_not_close_does_not_keep_the_others_open(pages: Pages) -> None:
    pages.handles.open("stubborn")
    pages.handles.open("p2")
    await pages.handles.close_all()
    assert pages.closed == ["stubborn", "p2"]
    assert len(pages.handles) == 0


async def test_a_value_is_closed_to_its_end_although_the_call_that_closes_it_is_cancelled(pages: Pages) -> None:
    pages.may_close = asyncio.Event()
    handle = pages.handles.open("slow")
    async with anyio.create_task_group() as call:
        call.start_soon(pages.handles.close, handle)
        await asyncio.sleep(0)
        call.cancel_scope.cancel()  # cancels every await of the call, again and again
        asyncio.get_running_loop().call_later(0.1, pages.may_close.set)
    assert pages.closed == ["slow"]


async def test_closing_twice_says_the_handle_is_gone(pages: Pages) -> None:
    handle = pages.handles.open("p1")
    await pages.handles.close(handle)
    with pytest.raises(ToolError, match="gone"):
        await pages.handles.close(handle)
