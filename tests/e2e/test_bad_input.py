"""Bad input of every kind gets a clear MCP error that names what was wrong, and the service lives on."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client

from tests.support.load import body, headers

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]

TOOL_ERRORS = [
    ("filesystem_read_file", {"path": "/etc/passwd"}, "root"),
    ("filesystem_read_file", {"path": "../../../etc/passwd"}, "root"),
    ("filesystem_read_file", {"path": "nowhere.txt"}, "nowhere.txt"),
    ("filesystem_read_file", {}, "path"),
    ("filesystem_read_file", {"path": "a", "colour": "red"}, "colour"),
    ("filesystem_edit_file", {"path": 7, "edits": "x"}, "path"),
    ("search_grep", {"pattern": "(unclosed", "path": "."}, "unclosed"),
    ("search_grep", {}, "pattern"),
    ("browser_text", {"handle": "aaaaaa.bbbbbbbbbbbbbbbbbbbbbb.cccccccccccccccccccccc"}, "open"),
    ("browser_text", {"handle": "nonsense"}, "open"),
]


@pytest.mark.anywhere
@pytest.mark.feature("B10")
@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
@pytest.mark.parametrize(("tool", "arguments", "said"), TOOL_ERRORS)
async def test_a_wrong_call_is_a_tool_error_that_names_what_was_wrong(
    environment: Any, tool: str, arguments: dict[str, Any], said: str, mode: str
) -> None:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {environment.key}"}, timeout=30) as http:
        transport = streamable_http_client(f"{environment.gateway_url}/mcp", http_client=http)
        async with mcp.Client(transport, mode=mode) as client:
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            text = result.content[0].text  # type: ignore[union-attr]
            assert said in text, text
            assert "Traceback" not in text
            assert not (await client.call_tool("filesystem_list_roots", {})).is_error
            assert not (await client.call_tool("search_status", {})).is_error


@pytest.mark.anywhere
@pytest.mark.feature("B10", "B1")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/", "127.0.0.1"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        ("file:///etc/passwd", "http"),
        ("view-source:http://example.com/", "http"),
        ("http://no-such-host.invalid/", "no-such-host.invalid"),
        ("not a url", "url"),
    ],
)
async def test_a_page_that_may_not_or_cannot_be_opened_is_named(environment: Any, url: str, said: str) -> None:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {environment.key}"}, timeout=60) as http:
        transport = streamable_http_client(f"{environment.gateway_url}/mcp", http_client=http)
        async with mcp.Client(transport, mode="2026-07-28") as client:
            opened = await client.call_tool("browser_open", {})
            assert opened.structured_content
            handle = opened.structured_content["handle"]
            result = await client.call_tool("browser_navigate", {"handle": handle, "url": url})
            assert result.is_error
            assert said.lower() in result.content[0].text.lower()  # type: ignore[union-attr]
            assert not (await client.call_tool("browser_close", {"handle": handle})).is_error


RAW = [
    ("unknown tool", "tools/call", "filesystem_no_such_tool", {}, b"", (200, 400), "filesystem_no_such_tool"),
    ("unknown service", "tools/call", "nobody_read", {}, b"", (404, 503, 400), "nobody"),
    ("name of another service", "tools/call", "search_grep", {}, b"", (400,), "search"),
    ("no name", "tools/call", "", {}, b"", (400,), "Mcp-Name"),
    ("name unlike the body", "tools/call", "filesystem_stat", {}, b"", (400,), "Mcp-Name"),
    ("unknown method", "no/method", "", {}, b"", (404,), ""),
    ("undecodable name", "tools/call", "=?base64?%%%?=", {}, b"", (400,), "Mcp-Name"),
    ("unknown version", "tools/list", "", {"MCP-Protocol-Version": "2031-01-01"}, b"", (400,), "2031-01-01"),
    ("not JSON", "tools/list", "", {}, b"{nonsense", (400,), ""),
    ("not an object", "tools/list", "", {}, b"[1,2]", (400,), ""),
    ("5 MB", "tools/list", "", {}, b'{"x":"' + b"x" * 5_000_000 + b'"}', (413,), ""),
]


@pytest.mark.anywhere
@pytest.mark.feature("B10", "A6")
@pytest.mark.parametrize(
    ("case", "method", "name", "more", "raw", "statuses", "said"), RAW, ids=[row[0] for row in RAW]
)
async def test_a_garbled_request_is_a_json_rpc_error_that_names_it(
    environment: Any,
    case: str,
    method: str,
    name: str,
    more: dict[str, str],
    raw: bytes,
    statuses: tuple[int, ...],
    said: str,
) -> None:
    sent = {**headers(environment.key, method, name), "Content-Type": "application/json", **more}
    inside = "filesystem_list_roots" if case == "name unlike the body" else name
    request = body(method, {"name": inside, "arguments": {}} if method == "tools/call" else {})
    path = "/mcp" if case == "unknown service" else "/filesystem/mcp"
    async with httpx.AsyncClient(timeout=30) as client:
        if raw:
            answer = await client.post(environment.gateway_url + path, headers=sent, content=raw)
        else:
            answer = await client.post(environment.gateway_url + path, headers=sent, json=request)
        assert answer.status_code in statuses, answer.text[:300]
        message = answer.json()
        text = str(message.get("error") or message.get("result"))
        assert said.lower() in text.lower()
        alive = await client.post(
            f"{environment.gateway_url}/filesystem/mcp",
            headers=headers(environment.key, "tools/list"),
            json=body("tools/list"),
        )
        assert alive.status_code == 200


@pytest.mark.anywhere
@pytest.mark.feature("A6")
@pytest.mark.parametrize("header", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param-Handle"])
async def test_a_doubled_protocol_header_is_refused(environment: Any, header: str) -> None:
    once = headers(environment.key, "tools/call", "filesystem_list_roots")
    once.setdefault("Mcp-Param-Handle", "x")
    doubled = [*once.items(), (header, "2025-11-25")]
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{environment.gateway_url}/filesystem/mcp",
            headers=doubled,
            json=body("tools/call", {"name": "filesystem_list_roots"}),
        )
    assert answer.status_code == 400
    assert header.lower() in answer.json()["error"]["message"].lower()
