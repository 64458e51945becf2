"""Copies of another version's calls: they only read, count nowhere among live calls, and can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mcp import MCPError

if TYPE_CHECKING:
    from tests.contract.kit.conftest import Instance, Services, StandInGate

pytestmark = [pytest.mark.local, pytest.mark.feature("C7")]


def call_id(number: str, *, copy: bool) -> dict[str, str]:
    """What the gate adds to a call that is copied, and to the copy."""
    return {"x-tekup-call": number} | ({"x-tekup-copy": "1"} if copy else {})


async def shadow(instance: Instance) -> dict[tuple[str, bool], dict[str, Any]]:
    """What an instance tells of copied calls, by id and side."""
    found = (await instance.told("dev.tekup/copies")).json()["result"]["sides"]
    return {(one["trace"], one["copy"]): one for one in found}


async def live(instance: Instance) -> dict[str, float]:
    """The sums of the metrics of live calls."""
    names = ("tekup_tool_calls_total", "tekup_tool_seconds_count", "tekup_requests_refused_total")
    return {name: await instance.metric(name) for name in names}


async def test_a_copy_counts_apart_and_says_so_in_the_log(services: Services) -> None:
    demo = await services.start()
    before = await live(demo)
    async with demo.client(extra=call_id("c-1", copy=True)) as client:
        answer = await client.call_tool("demo_add", {"a": 1, "b": 2})
        await client.call_tool("demo_add", {"a": 1, "c": 2})
    assert answer.structured_content == {"total": 3}
    assert await live(demo) == before
    assert await demo.metric('tekup_mirrored_calls_total{outcome="ok",tool="demo_add"}') == 1
    assert await demo.metric('tekup_mirrored_calls_total{outcome="tool_error",tool="demo_add"}') == 1
    assert await demo.metric("tekup_mirrored_seconds_count") == 2
    logged = [line for line in demo.events("call") if line["tool"] == "demo_add"]
    assert [(line["mirrored"], line["call_id"]) for line in logged] == [(True, "c-1")] * 2


@pytest.mark.parametrize("tool", ["demo_crash", "demo_nothing"])
async def test_a_copy_of_a_tool_that_may_change_something_does_not_run(services: Services, tool: str) -> None:
    demo = await services.start()
    before = await live(demo)
    async with demo.client(extra=call_id("c-2", copy=True)) as client:
        with pytest.raises(MCPError, match="does not say that it only reads"):
            await client.call_tool(tool, {})
    assert await live(demo) == before
    label = tool if tool == "demo_crash" else "(unknown)"
    assert await demo.metric(f'tekup_mirrored_calls_total{{outcome="refused",tool="{label}"}}') == 1
    assert not demo.events("tool.crashed")
    assert await shadow(demo) == {}


async def test_both_sides_of_a_copied_call_can_be_compared(services: Services) -> None:
    demo = await services.start()
    for copy in (False, True):
        async with demo.client(extra=call_id("c-3", copy=copy)) as client:
            await client.call_tool("demo_add", {"a": 1, "b": 2})
    async with demo.client(extra=call_id("c-4", copy=False)) as client:
        await client.call_tool("demo_add", {"a": 1, "b": 2, "c": 3})
        await client.call_tool("demo_sleep", {"seconds": 0})
    async with demo.client() as client:
        await client.call_tool("demo_add", {"a": 1, "b": 2})
    seen = await shadow(demo)
    assert seen.keys() == {("c-3", False), ("c-3", True), ("c-4", False)}
    ours, theirs, failed = seen.values()
    assert (ours["digest"], ours["error"], ours["tool"]) == (theirs["digest"], "", "demo_add")
    assert failed["error"] == "tool_error"
    assert 0 < ours["seconds"] < 10
    assert await demo.metric('tekup_tool_calls_total{outcome="ok",tool="demo_add"}') == 2


async def test_the_hub_runs_no_copy_of_a_call_for_it_would_call_on(
    services: Services, gate: StandInGate, pair: tuple[Instance, Instance]
) -> None:
    gate.instances = {instance.name: instance for instance in pair}
    hub = await services.start_hub(gate)
    async with hub.client(extra=call_id("c-5", copy=True)) as client:
        with pytest.raises(MCPError, match="does not say that it only reads"):
            await client.call_tool("apple_echo", {"text": "x"})
    assert ("apple", "tools/call", "apple_echo") not in gate.calls
