"""Ten thousand sessions that end in every ugly way: nothing is left of them, neither process nor memory."""

from __future__ import annotations

import asyncio
import hmac
import json
import random
import statistics
import struct
from collections import Counter
from socket import SO_LINGER, SOL_SOCKET

import psutil
import pytest

from tests.contract.services.conftest import Instance, Starter
from tests.contract.services.test_bridge import Bridges, asked
from tests.contract.services.test_bridge_hostile import again

pytestmark = [pytest.mark.local, pytest.mark.feature("B10"), pytest.mark.long, pytest.mark.timeout(1500)]
SHARED, OWN = 9_600, 400
"""Sessions on one child for all, and sessions of which each has a child of its own."""
AT_ONCE = 50
LOOKS = 16
MOST_GROWTH = 1_500
"""Of the bridge's memory, in bytes a session, by the line through all looks but the first few."""
VERSION = "2026-07-28"
SLOW: tuple[str, dict[str, object]] = ("pear_sleep", {"s": 0.3})
LARGE: tuple[str, dict[str, object]] = ("pear_big", {"bytes": 20_000})
HUGE: tuple[str, dict[str, object]] = ("pear_big", {"bytes": 1_000_000})
TELLS: tuple[str, dict[str, object]] = ("pear_progress", {})
WAYS = ("mid-request", "mid-call", "mid-answer", "head-alone", "reset", "half-closed", "two-at-once", "in-order")
CALLS = {"mid-call": SLOW, "mid-answer": HUGE, "half-closed": SLOW, "reset": TELLS}
NOW = struct.pack("ii", 1, 0)
"""A socket that lingers for no time ends with a reset."""


def request(instance: Instance, tool: str, arguments: dict[str, object], client: str) -> bytes:
    """A call as the gate sends it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": 1,
    }
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
    """Begin, and be gone in one of the ways."""
    way = WAYS[number % len(WAYS)]
    sent = request(instance, *CALLS.get(way, LARGE), "~crowd")
    cut = {"mid-request": random.randrange(1, len(sent)), "head-alone": sent.index(b"\r\n\r\n") + 4}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent[: cut.get(way, len(sent))] * (2 if way == "two-at-once" else 1))
        await writer.drain()
        if way == "half-closed":
            writer.write_eof()
        if way in ("mid-call", "half-closed", "head-alone", "two-at-once"):
            await asyncio.sleep(random.random() * 0.05)
        elif way == "mid-answer":
            await reader.read(500)
        elif way == "reset":
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, NOW)
        elif way == "in-order":
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


async def test_nothing_is_left_of_thousands_of_sessions_on_one_child(starter: Starter) -> None:
    instance = Bridges(starter).start()
    bridge = psutil.Process(instance.process.pid)
    sizes = []
    async with instance.session() as session:
        child = (await session.call("pear_pid")).text
        for look in range(LOOKS):
            await crowd(instance, range(look * SHARED // LOOKS, (look + 1) * SHARED // LOOKS))
            assert await again(session, "pear_pid") == child
            sizes.append(bridge.memory_info().rss)
    settled = sizes[LOOKS // 4 :]
    slope = statistics.linear_regression(range(len(settled)), settled).slope / (SHARED / LOOKS)
    assert slope < MOST_GROWTH, f"{slope:.0f} bytes a session: {[size >> 20 for size in sizes]} MiB"
    family = bridge.children(recursive=True)
    assert len(family) == 2  # the launcher and the child
    assert not [one for one in (bridge, *family) if one.status() == psutil.STATUS_ZOMBIE]
    metrics = (await asked(instance, "/metrics")).text
    assert "tekup_bridge_starts_total 1.0" in metrics
    assert "Error in ASGI" not in instance.log.read_text()
    assert instance.end() == 0
    print(f"{slope:.0f} bytes a session; {sizes[0] >> 20} to {sizes[-1] >> 20} MiB")


async def test_nothing_is_left_of_hundreds_of_sessions_with_a_child_each(starter: Starter) -> None:
    instance = Bridges(starter).start(mode="per-client", idle_s=0.5, children=8, spare=1, limits={"processes": 8})
    bridge = psutil.Process(instance.process.pid)
    ends: Counter[str] = Counter()
    ugly = ("exit", "daemon", "fork", "flood", "garbage", "echo", "sleep", "kill")
    places = asyncio.Semaphore(4)

    async def one(number: int) -> None:
        way = ugly[number % len(ugly)]
        async with places, instance.session(f"client-{number}") as session:
            if way == "kill":
                psutil.Process(int(await again(session, "pear_pid"))).kill()
            elif way == "sleep":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await session.call("pear_sleep", s=30)
            else:
                await session.call(f"pear_{way}", **({"n": 12} if way == "fork" else {}))
            ends[way] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(OWN):
            group.create_task(one(number))
    assert ends.total() == OWN
    deadline = asyncio.get_running_loop().time() + 60
    while len(family := bridge.children(recursive=True)) > 4:  # base and spare, a launcher each
        assert asyncio.get_running_loop().time() < deadline, family
        await asyncio.sleep(0.1)
    assert not [one for one in (bridge, *family) if one.status() == psutil.STATUS_ZOMBIE]
    assert instance.end() == 0
