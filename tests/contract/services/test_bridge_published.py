"""Published servers of several authors, SDKs and ages, unchanged behind a bridge: list, call, error, a killed child."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp import MCPError
from mcp_types import CallToolResult

from tests.contract.services.conftest import Instance, Session, Starter
from tests.contract.services.test_bridge_hostile import again
from tests.published.servers import NETWORK, SERVERS, Published, filled, furnish, public

pytestmark = [pytest.mark.local, pytest.mark.feature("B11"), pytest.mark.timeout(300)]


@pytest.fixture(params=[pytest.param(one, marks=() if one.name == "time" else pytest.mark.long, id=one.name)
                        for one in SERVERS])  # fmt: skip
def served(request: pytest.FixtureRequest, starter: Starter, tmp_path: Path) -> Iterator[tuple[Published, Instance]]:
    one: Published = request.param
    furnish(tmp_path)
    file = tmp_path / "declaration.json"
    declared = {"name": one.name, "command": one.argv(tmp_path), "env": filled(one.env, tmp_path)}
    file.write_text(json.dumps(declared))
    settings = {"MCP_BRIDGE_FILE": file, "MCP_TOOL_DEADLINE_S": 30, "HOME": tmp_path}
    instance = starter.start(one.name, module="services.bridge", **settings)
    yield one, instance
    assert instance.end() == 0
    assert not [left for left in psutil.process_iter() if _is_of(left, tmp_path)]


def _is_of(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("HOME") == str(folder)
    except psutil.Error:
        return False


async def test_it_lists_answers_refuses_and_is_back_after_its_child_was_killed(
    served: tuple[Published, Instance], tmp_path: Path
) -> None:
    one, instance = served
    tool, arguments, answer = one.call
    async with instance.session() as session:
        listed = [found.name for found in (await session.client.list_tools()).tools]
        assert public(one.name, tool) in listed
        assert all(name.startswith(f"{one.name}_") for name in listed)
        said = await session.call(public(one.name, tool), **filled(arguments, tmp_path))
        assert answer in said.text
        assert one.name in NETWORK or not said.error
        await refused(session, public(one.name, one.wrong[0]), filled(one.wrong[1], tmp_path))
        for process in psutil.Process(instance.process.pid).children(recursive=True)[1:]:
            process.kill()
        if one.name not in NETWORK:
            assert answer in await again(session, public(one.name, tool), **filled(arguments, tmp_path))
        assert await until_listed(session, listed)


async def refused(session: Session, tool: str, arguments: dict[str, Any]) -> None:
    try:
        result = await session.client.call_tool(tool, arguments)
    except MCPError:
        return
    assert isinstance(result, CallToolResult)
    assert result.is_error or "error" in str(result.content).lower(), result


async def until_listed(session: Session, names: list[str]) -> bool:
    deadline = time.monotonic() + 30
    while [found.name for found in (await session.client.list_tools(cache_mode="refresh")).tools] != names:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    return True


@pytest.mark.long
@pytest.mark.parametrize("served", [next(one for one in SERVERS if one.name == "everything")], indirect=True)
async def test_the_everything_server_reports_progress_and_is_cancelled(served: tuple[Published, Instance]) -> None:
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        told.append(progress)

    async with served[1].session() as session:
        tools = [found.name for found in (await session.client.list_tools()).tools]
        long = next(name for name in tools if "long" in name)
        done = await session.client.call_tool(long, {"duration": 2, "steps": 4}, progress_callback=note)
        assert not done.is_error
        assert len(told) >= 3
        with pytest.raises(MCPError):
            await session.client.call_tool(long, {"duration": 60, "steps": 4}, read_timeout_seconds=1)
        assert (await session.call("everything_echo", message="on")).text.endswith("on")
        resources = (await session.client.list_resources()).resources
        assert (await session.client.read_resource(resources[0].uri)).contents
        assert (await session.client.list_prompts()).prompts
