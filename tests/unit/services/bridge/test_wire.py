"""Requests straight on a child's pipes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from mcp import MCPError

from services.bridge.wire import CLOSED, FIRST_ID, Wire

pytestmark = [pytest.mark.feature("B11"), pytest.mark.timeout(20)]


@dataclass
class Child:
    """The other end of the pipe."""

    wire: Wire
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def heard(self) -> dict[str, Any]:
        """The next message that reaches it."""
        said: dict[str, Any] = json.loads(await self.reader.readline())
        return said

    def says(self, **message: object) -> bool:
        """What it writes; whether it was taken."""
        return self.wire.take(json.dumps({"jsonrpc": "2.0", **message}).encode())


@pytest.fixture
async def child() -> AsyncIterator[Child]:
    ours, theirs = socket.socketpair()
    _, pipe = await asyncio.open_unix_connection(sock=ours)
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    yield Child(Wire(pipe), reader, writer)
    for open_ in (pipe, writer):
        open_.close()


async def test_each_request_gets_the_answer_that_carries_its_id_in_whatever_order(child: Child) -> None:
    first, second = (asyncio.create_task(child.wire.request("ping", {"n": n})) for n in (1, 2))
    asked = [await child.heard() for _ in range(2)]
    assert [one["id"] for one in asked] == [FIRST_ID, FIRST_ID + 1]
    assert [one["params"]["n"] for one in asked] == [1, 2]
    assert child.says(id=asked[1]["id"], result={"is": 2})
    assert child.says(id=str(asked[0]["id"]), result={"is": 1})  # as some servers say it
    assert (await first, await second) == ({"is": 1}, {"is": 2})


async def test_a_refusal_is_raised_with_code_and_data(child: Child) -> None:
    asking = asyncio.create_task(child.wire.request("ping", {}))
    asked = await child.heard()
    assert "params" not in asked
    assert child.says(id=asked["id"], error={"code": -7, "message": "no", "data": {"why": "because"}})
    with pytest.raises(MCPError) as raised:
        await asking
    assert (raised.value.error.code, raised.value.error.data) == (-7, {"why": "because"})


async def test_what_is_no_answer_to_it_is_left_to_others(child: Child) -> None:
    asking = asyncio.create_task(child.wire.request("ping", {}))
    number = (await child.heard())["id"]
    assert not child.says(method="notifications/message", params={})
    assert not child.says(id=number, method="ping")
    assert not child.says(id=1, result={})
    assert not child.says(id=True, result={})
    assert not child.says(id=number, result=7)
    assert not child.says(id=number, error="no")
    assert not child.wire.take(b"a banner")
    assert not child.wire.take(b"[1]")
    assert child.says(id=number, result={})
    assert await asking == {}
    assert not child.says(id=number, result={})


async def test_whoever_stops_waiting_has_cancelled_and_a_late_answer_is_nobodys(child: Child) -> None:
    asking = asyncio.create_task(child.wire.request("ping", {}))
    number = (await child.heard())["id"]
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    cancelled = await child.heard()
    assert (cancelled["method"], cancelled["params"]["requestId"]) == ("notifications/cancelled", number)
    assert not child.says(id=number, result={})


async def test_when_nothing_more_comes_those_who_wait_are_told_and_the_next_too(child: Child) -> None:
    asking = asyncio.create_task(child.wire.request("ping", {}))
    await child.heard()
    child.wire.end()
    for waiting in (asking, child.wire.request("ping", {})):
        with pytest.raises(MCPError, match=CLOSED):
            await waiting


async def test_a_child_that_reads_nothing_is_not_written_to_without_end(child: Child) -> None:
    much = {"text": "x" * 1_000_000}
    waiting = [asyncio.create_task(child.wire.request("ping", much)) for _ in range(8)]
    await asyncio.wait(waiting, timeout=0.2)
    held: int = child.wire._pipe.transport.get_write_buffer_size()
    assert held < 8_000_000
    late = asyncio.create_task(child.wire.request("ping", much))
    await asyncio.wait([late], timeout=0.1)
    assert child.wire._pipe.transport.get_write_buffer_size() == held
    for task in (*waiting, late):
        task.cancel()
    await asyncio.gather(*waiting, late, return_exceptions=True)
