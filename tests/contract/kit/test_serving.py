"""A real instance serves what it declared, and says clearly what it will not serve."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from mcp import MCPError
from mcp_types import CallToolResult, TextContent

from tests.contract.kit.conftest import grant_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.contract.kit.conftest import Instance, Services

pytestmark = pytest.mark.local
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
MCP_HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def text_of(result: CallToolResult) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


def call_body(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments, "_meta": META}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def call_headers(instance: Instance, tool: str) -> dict[str, str]:
    modern = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": tool}
    return {**MCP_HEADERS, **modern, **instance.headers()}


async def post(instance: Instance, headers: dict[str, str], body: object = None, raw: bytes = b"") -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as http:
        content = json.dumps(body).encode() if body is not None else raw
        return await http.post(instance.url, headers=headers, content=content)


async def test_declared_tools_are_listed_with_annotations_and_schemas(demo: Instance) -> None:
    async with demo.client() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    echo = tools["demo_echo"]
    assert echo.annotations is not None
    assert (echo.title, echo.annotations.read_only_hint, echo.annotations.idempotent_hint) == ("Echo", True, True)
    assert echo.description == "Say it again."
    assert echo.input_schema["additionalProperties"] is False
    assert tools["demo_add"].output_schema is not None
    assert tools["demo_read"].input_schema["properties"]["handle"]["x-mcp-header"] == "Handle"


async def test_every_failure_of_a_call_is_told_in_words_and_the_service_lives(demo: Instance) -> None:
    async with demo.client() as client:
        said = {
            "unknown argument": await client.call_tool("demo_add", {"a": 1, "b": 2, "c": 3}),
            "wrong argument": await client.call_tool("demo_add", {"a": "x"}),
            "crash": await client.call_tool("demo_crash", {}),
            "deadline": await client.call_tool("demo_hurry", {}),
            "dead handle": await client.call_tool("demo_read", {"handle": "a1b2c3.AAAA.BBBB"}),
        }
        with pytest.raises(MCPError) as unknown_tool:
            await client.call_tool("demo_nothing", {})
        good = await client.call_tool("demo_add", {"a": 1, "b": 2})
    texts = {case: text_of(result) for case, result in said.items()}
    assert all(result.is_error for result in said.values())
    assert texts["unknown argument"] == "demo_add does not know the argument(s) c; it knows: a, b"
    assert "a: Input should be a valid integer" in texts["wrong argument"]
    assert "b: Field required" in texts["wrong argument"]
    assert "the secret reason" not in texts["crash"]
    assert "deadline of 0.2 s" in texts["deadline"]
    assert texts["dead handle"] == "page handle 'a1b2c3.AAAA.BBBB' is gone, open anew"
    assert unknown_tool.value.error.code == -32602
    assert "Unknown tool 'demo_nothing'" in unknown_tool.value.error.message
    assert good.structured_content == {"total": 3}
    reference = texts["crash"].rsplit(" ", 1)[1]
    (crash,) = [line for line in demo.events("tool.crashed") if line["reference"] == reference]
    assert "the secret reason" in crash["exception"]


async def test_resources_prompts_and_completions_are_served(demo: Instance) -> None:
    async with demo.client() as client:
        note = await client.read_resource("demo://notes/a/b")
        prompt = await client.get_prompt("demo_greet", {"who": "you"})
        assert [str(item.uri) for item in (await client.list_resources()).resources] == ["demo://about"]
    assert note.contents[0].model_dump()["text"] == "note a/b"
    assert prompt.messages[0].content.model_dump()["text"] == "Hello you"


@pytest.mark.feature("A5")
async def test_without_the_gates_proof_nothing_runs(demo: Instance) -> None:
    good = call_headers(demo, "demo_echo")
    body = call_body("demo_echo", {"text": "x"})
    calls_before = len(demo.events("call"))
    cases: dict[str, dict[str, str]] = {
        "no proof": {name: value for name, value in good.items() if name != "x-tekup-gate"},
        "wrong proof": good | {"x-tekup-gate": "00" * 32},
        "client without grant": {name: value for name, value in good.items() if name != "x-tekup-grant"},
        "another client's grant": good | {"x-tekup-client": "eve"},
        "unreadable grant": good | {"x-tekup-grant": "!!"},
    }
    for case, headers in cases.items():
        answer = await post(demo, headers, body)
        assert answer.status_code == 403, case
        assert answer.json()["error"]["code"] == 403, case
        assert "gate" in answer.json()["error"]["message"], case
    assert (await post(demo, good, body)).status_code == 200
    assert len(demo.events("call")) == calls_before + 1


@pytest.mark.feature("A6")
async def test_a_limited_client_sees_and_uses_only_what_it_may(demo: Instance) -> None:
    async with demo.client("narrow", ("demo_a*", "demo://notes/*")) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["demo_add"]
        assert [t.uri_template for t in (await client.list_resource_templates()).resource_templates] == [
            "demo://notes/{+path}"
        ]
        assert (await client.list_resources()).resources == []
        assert (await client.list_prompts()).prompts == []
        assert (await client.read_resource("demo://notes/a")).contents
        refusals = []
        for attempt in (
            client.call_tool("demo_echo", {"text": "x"}),
            client.read_resource("demo://about"),
            client.get_prompt("demo_greet", {"who": "x"}),
        ):
            with pytest.raises(MCPError) as refused:
                await attempt
            refusals.append(refused.value.error)
    assert {error.code for error in refusals} == {403}
    assert "'demo_echo'" in refusals[0].message


@pytest.mark.feature("A6")
async def test_a_completion_is_held_to_the_rights_although_no_header_names_it(demo: Instance) -> None:
    params = {"ref": {"type": "ref/prompt", "name": "demo_greet"}, "argument": {"name": "who", "value": "a"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "completion/complete", "params": {**params, "_meta": META}}
    modern = {"mcp-protocol-version": "2026-07-28", "mcp-method": "completion/complete"}
    narrow = {**MCP_HEADERS, **modern, **demo.headers("narrow", ("demo_add",))}
    wide = {**MCP_HEADERS, **modern, **demo.headers()}
    assert (await post(demo, narrow, body)).json()["error"]["code"] == 403
    assert (await post(demo, wide, body)).json()["result"]["completion"]["values"] == ["alice", "bob"]


@pytest.mark.feature("A6")
async def test_a_client_that_may_only_read_sees_and_calls_tools_that_only_read(demo: Instance) -> None:
    grant = {"x-tekup-grant": grant_of("reader", ("*",), access="read-only")}
    async with demo.client("reader", extra=grant) as client, demo.client() as everybody:
        seen = {tool.name for tool in (await client.list_tools()).tools}
        tools = (await everybody.list_tools()).tools
        assert seen == {tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint}
        assert 0 < len(seen) < len(tools)
        assert not (await client.call_tool("demo_echo", {"text": "x"})).is_error
        with pytest.raises(MCPError) as refused:
            await client.call_tool("demo_sleep", {"seconds": 0})
    assert refused.value.error.code == 403
    assert "read-only" in refused.value.error.message


@pytest.mark.feature("A11")
async def test_a_user_of_a_client_is_held_to_the_scopes_of_its_bearer(demo: Instance) -> None:
    user = {"key": "", "subject": "0123456789abcdef", "expires": 4_000_000_000, "within": ["demo_add", "demo_w*"]}
    grant = {"x-tekup-grant": grant_of("team", ("demo_*",), **user)}
    async with demo.client("team~0123456789abcdef", extra=grant) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"demo_add", "demo_whoami"}
        who = (await client.call_tool("demo_whoami", {})).structured_content
        assert who is not None
        assert who["client"] == "team~0123456789abcdef"
        with pytest.raises(MCPError):
            await client.call_tool("demo_echo", {"text": "x"})
    for stranger in ("team", "team~fedcba9876543210", "~hub"):
        answer = await post(demo, {**demo.headers(stranger), **grant}, call_body("demo_add", {"a": 1, "b": 2}))
        assert answer.status_code == 403


async def test_a_platform_caller_without_a_grant_sees_everything(demo: Instance) -> None:
    async with demo.client("~hub", None) as client:
        who = (await client.call_tool("demo_whoami", {})).structured_content
    assert who is not None
    assert (who["client"], who["internal"], who["tool"]) == ("~hub", True, "demo_whoami")


@pytest.mark.feature("D8")
async def test_only_the_control_plane_is_told_which_call_probes_it_and_who_answers(services: Services) -> None:
    demo = await services.start(MCP_VERSION="1.2.0", MCP_INSTANCE="abcdef")
    for client in ("~control-plane", "~hub"):
        async with demo.client(client, None) as session:
            listed = {tool.name: tool.meta or {} for tool in (await session.list_tools()).tools}
            assert not (await session.call_tool("demo_echo", {"text": "probe"})).is_error
        probed = {name: meta["dev.tekup/probe"] for name, meta in listed.items() if "dev.tekup/probe" in meta}
        assert probed == ({"demo_echo": {"arguments": {"text": "probe"}}} if client == "~control-plane" else {})
        headers = {**call_headers(demo, "demo_echo"), **demo.headers(client, None)}
        del headers["x-tekup-grant"]
        answer = await post(demo, headers, call_body("demo_echo", {"text": "x"}))
        named = {name: value for name, value in answer.headers.items() if name.startswith("x-tekup")}
        who = {"x-tekup-instance": "abcdef", "x-tekup-version": "1.2.0"}
        assert named == (who if client == "~control-plane" else {})
    # The hub's two calls; those of the control plane would let a canary be judged by its probes.
    assert await demo.metric('tekup_tool_calls_total{outcome="ok",tool="demo_echo"}') == 2


async def test_the_call_is_what_the_grant_says(demo: Instance) -> None:
    async with demo.client("dev", ("*",)) as client:
        who = (await client.call_tool("demo_whoami", {})).structured_content
    assert who is not None
    assert (who["client"], who["key"], who["rights"]["allow"], who["internal"]) == ("dev", "k1", ["*"], False)


async def test_what_is_not_served_is_refused_in_json_rpc(demo: Instance) -> None:
    good = call_headers(demo, "demo_echo")
    body = call_body("demo_echo", {"text": "x"})
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    legacy = {**MCP_HEADERS, **demo.headers()}
    answers = {
        "legacy": await post(demo, legacy, initialize),
        "legacy version": await post(demo, legacy | {"mcp-protocol-version": "2025-11-25"}, body),
        "unknown version": await post(demo, good | {"mcp-protocol-version": "2099-01-01"}, body),
        "wrong method header": await post(demo, good | {"mcp-method": "tools/list"}, body),
        "wrong name header": await post(demo, good | {"mcp-name": "demo_add"}, body),
        "garbage name": await post(demo, good | {"mcp-name": "=?base64?%%%?="}, body),
        "no json": await post(demo, good, raw=b"{"),
        "content type": await post(demo, good | {"content-type": "text/plain"}, body),
        "accept": await post(demo, good | {"accept": "text/html"}, body),
        "5 MB": await post(demo, good, call_body("demo_echo", {"text": "x" * 5_000_000})),
    }
    found = {case: (answer.status_code, answer.json()["error"]["code"]) for case, answer in answers.items()}
    assert found == {
        "legacy": (400, -32022),
        "legacy version": (400, -32022),
        "unknown version": (400, -32022),
        "wrong method header": (400, -32020),
        "wrong name header": (400, -32020),
        "garbage name": (400, -32020),
        "no json": (400, -32700),
        "content type": (400, -32600),
        "accept": (406, 406),
        "5 MB": (413, 413),
    }
    assert answers["legacy"].json()["error"]["data"]["supported"] == ["2026-07-28"]
    assert "4194304 bytes" in answers["5 MB"].json()["error"]["message"]
    assert (await post(demo, good, body)).status_code == 200


async def test_a_second_version_header_is_refused(demo: Instance) -> None:
    headers = [*call_headers(demo, "demo_echo").items(), ("mcp-protocol-version", "2025-11-25")]
    async with httpx.AsyncClient() as http:
        answer = await http.post(demo.url, headers=headers, json=call_body("demo_echo", {"text": "x"}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


async def test_get_and_delete_and_other_paths_are_refused(demo: Instance) -> None:
    base = demo.url.removesuffix("/mcp")
    async with httpx.AsyncClient(headers=demo.headers()) as http:
        for method in ("GET", "DELETE"):
            answer = await http.request(method, demo.url)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
            assert answer.json()["error"]["code"] == 405
        assert (await http.post(f"{base}/other")).json()["error"]["code"] == 404
        assert (await http.post(f"{demo.url}/")).status_code in (307, 404)
        assert "server" not in (await http.get(f"{base}/ready")).headers


async def test_hanging_up_cancels_the_tool_and_is_counted(
    demo: Instance, wait_until: Callable[..., Awaitable[Any]]
) -> None:
    headers, body = call_headers(demo, "demo_sleep"), call_body("demo_sleep", {"seconds": 30})
    async with httpx.AsyncClient(timeout=httpx.Timeout(20, read=1)) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(demo.url, headers=headers, json=body)

    async def cancelled() -> bool:
        return await demo.metric('tekup_tool_calls_total{outcome="cancelled",tool="demo_sleep"}') == 1

    await wait_until(cancelled, within_s=20)


async def test_every_call_is_one_log_line_and_one_count(services: Services) -> None:
    demo = await services.start()
    trace = "0af7651916cd43dd8448eb211c80319c"
    body = call_body("demo_add", {"a": 1, "b": 1})
    body["params"]["_meta"] = {**META, "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    await post(demo, call_headers(demo, "demo_add"), body)
    async with demo.client() as client:
        await client.call_tool("demo_add", {"a": "x"})
        await client.call_tool("demo_hurry", {})
        await client.call_tool("demo_crash", {})
        for name in ("demo_x1", "demo_x2"):
            with pytest.raises(MCPError):
                await client.call_tool(name, {})
    calls = [(line["tool"], line["outcome"], line["client"]) for line in demo.events("call")]
    assert calls == [
        ("demo_add", "ok", "dev"),
        ("demo_add", "tool_error", "dev"),
        ("demo_hurry", "deadline", "dev"),
        ("demo_crash", "error", "dev"),
    ]
    first = demo.events("call")[0]
    assert first["trace_id"] == trace
    assert {"duration_ms", "instance", "version", "service"} <= first.keys()
    assert await demo.metric('tekup_tool_calls_total{outcome="ok",tool="demo_add"}') == 1
    assert await demo.metric('tekup_tool_calls_total{outcome="deadline",tool="demo_hurry"}') == 1
    assert await demo.metric('tekup_tool_calls_total{outcome="tool_error",tool="(unknown)"}') == 2
    assert await demo.metric('tekup_tool_seconds_count{tool="demo_add"}') == 2
    assert await demo.metric('tekup_tool_calls_total{outcome="ok",tool="demo_echo"}') == 0, "probes are no callers"


async def test_progress_reaches_the_caller(demo: Instance) -> None:
    seen: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total
        seen.append((progress, message))

    async with demo.client() as client:
        await client.call_tool("demo_steps", {"count": 3}, progress_callback=note)
    assert seen == [(1.0, "step 1"), (2.0, "step 2"), (3.0, "step 3")]


@pytest.mark.feature("A4")
async def test_handles_serve_their_client_only_and_are_counted(demo: Instance) -> None:
    async with demo.client("dev") as dev, demo.client("eve") as eve:
        handle = text_of(await dev.call_tool("demo_open", {"page": "p1"}))
        assert handle.startswith(f"{demo.instance}.")
        await dev.list_tools()  # the client learns which argument travels as a header
        await eve.list_tools()
        assert text_of(await dev.call_tool("demo_read", {"handle": handle})) == "p1"
        assert "is gone, open anew" in text_of(await eve.call_tool("demo_read", {"handle": handle}))
        assert (await dev.call_tool("demo_pages", {})).structured_content == {"result": [handle]}
        assert (await eve.call_tool("demo_pages", {})).structured_content == {"result": []}
        await dev.call_tool("demo_open", {"page": "p2"})
        assert "the most one client may" in text_of(await dev.call_tool("demo_open", {"page": "p3"}))
        assert await demo.metric('tekup_handles{kind="page"}') == 2
        await dev.call_tool("demo_close", {"handle": handle})
        assert "is gone, open anew" in text_of(await dev.call_tool("demo_read", {"handle": handle}))


async def test_a_standalone_service_serves_everybody_and_believes_nobody(services: Services) -> None:
    demo = await services.start(MCP_STANDALONE="true", MCP_SECRETS_FILE=None)
    async with demo.client("dev") as client:
        who = (await client.call_tool("demo_whoami", {})).structured_content
    assert who is not None
    assert who["client"] == "~standalone"


async def test_parallel_calls_run_side_by_side(demo: Instance) -> None:
    async with demo.client() as client:
        async with asyncio.timeout(3):
            slow = [client.call_tool("demo_sleep", {"seconds": 0.5}) for _ in range(20)]
            assert {text_of(result) for result in await asyncio.gather(*slow)} == {"slept"}
