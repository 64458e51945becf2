"""Connections end when their clients have closed them, and a lack of files is said now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING

import psutil
import pytest

from services.common.connections import NO_ROOM, Exhaustion
from services.common.listen import bind, listening
from tests.support.wait import eventually

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.local
ASKED = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
COUNT = 20
NOW = struct.pack("ii", 1, 0)
"""A socket that lingers for no time ends with a reset."""


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers `/` at once and everything else when its client is gone."""
    if scope["type"] == "http":
        if scope["path"] != "/":
            while (await receive())["type"] != "http.disconnect":
                pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def kept(port: int) -> int:
    """How many files this process, the server, holds for connections to its port."""
    return sum(bool(one.laddr) and one.laddr.port == port for one in psutil.Process().net_connections("tcp")) - 1


async def asked(port: int, what: bytes = ASKED) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(what)
    await writer.drain()
    return reader, writer


async def test_a_connection_whose_client_has_closed_it_when_idle_is_not_kept() -> None:
    listener = bind("127.0.0.1", 0)
    async with listening(answering, listener):
        made = [await asked(listener.port) for _ in range(COUNT)]
        for reader, writer in made:
            assert b"204" in await reader.readuntil(b"\r\n\r\n")
            writer.close()
        await _none_kept(listener.port)


async def test_a_connection_whose_client_leaves_within_a_call_is_not_kept_after_it() -> None:
    listener = bind("127.0.0.1", 0)
    async with listening(answering, listener):
        made = [await asked(listener.port, ASKED.replace(b"/ ", b"/slow ", 1)) for _ in range(COUNT)]
        for _, writer in made:
            writer.close()
        await _none_kept(listener.port)


async def test_nothing_is_kept_of_a_connection_that_was_reset_within_a_call() -> None:
    """Its call is told, and ends, after the reading has: whoever is idle then has no client."""
    listener = bind("127.0.0.1", 0)
    async with listening(answering, listener):
        made = [await asked(listener.port, ASKED.replace(b"/ ", b"/slow ", 1)) for _ in range(COUNT)]
        for _, writer in made:
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, NOW)
            writer.transport.abort()
        await eventually(_none_idle, "no connection waited for")


async def test_a_connection_that_nobody_has_closed_is_kept() -> None:
    listener = bind("127.0.0.1", 0)
    async with listening(answering, listener):
        reader, writer = await asked(listener.port)
        for _ in range(3):
            assert b"204" in await reader.readuntil(b"\r\n\r\n")
            writer.write(ASKED)
        assert b"204" in await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def _none_idle() -> bool:
    return not [task for task in asyncio.all_tasks() if "_idle_timeout" in repr(task.get_coro())]


async def _none_kept(port: int) -> None:
    async def none() -> bool:
        return await kept(port) == 0

    await eventually(none, "every connection closed")


def test_a_lack_of_files_is_said_once_in_ten_seconds_and_other_errors_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    at_s = [0.0]
    handler = Exhaustion(lambda: at_s[0])
    with contextlib.closing(asyncio.new_event_loop()) as loop, caplog.at_level(logging.ERROR):
        for at_s[0] in (0.0, 1.0, 9.9, 10.0):
            for _ in range(100):
                handler(loop, {"message": NO_ROOM, "exception": OSError(24, os.strerror(24))})
        handler(loop, {"message": "something else"})
        handler(loop, {"message": "something else"})
    said = [record.getMessage() for record in caplog.records]
    assert said == ["connections.no_room", "connections.no_room", "something else", "something else"]
