"""A bridge before a server that behaves, and what of it reaches a caller."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import psutil
import pytest
from mcp import MCPError
from mcp_types import CallToolResult, EmbeddedResource, ImageContent, ResourceLink, TextContent

from tests.contract.services.conftest import ROOT, Instance, Starter

pytestmark = [pytest.mark.local, pytest.mark.feature("B11"), pytest.mark.timeout(120)]
HOSTILE = ROOT / "tests" / "support" / "hostile_child.py"
WITHIN_S = 20.0


def until(condition: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s"
        time.sleep(0.05)
    return found


class Bridges:
    """Starts bridges before the hostile child."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._started = 0

    def start(self, *options: str, settings: dict[str, object] | None = None, **declared: Any) -> Instance:
        self._started += 1
        file = self._starter.folder / f"bridge-{self._started}.json"
        command = [sys.executable, str(HOSTILE), *options]
        file.write_text(json.dumps({"name": "pear", "command": command, **declared}))
        return self._starter.start("pear", module="services.bridge", MCP_BRIDGE_FILE=file, **(settings or {}))


@pytest.fixture(scope="module")
def bridges(starter: Starter) -> Bridges:
    return Bridges(starter)


@pytest.fixture(scope="module")
def pear(bridges: Bridges, tmp_path_factory: pytest.TempPathFactory) -> Instance:
    secret = tmp_path_factory.mktemp("secrets") / "word"
    secret.write_text("sesame\n")
    return bridges.start(
        "noisy", "bad-list",
        env={"COLOUR": "green"},
        env_files={"PEAR_TOKEN": str(secret)},
        probe={"tool": "echo", "arguments": {"text": "probe"}},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test starts, no process of it has init for a parent afterwards."""
    yield
    until(lambda: not [one.pid for one in psutil.process_iter() if _is_orphan(one)], "no orphan is left")


def _is_orphan(process: psutil.Process) -> bool:
    try:
        return process.ppid() == 1 and any("hostile_child" in part for part in process.cmdline())
    except psutil.Error:
        return False


def all_gone(*pids: int) -> bool:
    return not any(map(psutil.pid_exists, pids))


def text(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


async def test_tools_carry_the_services_name_and_keep_what_they_say_of_themselves(pear: Instance) -> None:
    async with pear.session() as session:
        tools = {tool.name: tool for tool in (await session.client.list_tools()).tools}
        assert {"pear_echo", "pear_sum", "pear_a_b"} <= tools.keys()
        assert tools["pear_echo"].annotations is not None
        assert tools["pear_echo"].annotations.read_only_hint is True
        assert (tools["pear_sum"].output_schema or {})["required"] == ["total"]
        assert (await session.call("pear_echo", text="hi")).text == "hi"
        assert (await session.call("pear_sum", values=[1, 2])).facts == {"total": 3}


async def asked(instance: Instance, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.get(f"http://127.0.0.1:{instance.where()['admin_port']}{path}")


@pytest.mark.feature("A14")
async def test_tools_that_cannot_be_used_are_left_out_one_by_one_with_a_reason(pear: Instance) -> None:
    state = (await asked(pear, "/state")).json()
    reasons = {one["item"]: one["reason"] for one in state["quarantined"]}
    assert "twice" in reasons["pear_echo"]
    assert "more than 64" in reasons["x" * 70]
    assert "a_b" in reasons
    assert "JSON Schema" in reasons["pear_schema"]
    assert "65536" in reasons["pear_huge"]
    assert "Handle" in reasons["pear_handle"]
    assert len(reasons) == 9
    metrics = (await asked(pear, "/metrics")).text
    assert "tekup_bridge_quarantined 9.0" in metrics
    async with pear.session() as session:
        assert "out of use" in (await session.call("pear_huge")).error


async def test_images_links_and_embedded_resources_come_through_and_can_be_read(pear: Instance) -> None:
    async with pear.session() as session:
        image, link, embedded = (await session.call("pear_picture")).result.content
        assert isinstance(image, ImageContent)
        assert isinstance(link, ResourceLink)
        assert isinstance(embedded, EmbeddedResource)
        assert link.uri == embedded.resource.uri == "pear://demo://one"
        read = await session.client.read_resource(link.uri)
        assert "content of demo://one" in str(read.contents[0])


async def test_prompts_resources_templates_and_completions_come_through(pear: Instance) -> None:
    async with pear.session() as session:
        client = session.client
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["pear_greet"]
        assert "Hello you" in str((await client.get_prompt("pear_greet", {"who": "you"})).messages)
        assert [one.uri for one in (await client.list_resources()).resources] == ["pear://demo://one"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == ["pear://demo://{name}"]
        from mcp_types import PromptReference  # noqa: PLC0415

        done = await client.complete(
            PromptReference(type="ref/prompt", name="pear_greet"), {"name": "who", "value": "y"}
        )
        assert json.loads(done.completion.values[0]) == {"type": "ref/prompt", "name": "greet"}


async def test_instructions_and_the_probe_are_told(pear: Instance) -> None:
    async with pear.session() as session:
        discovered = await session.client.session.send_discover("2026-07-28")
        assert discovered["instructions"] == "Be careful."
    async with pear.session("~control-plane") as session:
        listed = {tool.name: tool.meta or {} for tool in (await session.client.list_tools()).tools}
        assert listed["pear_echo"]["dev.tekup/probe"] == {"arguments": {"text": "probe"}}


async def test_progress_comes_through(pear: Instance) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with pear.session() as session:
        assert text(await session.client.call_tool("pear_progress", {}, progress_callback=note)) == "done"
    assert told == [(1, 3, "on"), (2, 3, "on"), (3, 3, "on")]


async def test_a_caller_who_leaves_cancels_the_call_at_the_server(pear: Instance) -> None:
    async with pear.session() as session:
        before = int((await session.call("pear_cancelled")).text)
        with pytest.raises(MCPError):
            await session.client.call_tool("pear_sleep", {"s": 30}, read_timeout_seconds=0.5)
        deadline = time.monotonic() + WITHIN_S
        while int((await session.call("pear_cancelled")).text) == before:
            assert time.monotonic() < deadline


async def test_errors_come_through_with_code_and_data_and_failures_as_results(pear: Instance) -> None:
    async with pear.session() as session:
        with pytest.raises(MCPError) as raised:
            await session.client.call_tool("pear_error", {})
        assert (raised.value.error.code, raised.value.error.data) == (-32000, {"why": "because"})
        assert (await session.call("pear_fails")).error == "it did not work"
        assert "is no result" in (await session.call("pear_nonsense")).error
        assert "disagree" in (await session.call("pear_refuses")).error
        assert "Unknown tool" in (await session.call("pear_nothing")).error


async def test_a_big_answer_comes_through_whole(pear: Instance) -> None:
    async with pear.session() as session:
        assert len((await session.call("pear_big", bytes=3_000_000)).text) == 3_000_000


async def test_a_new_tool_is_seen_when_the_server_says_so(pear: Instance) -> None:
    async with pear.session() as session:
        await session.call("pear_grow")
        deadline = time.monotonic() + WITHIN_S
        while "pear_grown" not in [tool.name for tool in (await session.client.list_tools(cache_mode="refresh")).tools]:
            assert time.monotonic() < deadline


async def test_a_child_gets_its_own_variables_and_nothing_of_the_platforms(pear: Instance) -> None:
    async with pear.session() as session:
        seen = json.loads((await session.call("pear_environment")).text)
    assert (seen["COLOUR"], seen["PEAR_TOKEN"]) == ("green", "sesame")
    assert not [name for name in seen if name.startswith("MCP_")]
    assert "sesame" not in pear.log.read_text()


async def test_a_client_that_may_only_read_calls_only_what_says_that_it_does(pear: Instance) -> None:
    async with pear.session(access="read-only") as session:
        assert [tool.name for tool in (await session.client.list_tools()).tools] == ["pear_echo"]
        assert (await session.call("pear_echo", text="hi")).text == "hi"
        assert "read-only tools only" in (await session.call("pear_pid")).error


@pytest.mark.feature("A13")
async def test_a_modern_child_and_one_that_bears_no_question_before_its_handshake_are_served(bridges: Bridges) -> None:
    for option in ("modern", "asks-first"):
        instance = bridges.start(option)
        async with instance.session() as session:
            assert (await session.call("pear_echo", text=option)).text == option
            assert (await session.call("pear_sum", values=[2])).facts == {"total": 2}
        assert instance.end() == 0


async def test_each_client_has_a_child_of_its_own_when_told_so(bridges: Bridges) -> None:
    instance = bridges.start(mode="per-client", spare=1, idle_s=1.0)
    pids = {}
    for client in ("ann", "ben"):
        async with instance.session(client) as session:
            pids[client] = (await session.call("pear_pid")).text
            assert (await session.call("pear_pid")).text == pids[client]
    assert pids["ann"] != pids["ben"]
    until(partial(all_gone, *map(int, pids.values())), "idle children have ended")
    async with instance.session("ann") as session:
        assert (await session.call("pear_pid")).text not in pids.values()
    assert instance.end() == 0


@pytest.mark.feature("B10")
@pytest.mark.long
async def test_a_server_of_the_newer_era_may_take_longer_to_begin_than_the_sdk_waits(bridges: Bridges) -> None:
    instance = bridges.start("modern", "slower-start", era="modern")
    async with instance.session() as session:
        assert (await session.call("pear_echo", text="at last")).text == "at last"
    assert instance.end() == 0


async def test_nothing_is_left_of_a_child_whatever_it_started_and_however_the_bridge_ends(bridges: Bridges) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        instance = bridges.start()
        async with instance.session() as session:
            daemon = int((await session.call("pear_daemon")).text)
            child = int((await session.call("pear_pid")).text)
        assert psutil.pid_exists(daemon)
        os.kill(instance.process.pid, number)
        instance.process.wait(20)
        until(partial(all_gone, daemon, child), "nothing is left")
