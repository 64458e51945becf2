"""A bridge before a server that hangs, floods, ends, prints garbage, forks: its own callers are told, in bounded time,
and the next call is served by a new child.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from tests.contract.services.conftest import Instance, Session, Starter
from tests.contract.services.test_bridge import Bridges, asked

pytestmark = [pytest.mark.local, pytest.mark.feature("A14"), pytest.mark.timeout(120)]
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def bridges(starter: Starter) -> Bridges:
    return Bridges(starter)


@pytest.fixture(scope="module")
def pear(bridges: Bridges) -> Instance:
    return bridges.start(
        settings={"MCP_TOOL_DEADLINE_S": 4},
        limits={"memory_mb": 150, "processes": 20},
        message_mb=2,
        hang_s=3,
        answer_s=1,
    )


async def again(session: Session, tool: str = "pear_echo", **arguments: Any) -> str:
    """Call until it works: the child is started anew after a moment."""
    deadline = time.monotonic() + WITHIN_S
    while (said := await session.call(tool, **arguments)).error:
        assert time.monotonic() < deadline, said.error
        await asyncio.sleep(0.1)
    return said.text


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("exit", {}, "exit code 3; it last said: I have had enough"),
        pytest.param("garbage", {}, "that are no messages", marks=pytest.mark.long),
        pytest.param("endless", {}, "without an end of line", marks=pytest.mark.long),
        # on a busy machine the call's time is up before there are enough of them
        ("flood", {}, "messages unasked|did not answer within 4 s"),
        ("big", {"bytes": 3 << 20}, "without an end of line"),
        ("eat", {"mb": 400}, "more than the 150 MiB of memory"),
        ("hang", {}, "did not answer within 4 s"),
    ],
)
async def test_its_caller_is_told_why_and_the_next_call_is_served(
    pear: Instance, tool: str, arguments: dict[str, Any], reason: str
) -> None:
    async with pear.session() as session:
        before = await again(session, "pear_pid")
        began = time.monotonic()
        error = (await session.call(f"pear_{tool}", **arguments)).error
        assert time.monotonic() - began < WITHIN_S
        assert "look before you call again" in error
        assert re.search(reason, error), error
        assert await again(session, "pear_pid") != before


async def test_a_child_that_forks_meets_its_limit_and_leaves_nothing(pear: Instance) -> None:
    async with pear.session() as session:
        await again(session, "pear_pid")
        await session.call("pear_fork", n=300)
        await again(session, "pear_echo", text="on")
        metrics = (await asked(pear, "/metrics")).text
        used = next(line for line in metrics.splitlines() if line.startswith("tekup_bridge_child_processes "))
        assert float(used.split()[1]) <= 21


async def test_ready_says_why_while_the_child_does_not_answer_and_recovers(pear: Instance) -> None:
    async with pear.session() as session:
        await again(session)
        hanging = asyncio.create_task(session.call("pear_hang"))
        deadline = time.monotonic() + WITHIN_S
        while (answer := await asked(pear, "/ready")).status_code != 503:
            assert time.monotonic() < deadline
        assert "did not answer" in answer.json()["reason"]
        assert "look before" in (await hanging).error
        while (await asked(pear, "/ready")).status_code != 200:
            assert time.monotonic() < deadline + WITHIN_S


async def test_what_a_child_says_to_its_log_is_bounded(pear: Instance) -> None:
    async with pear.session() as session:
        assert await again(session, "pear_spam") == "spammed"
        await again(session)
    said = [line for line in pear.log.read_text().splitlines() if '"child.said"' in line and "line 1" in line]
    assert 0 < len(said) < 200


@pytest.mark.parametrize(
    ("options", "declared", "reason"),
    [
        (["dies-at-start"], {}, "exit code 7; it last said: no configuration found"),
        ([], {"command": ["/nonexistent/server"]}, "could not be started: No such file"),
        pytest.param(
            ["never-greets"], {"start_s": 1}, "did not answer the handshake within 1 s", marks=pytest.mark.long
        ),
        pytest.param(
            [],
            {"env_files": {"A_TOKEN": "/nonexistent/token"}},
            "/nonexistent/token cannot be read",
            marks=pytest.mark.long,
        ),
    ],
)
async def test_a_server_that_does_not_start_is_never_ready_and_the_reason_is_told(
    bridges: Bridges, options: list[str], declared: dict[str, Any], reason: str
) -> None:
    instance = bridges.start(*options, **declared)
    deadline = time.monotonic() + WITHIN_S
    while reason not in instance.log.read_text():
        assert time.monotonic() < deadline, instance.log.read_text()
        assert instance.process.poll() is None
        await asyncio.sleep(0.05)
    assert '"serving"' not in instance.log.read_text()
    assert instance.end() == 0


@pytest.mark.long
async def test_other_clients_notice_nothing_where_each_has_a_child_of_its_own(bridges: Bridges) -> None:
    instance = bridges.start(mode="per-client", settings={"MCP_TOOL_DEADLINE_S": 4})
    async with instance.session("good") as good, instance.session("bad") as bad:
        pid = (await good.call("pear_pid")).text
        for tool in ("hang", "exit", "garbage", "flood"):
            wrong = asyncio.create_task(bad.call(f"pear_{tool}"))
            while not wrong.done():
                assert (await good.call("pear_pid")).text == pid
                await asyncio.sleep(0.02)
            assert wrong.result().error
            await again(bad)
    assert instance.end() == 0
