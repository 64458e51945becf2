"""An instance and its collector: whatever that does, calls are answered, and stopping is no longer than it may be."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.otlp import collecting
from tests.support.ports import free_port

if TYPE_CHECKING:
    from tests.contract.kit.conftest import Services

pytestmark = [pytest.mark.local, pytest.mark.feature("D4")]
CALLS = 50
START_S = 60.0
STOP_S = 15.0
"""A second of quiet, two for what is left of the spans, and a machine that has other work."""


async def call(services: Services, url: str) -> tuple[int, float]:
    """Calls of one instance with that collector: how it ends, and how many seconds after the signal."""
    instance = services.spawn(MCP_OTLP_URL=url)
    instance.where = await instance.event("serving", within_s=START_S)
    async with instance.client() as client:
        answers = await asyncio.gather(*(client.call_tool("demo_add", {"a": 1, "b": 2}) for _ in range(CALLS)))
    assert not [one for one in answers if one.is_error]
    began_s = time.monotonic()
    instance.stop()
    code = await instance.ended(START_S)
    return code, time.monotonic() - began_s


@pytest.mark.parametrize("how", ["dead", "mute"])
async def test_a_collector_that_takes_nothing_is_noticed_by_no_caller_and_holds_up_no_stop(
    services: Services, how: str
) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1] if how == "mute" else free_port()
        code, took_s = await call(services, f"http://127.0.0.1:{port}")
    assert code == 0
    assert took_s < STOP_S


async def test_what_waits_to_be_sent_is_sent_when_the_instance_stops(services: Services) -> None:
    with collecting() as collector:
        code, _ = await call(services, collector.url)
        seen = Counter(one.about.get("tekup.probe") for one in collector.named("tools/call demo_add"))
    assert code == 0
    assert seen[None] == CALLS
