"""Ten thousand callers that leave in every ugly way: nothing is left of them, neither process nor memory."""

from __future__ import annotations

import asyncio
import hmac
import json
import random

import psutil
import pytest

from tests.contract.services.conftest import Instance, Starter
from tests.contract.services.test_bridge import Bridges, asked
from tests.contract.services.test_bridge_hostile import again

pytestmark = [pytest.mark.local, pytest.mark.feature("B10"), pytest.mark.long, pytest.mark.timeout(900)]
CALLERS = 10_000
AT_ONCE = 50
MOST_GROWTH = 24 << 20
"""Of the bridge's memory, in bytes, after the first tenth of them."""
VERSION = "2026-07-28"
SLOW: tuple[str, dict[str, object]] = ("pear_sleep", {"s": 0.3})
LARGE: tuple[str, dict[str, object]] = ("pear_big", {"bytes": 20_000})


def request(instance: Instance, tool: str, arguments: dict[str, object], client: str) -> bytes:
    """A call as the gate sends it."""
    meta = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = {
        "host": "pear", "content-type": "application/json", "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": tool,
        "x-tekup-gate": hmac.digest(instance.key, b"gate", "sha256").hex(), "x-tekup-client": client,
        "content-length": str(len(body)),
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body


async def leave(instance: Instance, port: int, number: int) -> None:
    """Call, and be gone: in the middle of the request, before the answer, in the middle of it, or in order."""
    tool, arguments = SLOW if number % 4 == 1 else LARGE
    sent = request(instance, tool, arguments, "~crowd")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent[: random.randrange(len(sent))] if number % 4 == 0 else sent)
        await writer.drain()
        if number % 4 == 1:
            await asyncio.sleep(random.random() * 0.05)
        elif number % 4 == 2:
            await reader.read(500)
        elif number % 4 == 3:
            async with asyncio.timeout(60):
                await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.transport.abort()


async def crowd(instance: Instance, numbers: range) -> None:
    places = asyncio.Semaphore(AT_ONCE)
    port = instance.where()["port"]

    async def one(number: int) -> None:
        async with places:
            await leave(instance, port, number)

    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(number))


async def test_nothing_is_left_of_ten_thousand_callers(starter: Starter) -> None:
    instance = Bridges(starter).start()
    bridge = psutil.Process(instance.process.pid)
    async with instance.session() as session:
        child = (await session.call("pear_pid")).text
        await crowd(instance, range(CALLERS // 10))
        before = bridge.memory_info().rss
        await crowd(instance, range(CALLERS // 10, CALLERS))
        assert await again(session, "pear_pid") == child
    assert bridge.memory_info().rss - before < MOST_GROWTH
    family = bridge.children(recursive=True)
    assert len(family) == 2  # the launcher and the child
    assert not [one for one in (bridge, *family) if one.status() == psutil.STATUS_ZOMBIE]
    metrics = (await asked(instance, "/metrics")).text
    assert "tekup_bridge_starts_total 1.0" in metrics
    assert instance.end() == 0


async def test_nothing_is_left_of_children_of_clients_who_came_once(starter: Starter) -> None:
    instance = Bridges(starter).start(mode="per-client", idle_s=0.5, children=8, spare=1)
    for number in range(40):
        async with instance.session(f"client-{number}") as session:
            assert await again(session, "pear_pid")
            if number % 3 == 0:
                await session.call("pear_daemon")
            if number % 5 == 0:
                await session.call("pear_exit")
    deadline = asyncio.get_running_loop().time() + 30
    while len(psutil.Process(instance.process.pid).children(recursive=True)) > 4:  # base and spare, a launcher each
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.1)
    assert instance.end() == 0
