"""Listening: who is told what, and how many may listen."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import MCPError
from mcp_types import SubscriptionFilter, SubscriptionsListenRequestParams

from services.common.call import Call, restore_call, set_call
from services.common.rights import Rights
from services.hub.changes import PER_CLIENT, Changes


class SlowLists:
    """A catalogue that gives its empty lists when it is let."""

    def __init__(self) -> None:
        self.may_go = asyncio.Event()

    async def listing(self, method: str) -> list[Any]:
        await self.may_go.wait()
        return []


def listen(changes: Changes) -> asyncio.Task[object]:
    async def sent(*_: object, **__: object) -> None: ...

    ctx: Any = SimpleNamespace(request_id=1, session=SimpleNamespace(send_notification=sent))
    params = SubscriptionsListenRequestParams(notifications=SubscriptionFilter(tools_list_changed=True))
    token = set_call(Call("dev", "k1", Rights(("*",))))
    try:
        return asyncio.create_task(changes.listen(ctx, params, ""))
    finally:
        restore_call(token)


async def test_streams_opened_all_at_once_are_no_more_than_those_opened_one_by_one() -> None:
    lists: Any = SlowLists()
    changes = Changes(lists, life_s=600)
    asked = [listen(changes) for _ in range(PER_CLIENT + 5)]
    await asyncio.sleep(0)
    lists.may_go.set()
    async with asyncio.timeout(20):
        while sum(task.done() for task in asked) < 5 or len(changes) < PER_CLIENT:
            await asyncio.sleep(0)
    refused = [task for task in asked if task.done()]
    open_ = [task for task in asked if not task.done()]
    assert (len(refused), len(open_), len(changes)) == (5, PER_CLIENT, PER_CLIENT)
    for task in refused:
        with pytest.raises(MCPError, match="16 streams"):
            task.result()
    changes.end()
    await asyncio.wait_for(asyncio.gather(*open_), 20)
    assert len(changes) == 0


async def test_a_stream_that_is_just_being_opened_when_the_hub_stops_is_not_opened() -> None:
    lists: Any = SlowLists()
    changes = Changes(lists, life_s=600)
    late = listen(changes)
    await asyncio.sleep(0)
    changes.end()
    lists.may_go.set()
    with pytest.raises(MCPError, match="stopping"):
        await asyncio.wait_for(late, 20)
