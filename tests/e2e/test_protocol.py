"""The official SDK client against every endpoint, in both eras, with and without a right to it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import mcp
import pytest

from tests.support.load import body, headers
from tests.support.sdk import ERAS, sdk_client

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]
TOOL = {
    "browser": ("browser_list", {}),
    "filesystem": ("filesystem_list_directory", {"path": "."}),
    "search": ("search_status", {}),
}


@pytest.mark.anywhere
@pytest.mark.feature("A2", "A13", "B1", "B2", "B3")
@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("service", TOOL)
async def test_each_service_lists_and_answers_on_its_own_path(environment: Any, service: str, mode: str) -> None:
    async with sdk_client(f"{environment.gateway_url}/{service}/mcp", environment.key, mode) as client:
        assert client.protocol_version == ERAS[mode]
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names
        assert all(name.startswith(f"{service}_") for name in names)
        result = await client.call_tool(*TOOL[service])
        assert not result.is_error, result


@pytest.mark.anywhere
@pytest.mark.feature("A3", "A13")
@pytest.mark.parametrize("mode", ERAS)
async def test_one_endpoint_lists_and_answers_for_all(environment: Any, mode: str) -> None:
    async with sdk_client(f"{environment.gateway_url}/mcp", environment.key, mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        for service, (tool, arguments) in TOOL.items():
            assert any(name.startswith(f"{service}_") for name in names)
            assert not (await client.call_tool(tool, arguments)).is_error


@pytest.mark.anywhere
@pytest.mark.feature("A4")
@pytest.mark.parametrize("mode", ERAS)
async def test_a_page_opened_is_a_page_read(environment: Any, mode: str) -> None:
    async with sdk_client(f"{environment.gateway_url}/mcp", environment.key, mode) as client:
        opened = await client.call_tool("browser_open", {})
        assert not opened.is_error, opened
        assert opened.structured_content
        handle = opened.structured_content["handle"]
        text = await client.call_tool("browser_text", {"handle": handle})
        assert not text.is_error, text
        assert not (await client.call_tool("browser_close", {"handle": handle})).is_error
        gone = await client.call_tool("browser_text", {"handle": handle})
        assert gone.is_error
        assert "open" in gone.content[0].text  # type: ignore[union-attr]


@pytest.mark.anywhere
@pytest.mark.feature("A12", "A13")
@pytest.mark.parametrize("mode", ERAS)
async def test_many_calls_at_once_are_all_answered(environment: Any, mode: str) -> None:
    """Two of a hundred answers to older clients were once cut off (docs/decisions/0008)."""

    async def work() -> None:
        async with sdk_client(f"{environment.gateway_url}/mcp", environment.key, mode) as client:
            for _ in range(50):
                assert not (await client.call_tool("filesystem_list_directory", {"path": "."})).is_error
                assert (await client.list_tools()).tools

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(work())


@pytest.mark.anywhere
@pytest.mark.feature("A5")
@pytest.mark.parametrize("path", ["/mcp", "/browser/mcp", "/filesystem/mcp", "/search/mcp"])
@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer tk_x_y", "Bearer tk_dev_" + "0" * 48, "Basic ZGV2OmRldg=="]
)
@pytest.mark.parametrize("modern", [True, False], ids=["modern", "legacy"])
async def test_without_a_good_key_nothing_runs(
    environment: Any, path: str, authorization: str | None, modern: bool
) -> None:
    sent = headers("", "tools/call", "filesystem_write_file") if modern else {"Accept": "application/json"}
    sent.pop("Authorization", None)
    if authorization is not None:
        sent["Authorization"] = authorization
    arguments = {"path": "written-without-a-key.txt", "content": "x"}
    request = body("tools/call", {"name": "filesystem_write_file", "arguments": arguments})
    async with httpx.AsyncClient() as client:
        answer = await client.post(environment.gateway_url + path, headers=sent, json=request)
    assert answer.status_code in ((400, 401) if modern and path not in ("/mcp", "/filesystem/mcp") else (401,))
    assert answer.json()["error"]["message"]
    assert not (environment.workspace / "written-without-a-key.txt").exists()


@pytest.mark.anywhere
@pytest.mark.feature("A5", "A6")
async def test_a_client_from_birth_to_revocation(environment: Any) -> None:
    assert environment.tekup("clients", "add", "narrow", "--allow", "search_*", "--reason", "test").returncode == 0
    try:
        made = environment.tekup_json("keys", "create", "narrow", "--reason", "test")
        assert made["in_force"]
        async with sdk_client(f"{environment.gateway_url}/mcp", made["key"], "2026-07-28") as client:
            assert {tool.name.split("_")[0] for tool in (await client.list_tools()).tools} == {"search"}
            assert not (await client.call_tool("search_status", {})).is_error
            with pytest.raises(mcp.MCPError, match="filesystem_list_directory"):
                await client.call_tool("filesystem_list_directory", {"path": "."})
        async with sdk_client(f"{environment.gateway_url}/mcp", made["key"], "legacy") as client:
            assert {tool.name.split("_")[0] for tool in (await client.list_tools()).tools} == {"search"}
            with pytest.raises(mcp.MCPError, match="filesystem_list_directory"):
                await client.call_tool("filesystem_list_directory", {"path": "."})
        assert environment.tekup("keys", "revoke", made["key"], "--reason", "test").returncode == 0
        async with httpx.AsyncClient() as client:
            sent = headers(made["key"], "tools/call", "search_status")
            answer = await client.post(
                f"{environment.gateway_url}/mcp", headers=sent, json=body("tools/call", {"name": "search_status"})
            )
        assert answer.status_code == 401
        assert "revoked" in answer.json()["error"]["message"]
    finally:
        environment.tekup("clients", "remove", "narrow", "--reason", "test")


@pytest.mark.feature("A5")
@pytest.mark.parametrize("service", [*TOOL, "hub"])
async def test_a_service_called_past_the_gate_refuses(environment: Any, service: str) -> None:
    url = environment.process(service).url
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{url}/mcp",
            headers={**headers(environment.key, "tools/list"), "X-Tekup-Client": "dev", "X-Tekup-Gate": "0" * 64},
            json=body("tools/list"),
        )
    assert answer.status_code == 403
    assert "gate" in answer.json()["error"]["message"]
