"""The hub: one list over all services, and handshake-era clients served through it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from mcp import MCPError
from mcp_types import CallToolResult, TextContent

from services.hub.upstream import MOST_PER_SERVICE
from tests.contract.kit.conftest import grant_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.contract.kit.conftest import Instance, Services, StandInGate

    Wait = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.local
ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}


def text_of(result: CallToolResult) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


@pytest.fixture
def two(pair: tuple[Instance, Instance], gate: StandInGate) -> tuple[Instance, Instance]:
    """Two services behind the stand-in."""
    gate.instances = {instance.name: instance for instance in pair}
    return pair


@pytest.mark.feature("A3")
@pytest.mark.feature("A13")
@pytest.mark.parametrize("mode", ERAS)
async def test_lists_join_all_services_sorted(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance], mode: str
) -> None:
    hub = await services.start_hub(gate)
    async with hub.client(mode=mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        resources = [str(resource.uri) for resource in (await client.list_resources()).resources]
        templates = [t.uri_template for t in (await client.list_resource_templates()).resource_templates]
        instructions = client.instructions
        assert client.protocol_version == ERAS[mode]
    assert names == sorted(names)
    assert {"apple_echo", "pear_echo"} <= set(names)
    assert prompts == ["apple_greet", "pear_greet"]
    assert resources == ["apple://about", "pear://about"]
    assert templates == ["apple://notes/{+path}", "pear://notes/{+path}"]
    assert instructions is not None
    assert "Instructions of apple." in instructions


@pytest.mark.feature("A6")
@pytest.mark.parametrize("mode", ERAS)
async def test_lists_show_only_what_the_client_may_use(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance], mode: str
) -> None:
    hub = await services.start_hub(gate)
    async with hub.client("narrow", ("pear_e*", "pear://*"), mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["pear_echo"]
        assert [str(resource.uri) for resource in (await client.list_resources()).resources] == ["pear://about"]
        assert "apple" not in (client.instructions or "")


@pytest.mark.feature("A13")
async def test_a_handshake_client_uses_everything_through_modern_calls(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    steps: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total
        steps.append((progress, message))

    async with hub.client(mode="legacy") as client:
        assert client.protocol_version == "2025-11-25"
        added = await client.call_tool("apple_add", {"a": 1, "b": 2})
        who = (await client.call_tool("pear_whoami", {})).structured_content
        wrong = await client.call_tool("apple_add", {"a": "x"})
        handle = text_of(await client.call_tool("apple_open", {"page": "p1"}))
        read = await client.call_tool("apple_read", {"handle": handle})
        resource = await client.read_resource("pear://notes/x/y")
        prompt = await client.get_prompt("apple_greet", {"who": "you"})
        await client.call_tool("apple_steps", {"count": 3}, progress_callback=note)
    assert added.structured_content == {"total": 3}
    assert who is not None
    assert (who["client"], who["key"], who["internal"]) == ("dev", "k1", False), "with the client's own grant"
    assert wrong.is_error
    assert "a: Input should be a valid integer" in text_of(wrong)
    assert text_of(read) == "p1"
    assert resource.contents[0].model_dump()["text"] == "note x/y"
    assert prompt.messages[0].content.model_dump()["text"] == "Hello you"
    assert steps == [(1.0, "step 1"), (2.0, "step 2"), (3.0, "step 3")]
    assert ("apple", "tools/call", "apple_add") in gate.calls
    assert await hub.metric('tekup_tool_calls_total{outcome="ok",tool="apple_add"}') == 1
    assert await hub.metric('tekup_tool_calls_total{outcome="tool_error",tool="apple_add"}') == 1


@pytest.mark.feature("A6")
async def test_a_handshake_client_is_held_to_its_rights(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    async with hub.client("narrow", ("pear_*",), mode="legacy") as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("apple_add", {"a": 1, "b": 2})
    assert refused.value.error.code == 403
    assert "'apple_add'" in refused.value.error.message
    assert ("apple", "tools/call", "apple_add") not in gate.calls


@pytest.mark.feature("A6")
@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_may_only_read_is_held_to_it_in_both_eras(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance], mode: str
) -> None:
    hub = await services.start_hub(gate)
    grant = {"x-tekup-grant": grant_of("reader", ("*",), access="read-only")}
    async with hub.client("reader", mode=mode, extra=grant) as client, hub.client(mode=mode) as everybody:
        seen = {tool.name for tool in (await client.list_tools()).tools}
        tools = (await everybody.list_tools()).tools
        assert seen == {tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint}
        assert {"apple_echo", "pear_echo"} <= seen < {tool.name for tool in tools}
        if mode == "legacy":  # a modern call goes to its service and never through the hub
            assert text_of(await client.call_tool("apple_echo", {"text": "x"})) == "x"
            with pytest.raises(MCPError) as refused:
                await client.call_tool("apple_sleep", {"seconds": 0})
            assert refused.value.error.code == 403
            assert "read-only" in refused.value.error.message


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, 401, "key revoked"),
        (403, 403, "no right to apple_add"),
        (429, 429, "its limit is used up; try again in 2 s"),
        (503, 503, "no live target"),
    ],
)
async def test_an_error_of_the_gate_reaches_a_handshake_client_with_its_message(
    services: Services, gate: StandInGate, status: int, code: int, message: str
) -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    gate.answers["apple"] = (status, json.dumps(error).encode(), "application/json")
    hub = await services.start_hub(gate)
    async with hub.client(mode="legacy") as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("apple_add", {"a": 1, "b": 2})
    assert (refused.value.error.code, refused.value.error.message) == (code, message)


async def test_an_unknown_service_or_one_outside_the_scope_is_named(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    async with hub.client(mode="legacy") as client:
        with pytest.raises(MCPError) as unknown:
            await client.call_tool("plum_add", {})
    assert "these are: apple, pear" in unknown.value.error.message
    async with hub.client(mode="legacy", extra={"x-tekup-scope": "pear"}) as client:
        assert client.instructions == "Instructions of pear."
        assert {tool.name.split("_")[0] for tool in (await client.list_tools()).tools} == {"pear"}
        assert text_of(await client.call_tool("pear_echo", {"text": "x"})) == "x"
        with pytest.raises(MCPError) as foreign:
            await client.call_tool("apple_echo", {"text": "x"})
    assert "not of pear" in foreign.value.error.message


@pytest.mark.feature("A14")
async def test_a_hung_service_and_one_that_lists_garbage_hurt_nobody(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance], wait_until: Wait
) -> None:
    gate.hung.add("hung")
    listing = {
        "tools": [
            {"name": "garbage_fine", "inputSchema": {"type": "object"}},
            {"name": "apple_add", "inputSchema": {"type": "object"}},
            {"name": 7},
            "nonsense",
        ],
        "ttlMs": 0,
        "cacheScope": "private",
    }
    result = {"jsonrpc": "2.0", "id": 1, "result": listing}
    gate.answers = {
        "hung": (200, b"", "text/plain"),
        "garbage": (200, json.dumps(result).encode(), "application/json"),
        "html": (200, b"<html>", "text/html"),
    }
    hub = await services.start_hub(gate, MCP_HUB_SERVICE_DEADLINE_S=3)
    async with hub.client() as client, asyncio.timeout(30):
        await client.list_tools()
        loop = asyncio.get_running_loop()
        began = loop.time()
        names = [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools]
        assert loop.time() - began < 2, "nobody waits for the hung one twice"
    assert {"apple_add", "pear_add", "garbage_fine"} <= set(names)
    assert names.count("apple_add") == 1
    reasons = {line["reason"] for line in hub.events("catalogue.quarantined")}
    assert "it carries another service's name" in reasons
    assert {"hung", "html"} <= {line["about_service"] for line in hub.events("catalogue.unreadable")}


async def test_a_service_that_dies_stays_listed_for_a_while_and_its_calls_say_so(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate, MCP_HUB_LIST_TTL_S=0.1)
    gate.answers["pear"] = (502, b"", "text/plain")
    async with hub.client(mode="legacy") as client:
        assert text_of(await client.call_tool("apple_echo", {"text": "x"})) == "x"
        with pytest.raises(MCPError) as refused:
            await client.call_tool("pear_echo", {"text": "x"})
    assert refused.value.error.code == 502
    assert "HTTP 502" in refused.value.error.message


async def test_without_the_gate_the_hub_says_so_and_lives(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    good_url, gate.url = gate.url, "http://127.0.0.1:9"
    hub = await services.start_hub(gate)
    async with hub.client(mode="legacy", extra={"x-tekup-scope": ""}) as client:
        with pytest.raises(MCPError) as refused:
            await client.list_tools()
    assert refused.value.error.code == 503
    gate.url = good_url


async def test_hanging_up_cancels_the_upstream_call(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance], wait_until: Wait
) -> None:
    apple, _ = two
    hub = await services.start_hub(gate)
    headers = hub.headers() | {
        "mcp-protocol-version": "2025-11-25",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    params = {"name": "apple_sleep", "arguments": {"seconds": 60}}
    async with httpx.AsyncClient(timeout=1.0) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(hub.url, headers=headers, json={**body, "params": params})

    async def cancelled() -> bool:
        return await apple.metric('tekup_tool_calls_total{outcome="cancelled",tool="apple_sleep"}') == 1

    await wait_until(cancelled, within_s=20)
    assert gate.cancelled == 1


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


async def test_a_handshake_request_is_answered_by_a_stream_that_carries_its_progress(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    accept = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    headers = {**hub.headers(), **accept, "mcp-protocol-version": "2025-11-25"}
    params = {"name": "apple_steps", "arguments": {"count": 3}, "_meta": {"progressToken": "p"}}
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        listed = await http.post(hub.url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        called = await http.post(hub.url, json={"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params})
        noted = await http.post(hub.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        broken = await http.post(hub.url, content=b'{"method": "tools/call"')
        large = await http.post(hub.url, content=b'{"method": "tools/list", "x": "' + b"x" * 4 * 1024 * 1024)
    (answer,) = events(listed)
    assert "apple_add" in {tool["name"] for tool in answer["result"]["tools"]}
    said = [message.get("method", "answer") for message in events(called)]
    assert said == ["notifications/progress"] * 3 + ["answer"]
    assert noted.status_code == 202
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, -32700)
    assert (large.status_code, large.json()["error"]["code"]) == (413, 413)


async def test_get_and_delete_are_refused_in_both_eras(services: Services, gate: StandInGate) -> None:
    hub = await services.start_hub(gate)
    async with httpx.AsyncClient(headers=hub.headers()) as http:
        for method in ("GET", "DELETE"):
            answer = await http.request(method, hub.url, headers={"accept": "text/event-stream"})
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_the_hub_needs_to_know_the_gate(services: Services) -> None:
    hub = services.spawn("hub", argv=[sys.executable, "-m", "services.hub"])
    assert await hub.ended(30) == 78
    assert "MCP_GATE_INTERNAL_URL: Field required" in hub.log.read_text()


@pytest.mark.feature("A14")
async def test_a_quarantined_tool_is_shown_to_operators_and_its_callers_hear_why(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    bad = {"name": "garbage_bad", "inputSchema": {"type": "object", "required": 7}}
    listing = {"tools": [bad], "ttlMs": 0, "cacheScope": "private"}
    answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": listing}).encode()
    gate.answers = {"garbage": (200, answer, "application/json")}
    hub = await services.start_hub(gate)
    async with hub.client(mode="legacy") as client:
        assert "garbage_bad" not in {tool.name for tool in (await client.list_tools()).tools}
        with pytest.raises(MCPError, match=r"garbage_bad.*out of use.*inputSchema is no JSON Schema"):
            await client.call_tool("garbage_bad", {})
    refusal = {"jsonrpc": "2.0", "id": 1, "error": {"code": 403, "message": "lacks the right"}}
    gate.answers["garbage"] = (403, json.dumps(refusal).encode(), "application/json")
    async with hub.client("narrow", ("apple_*",)) as client:
        with pytest.raises(MCPError, match="lacks the right"):
            await client.call_tool("hub_call_tool", {"name": "garbage_bad"})
    async with httpx.AsyncClient() as http:
        state = (await http.get(hub.admin("/state"))).json()
    tools = [(one["service"], one["item"]) for one in state["quarantined"] if one["method"] == "tools/list"]
    assert ("garbage", "garbage_bad") in tools
    assert await hub.metric('tekup_hub_quarantined{service="garbage"}') >= 1


@pytest.mark.feature("A14")
@pytest.mark.parametrize("mode", ERAS)
async def test_what_no_answer_can_carry_costs_nobody_the_rest_of_it(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance], mode: str
) -> None:
    deep = json.loads("[" * 300 + "]" * 300)
    oddities = {"deep": deep, "text": "\ud800", "number": float("nan"), "long": "x" * 60_000}
    tools = [{"name": f"odd_{name}", "inputSchema": {"type": "object", "default": it}} for name, it in oddities.items()]
    tools.append({"name": "odd_\ud800", "inputSchema": {"type": "object"}})
    said = {"tools": tools, "instructions": "Odd \ud800.", "ttlMs": 0, "cacheScope": "private"}
    failure = {"code": 500, "message": "\ud800" * 1000}
    gate.answers = {
        "odd": (200, json.dumps({"jsonrpc": "2.0", "id": 1, "result": said}).encode(), "application/json"),
        "odder": (200, json.dumps({"jsonrpc": "2.0", "id": 1, "error": failure}).encode(), "application/json"),
    }
    hub = await services.start_hub(gate)
    async with hub.client(mode=mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "Instructions of apple." in (client.instructions or "")
    assert "apple_echo" in names
    assert {name for name in names if name.startswith("odd_")} == {"odd_long"}
    async with httpx.AsyncClient() as http:
        state = (await http.get(hub.admin("/state"))).json()
    assert {"odd_deep", "odd_text", "odd_number", "instructions"} <= {one["item"] for one in state["quarantined"]}


@pytest.mark.feature("A14")
async def test_a_list_too_large_to_hold_is_not_read_to_its_end(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    gate.answers = {"flood": (200, b"[" + b" " * (9 << 20) + b"]", "application/json")}
    hub = await services.start_hub(gate)
    async with hub.client() as client:
        assert "apple_echo" in {tool.name for tool in (await client.list_tools()).tools}
    assert any("more than" in line["reason"] for line in hub.events("catalogue.unreadable"))


@pytest.mark.feature("A3")
async def test_a_listening_client_is_told_of_changes_it_may_see_and_of_no_others(
    services: Services, gate: StandInGate, pair: tuple[Instance, Instance]
) -> None:
    apple, pear = pair
    gate.instances = {"apple": apple}
    hub = await services.start_hub(gate, MCP_HUB_LIST_TTL_S=0.5)
    async with (
        hub.client("dev") as wide,
        hub.client("narrow", ("apple_*",)) as narrow,
        hub.client("scoped", extra={"x-tekup-scope": "pear"}) as scoped,
        wide.listen(tools_list_changed=True, resource_subscriptions=["apple://about"]) as told,
        narrow.listen(tools_list_changed=True, prompts_list_changed=True) as untold,
        scoped.listen(prompts_list_changed=True) as of_pear,
    ):
        assert told.honored.tools_list_changed
        assert not told.honored.resource_subscriptions, "what is never announced is not promised"
        assert await hub.metric("tekup_hub_listening") == 3
        gate.instances = {"apple": apple, "pear": pear}
        async with asyncio.timeout(20):
            assert type(await anext(told)).__name__ == "ToolsListChanged"
            assert type(await anext(of_pear)).__name__ == "PromptsListChanged"
        assert "pear_echo" in {tool.name for tool in (await wide.list_tools()).tools}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anext(untold)


async def test_what_is_announced_is_what_discovery_promises(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    for instance in (hub, two[0]):
        async with instance.client(mode="auto") as client:
            told = client.server_capabilities
            assert told.tools is not None
            assert told.tools.list_changed, instance.name
            assert told.resources is not None
            assert told.resources.list_changed
            assert not told.resources.subscribe


@pytest.mark.feature("B6")
async def test_listening_clients_do_not_hold_up_the_stop_and_their_streams_end_in_order(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    async with hub.client() as client, client.listen(tools_list_changed=True) as stream:
        hub.stop()
        async with asyncio.timeout(20):
            assert [event async for event in stream] == []
    assert await hub.ended() == 0
    assert not hub.events("drain.cut_off")


@pytest.mark.feature("B6")
async def test_a_client_that_listens_anew_at_once_does_not_hold_up_the_stop(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate, MCP_DRAIN_DEADLINE_S=60)

    async def listen_for_ever() -> None:
        while True:
            async with client.listen(tools_list_changed=True) as stream:
                opened.set()
                async for _ in stream:
                    pass

    opened = asyncio.Event()
    async with hub.client() as client:
        listening = asyncio.create_task(listen_for_ever())
        await asyncio.wait_for(opened.wait(), 20)
        hub.stop()
        assert await hub.ended(30) == 0
        with pytest.raises((MCPError, httpx2.HTTPError)):
            await asyncio.wait_for(listening, 20)
    assert not hub.events("drain.cut_off")


async def test_a_stream_ends_after_its_life_and_one_client_cannot_open_them_without_end(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate, MCP_HUB_LISTEN_S=3)
    async with hub.client() as client, AsyncExitStack() as streams:
        first = await streams.enter_async_context(client.listen(tools_list_changed=True))
        for _ in range(15):
            await streams.enter_async_context(client.listen(tools_list_changed=True))
        with pytest.raises(MCPError, match="16 streams"):
            await streams.enter_async_context(client.listen(tools_list_changed=True))
        async with asyncio.timeout(20):
            assert [event async for event in first] == []


@pytest.mark.feature("A3")
@pytest.mark.parametrize("mode", ERAS)
async def test_a_list_beyond_its_budget_becomes_two_tools_that_lead_to_all_others(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance], mode: str
) -> None:
    hub = await services.start_hub(gate, MCP_HUB_LIST_BUDGET_BYTES=3000)
    async with hub.client("dev", ("apple_*", "pear_*"), mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["hub_call_tool", "hub_find_tools"]
        assert "tools are here" in (client.instructions or "")
        found = json.loads(text_of(await client.call_tool("hub_find_tools", {"query": "add numbers pear"})))
        assert found["tools"][0]["name"] == "pear_add"
        inner = {"name": "pear_add", "arguments": {"a": 1, "b": 2}}
        assert (await client.call_tool("hub_call_tool", inner)).structured_content == {"total": 3}
        wrong = await client.call_tool("hub_call_tool", {"arguments": {}})
        assert wrong.is_error
        assert "name: Field required" in text_of(wrong)
        with pytest.raises(MCPError, match="is of no service"):
            await client.call_tool("hub_call_tool", {"name": "plum_add"})
    async with hub.client("narrow", ("apple_e*",), mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["apple_echo"]
        hidden = json.loads(text_of(await client.call_tool("hub_find_tools", {"query": "add"})))
        assert hidden["tools"] == []
        with pytest.raises(MCPError, match="has no right"):
            await client.call_tool("hub_call_tool", {"name": "pear_add", "arguments": {"a": 1, "b": 2}})


async def test_a_door_keeps_handles_and_progress(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    steps: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with hub.client() as client:
        opened = text_of(await client.call_tool("hub_call_tool", {"name": "apple_open", "arguments": {"page": "one"}}))
        read = {"name": "apple_read", "arguments": {"handle": opened}}
        assert text_of(await client.call_tool("hub_call_tool", read)) == "one"
        counted = {"name": "apple_steps", "arguments": {"count": 3}}
        await client.call_tool("hub_call_tool", counted, progress_callback=note)
    assert steps == [1, 2, 3]


@pytest.mark.feature("A13")
async def test_what_older_clients_do_not_get_is_said_with_what_to_do_instead(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    asked: dict[str, dict[str, Any]] = {
        "resources/subscribe": {"uri": "apple://about"},
        "resources/unsubscribe": {"uri": "apple://about"},
        "logging/setLevel": {"level": "info"},
    }
    sent = {**hub.headers(), "accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
    async with httpx.AsyncClient(headers=sent, timeout=20) as http:
        for method, params in asked.items():
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer = (await http.post(hub.url, json=body)).text
            assert '"code":-32601' in answer
            assert f"{method} is not served to clients of protocol versions before 2026-07-28; " in answer


@pytest.mark.feature("A14")
async def test_a_service_that_nobody_serves_now_is_not_listed_and_the_gate_tells_its_callers(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    gate.down.add("plum")
    said = {"jsonrpc": "2.0", "id": 1, "error": {"code": 503, "message": "no live instance"}}
    gate.answers["plum"] = (503, json.dumps(said).encode(), "application/json")
    hub = await services.start_hub(gate)
    async with hub.client(mode="legacy") as client:
        await client.list_tools()
        assert ("plum", "tools/list", None) not in gate.calls
        with pytest.raises(MCPError, match="no live instance") as refused:
            await client.call_tool("plum_pick", {})
        assert refused.value.error.code == 503
        with pytest.raises(MCPError, match="these are: apple, pear, plum"):
            await client.call_tool("fig_pick", {})


@pytest.mark.feature("A14")
async def test_a_service_that_answers_nothing_holds_up_its_own_callers_only(
    services: Services, gate: StandInGate, two: tuple[Instance, Instance]
) -> None:
    hub = await services.start_hub(gate)
    sent = {**hub.headers(), "accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
    params = {"name": "pear_echo", "arguments": {"text": "x"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    limits = httpx.Limits(max_connections=None)
    async with hub.client(mode="legacy") as client, httpx.AsyncClient(headers=sent, limits=limits, timeout=60) as http:
        await client.list_tools()
        gate.hung.add("pear")
        held = [asyncio.create_task(http.post(hub.url, json=asked)) for _ in range(MOST_PER_SERVICE + 5)]
        refused, waiting = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
        async with asyncio.timeout(20):
            assert text_of(await client.call_tool("apple_echo", {"text": "x"})) == "x"
        assert "128 calls of older clients waiting" in next(iter(refused)).result().text
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
