"""Published servers of several authors, SDKs and ages, unchanged behind a bridge: list, call, error, a killed child."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp import MCPError
from mcp_types import CallToolResult

from tests.contract.services.conftest import Instance, Session, Starter
from tests.contract.services.test_bridge_hostile import again
from tests.support.programs import program

pytestmark = [pytest.mark.local, pytest.mark.feature("B11"), pytest.mark.timeout(300)]
HERE = "{here}"
"""Stands for a folder of the test's own."""


@dataclass(frozen=True)
class Published:
    """A server and what is asked of it.

    Args:
        name: Its service's.
        command: What comes after the program.
        call: A tool by its own name, arguments, and what its answer holds.
        wrong: A tool and arguments that it refuses.
        env: Its variables.
        by: The program that runs it.
    """

    name: str
    command: tuple[str, ...]
    call: tuple[str, dict[str, Any], str]
    wrong: tuple[str, dict[str, Any]]
    env: dict[str, str] = field(default_factory=dict)
    by: str = "published-npm"


PLACE = {"path": HERE}
SERVERS = (
    Published("time", ("-m", "mcp_server_time", "--local-timezone", "UTC"),
              ("get_current_time", {"timezone": "Europe/Paris"}, "Europe/Paris"),
              ("get_current_time", {"timezone": "Nowhere/At_All"}), by="published-python"),
    Published("git", ("-m", "mcp_server_git"), ("git_status", {"repo_path": f"{HERE}/repo"}, "No commits yet"),
              ("git_status", {"repo_path": "/nonexistent"}), by="published-python"),
    Published("fetch", ("-m", "mcp_server_fetch", "--ignore-robots-txt"), ("fetch", {"url": "http://127.0.0.1:9/"}, ""),
              ("fetch", {}), by="published-python"),
    Published("sqlite", ("-c", "from mcp_server_sqlite import main; main()", "--db-path", f"{HERE}/a.db"),
              ("read_query", {"query": "select 6*7 as answer"}, "42"), ("read_query", {"query": "drop table x"}),
              by="published-python-old"),
    Published("calculator", ("-m", "mcp_server_calculator"), ("calculate", {"expression": "6*7"}, "42"),
              ("calculate", {"expression": "import os"}), by="published-python-old"),
    Published("everything", ("@modelcontextprotocol/server-everything",), ("echo", {"message": "hi"}, "hi"),
              ("echo", {"message": 7})),
    Published("memory", ("@modelcontextprotocol/server-memory",), ("read_graph", {}, "entities"),
              ("open_nodes", {"names": 7}), env={"MEMORY_FILE_PATH": f"{HERE}/memory.jsonl"}),
    Published("files", ("@modelcontextprotocol/server-filesystem", HERE),
              ("read_text_file", {"path": f"{HERE}/note.txt"}, "lighthouse"),
              ("read_text_file", {"path": "/etc/passwd"})),
    Published("thinking", ("@modelcontextprotocol/server-sequential-thinking",),
              ("sequentialthinking", {"thought": "a", "thoughtNumber": 1, "totalThoughts": 1,
                                      "nextThoughtNeeded": False}, "thoughtNumber"),
              ("sequentialthinking", {"thought": 7})),
    Published("chart", ("@antv/mcp-server-chart",), ("generate_pie_chart", {"data": []}, ""),
              ("generate_pie_chart", {"data": 7})),
    Published("docs", ("@upstash/context7-mcp",), ("resolve-library-id", {"libraryName": "x", "query": "x"}, ""),
              ("resolve-library-id", {"libraryName": 7})),
)  # fmt: skip
NETWORK = ("fetch", "chart", "docs")
"""Their calls need somebody else's server: that they are answered, with an error, is all that is asked here."""


def filled(value: Any, folder: Path) -> Any:
    return json.loads(json.dumps(value).replace(HERE, str(folder)))


@pytest.fixture(params=[pytest.param(one, marks=() if one.name == "time" else pytest.mark.long, id=one.name)
                        for one in SERVERS])  # fmt: skip
def served(request: pytest.FixtureRequest, starter: Starter, tmp_path: Path) -> Iterator[tuple[Published, Instance]]:
    one: Published = request.param
    (tmp_path / "note.txt").write_text("the lighthouse")
    subprocess.run(["git", "init", "-q", tmp_path / "repo"], check=True)
    file = tmp_path / "declaration.json"
    command = [program(one.by), *filled(one.command, tmp_path)]
    file.write_text(json.dumps({"name": one.name, "command": command, "env": filled(one.env, tmp_path)}))
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


def public(service: str, tool: str) -> str:
    return tool if tool.startswith(f"{service}_") else f"{service}_{tool}"


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
