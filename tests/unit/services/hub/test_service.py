"""The hub's handlers."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from services.common.call import Call, restore_call, set_call
from services.common.calls import Record
from services.common.rights import Rights
from services.hub import service


async def test_a_long_search_among_the_tools_does_not_hold_up_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    others_were_answered = threading.Event()

    async def listing(method: str, scope: str) -> list[Any]:
        return []

    def search(*_: object) -> str:
        return "in time" if others_were_answered.wait(20) else "held up"

    monkeypatch.setattr(service, "found_text", search)
    kit: Any = SimpleNamespace(calls=SimpleNamespace(record=lambda _: nullcontext(Record())))
    unused: Any = SimpleNamespace(listing=listing)
    hub = service.Hub(kit, unused, unused, unused, unused, list_budget_bytes=0)
    params: Any = SimpleNamespace(name="hub_find_tools", arguments={"query": "x"})
    token = set_call(Call("dev", "k1", Rights(("*",))))
    call = asyncio.create_task(hub._call_tool(SimpleNamespace(request=None), params))  # type: ignore[arg-type]
    restore_call(token)
    asyncio.get_running_loop().call_later(0.1, others_were_answered.set)
    result: Any = await call
    assert result.content[0].text == "in time"
