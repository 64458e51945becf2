"""One service dead, frozen, slow or failing: the others notice nothing, its own callers are told in bounded time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.crowd import Crowd, Speaker, Turn
from tests.support.ledgers import Ledgers, ledgers
from tests.support.load import body, headers
from tests.support.sdk import ERAS, MODERN, Answer, asked, sdk_client
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(600), pytest.mark.feature("A14")]
CALLS: dict[str, tuple[str, dict[str, object]]] = {
    "browser": ("browser_list", {}),
    "filesystem": ("filesystem_list_directory", {"path": "."}),
    "search": ("search_grep", {"pattern": "lighthouse", "path": "."}),
}
SPEAKERS = 4
SOON_S = 20.0
FROZEN_S = 30.0
"""What the gate waits for the first byte of an answer (traefik/gate.yml.tmpl)."""
MARGIN_S = 20.0
SLOW_MS = 1500
DEAD, FROZEN, SLOW, FAILING = "dead", "frozen", "slow", "failing"
DRILLS: dict[str, dict[str, object]] = {
    # A probe of the instance's own is the first call to meet it, also after each start.
    DEAD: {"crash": True, "probe": True},
    SLOW: {"delay_ms": SLOW_MS},
    FAILING: {"error": "this is a drill"},
}


@asynccontextmanager
async def broken(environment: Any, service: str, fault: str) -> AsyncIterator[None]:
    """All instances of a service have a fault inside the block, and are well again after it."""
    process = await asyncio.to_thread(environment.process, service)
    drill = environment.state / "drills" / f"{service}-{process.version}.json"
    try:
        if fault == FROZEN:
            os.kill(process.pid, signal.SIGSTOP)
        else:
            drill.write_text(json.dumps([{"tool": f"{service}_*", **DRILLS[fault]}]))
        yield
    finally:
        drill.unlink(missing_ok=True)
        if fault == FROZEN:
            os.kill(process.pid, signal.SIGCONT)
        await asyncio.to_thread(environment.until_all_ready, 60)
        async with sdk_client(f"{environment.gateway_url}/mcp", environment.key, MODERN) as client:

            async def well() -> bool:
                listed = {tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools}
                return CALLS[service][0] in listed and (await asked(client, *CALLS[service])).ok

            await eventually(well, f"{service} to be well again", 60)


def use_the_others(service: str) -> Turn:
    """List everything and call every service but one."""
    others = CALLS.keys() - {service}

    async def turn(speaker: Speaker) -> None:
        names = await speaker.lists()
        assert {name.partition("_")[0] for name in names} >= others, names
        for other in others:
            tool, arguments = CALLS[other]
            await speaker.call(tool, **arguments)
        await asyncio.sleep(0.05)

    return turn


def told_clearly(answer: Answer, fault: str) -> bool:
    """Whether an answer is what a caller of a service with that fault should get."""
    if fault == SLOW:
        return answer.ok
    if fault == FAILING:
        return answer.tool_error == "this is a drill"
    # Not sent, or lost on its way.
    return answer.code == 503 or (answer.code in (502, 504) and answer.may_have_run)


async def met(environment: Any, service: str, fault: str) -> None:
    """Wait until the fault shows to a caller who is not patient."""
    tool, arguments = CALLS[service]
    sent = headers(environment.key, "tools/call", tool)
    request = body("tools/call", {"name": tool, "arguments": arguments})

    async def shows() -> bool:
        try:
            async with httpx.AsyncClient(timeout=SLOW_MS / 2000) as client:
                answer = await client.post(f"{environment.gateway_url}/mcp", headers=sent, json=request)
        except httpx.TimeoutException:
            return fault in (SLOW, FROZEN)
        return answer.status_code != 200 or bool(answer.json()["result"]["isError"])

    await eventually(shows, f"{service} to be {fault}", 60)


EVERY_FAULT = [
    pytest.param(service, fault, marks=pytest.mark.long if service != "search" and fault in (SLOW, FAILING) else ())
    for service in CALLS
    for fault in (DEAD, FROZEN, SLOW, FAILING)
]


@pytest.mark.feature("B10")
@pytest.mark.parametrize(("service", "fault"), EVERY_FAULT)
async def test_a_service_with_a_fault_hurts_no_other_and_its_callers_are_told(
    environment: Any, service: str, fault: str
) -> None:
    url = f"{environment.gateway_url}/mcp"
    crowd = Crowd(url, [environment.key] * SPEAKERS, use_the_others(service))
    async with crowd.speaking(), broken(environment, service, fault):
        await met(environment, service, fault)
        if fault == FROZEN:
            await told_at_once(environment, service)
        for mode in ERAS:
            async with sdk_client(url, environment.key, mode) as client:
                async with asyncio.timeout(SOON_S):
                    answer = await asked(client, *CALLS[service])
                assert told_clearly(answer, fault), answer
        await crowd.more(10)
    assert crowd.failed() == []
    slowest = max(crowd.calls, key=lambda call: call.took_s)
    assert slowest.took_s < SOON_S, slowest


async def told_at_once(environment: Any, service: str) -> None:
    """Wait until nobody is sent to a frozen instance any more, but told."""
    tool, arguments = CALLS[service]
    sent = headers(environment.key, "tools/call", tool)
    request = body("tools/call", {"name": tool, "arguments": arguments})

    async def told() -> bool:
        with suppress(httpx.TimeoutException):
            async with httpx.AsyncClient(timeout=1) as client:
                return (
                    await client.post(f"{environment.gateway_url}/mcp", headers=sent, json=request)
                ).status_code == 503
        return False

    await eventually(told, f"callers of {service} to be told", SOON_S)


@asynccontextmanager
async def two_ledgers(environment: Any, folder: Path) -> AsyncIterator[tuple[Ledgers, str, str]]:
    """Two instances that both answer."""
    with ledgers(environment, folder) as made:
        first, second = made.start(), made.start()
        async with sdk_client(f"{environment.gateway_url}/mcp", environment.key, MODERN) as client:
            await made.all_known(client, first, second)
        yield made, first, second


async def impatient(environment: Any, tool: str, arguments: dict[str, object], timeout_s: float) -> str:
    """A call that is given up early; the instance that answered, "" for none."""
    sent = headers(environment.key, "tools/call", tool)
    handle = arguments.get("handle")
    sent |= {"Mcp-Param-Handle": str(handle)} if handle else {}
    request = body("tools/call", {"name": tool, "arguments": arguments})
    try:
        async with httpx.AsyncClient(timeout=timeout_s) as client:
            answer = await client.post(f"{environment.gateway_url}/ledger/mcp", headers=sent, json=request)
    except httpx.TimeoutException:
        return ""
    result = answer.json().get("result") or {}
    return str((result.get("structuredContent") or {}).get("instance", ""))


@pytest.mark.feature("A12", "C1")
async def test_a_frozen_instance_gets_no_new_calls_within_seconds_and_all_again_when_it_thaws(
    environment: Any, tmp_path: Path
) -> None:
    async with two_ledgers(environment, tmp_path) as (made, frozen, other):
        made.send(frozen, signal.SIGSTOP)

        async def left_alone() -> bool:
            answers = [await impatient(environment, "ledger_list", {}, 1) for _ in range(8)]
            return set(answers) == {other}

        await eventually(left_alone, "the frozen instance to be left alone", SOON_S)
        made.send(frozen, signal.SIGCONT)

        async def both_again() -> bool:
            answers = [await impatient(environment, "ledger_list", {}, 1) for _ in range(8)]
            return set(answers) == {frozen, other}

        await eventually(both_again, "the thawed instance to be called", SOON_S)


@pytest.mark.long
@pytest.mark.feature("A4", "A12")
async def test_callers_caught_by_a_frozen_instance_are_told_in_either_era_and_nothing_runs_twice(
    environment: Any, tmp_path: Path
) -> None:
    url = f"{environment.gateway_url}/mcp"
    async with two_ledgers(environment, tmp_path) as (made, frozen, other):
        handles: dict[str, str] = {}
        for mode in ERAS:
            async with sdk_client(url, environment.key, mode) as client:
                while not handles.get(mode, "").startswith(frozen):
                    opened = await asked(client, "ledger_open", {})
                    assert opened.result, opened
                    handles[mode] = opened.result["handle"]
        made.send(frozen, signal.SIGSTOP)

        async def caught(mode: str) -> Answer:
            async with sdk_client(url, environment.key, mode) as client:
                await client.list_tools()
                return await asked(client, "ledger_add", {"handle": handles[mode], "entry": f"caught {mode}"})

        async with asyncio.timeout(FROZEN_S + MARGIN_S):
            answers = await asyncio.gather(*(caught(mode) for mode in ERAS))
        for answer in answers:
            assert answer.may_have_run or answer.gone, answer
        assert any(answer.code == 504 for answer in answers), answers
        for mode in ERAS:
            async with sdk_client(url, environment.key, mode) as client:
                await client.list_tools()
                again = await asked(client, "ledger_add", {"handle": handles[mode], "entry": f"again {mode}"})
                assert again.gone, again
        made.send(frozen, signal.SIGCONT)

        async def thawed() -> bool:
            return frozen in [await impatient(environment, "ledger_list", {}, 1) for _ in range(4)]

        await eventually(thawed, "the thawed instance to be called", SOON_S)
        assert max(made.runs().values(), default=0) <= 1
        assert not made.where("again legacy")
        assert other
