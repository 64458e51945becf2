"""The life of an instance: start, readiness, registration, drills, reload, stopping."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from mcp_types import CallToolResult, TextContent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.contract.kit.conftest import Consul, Instance, Services

    Wait = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.local


def text_of(result: CallToolResult) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


async def ready(instance: Instance) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(instance.admin("/ready"))
    return answer.status_code, answer.json()


async def test_an_instance_does_not_pass_for_another_that_had_its_address(services: Services) -> None:
    demo = await services.start()
    async with httpx.AsyncClient() as http:
        assert (await http.get(demo.admin(f"/ready?instance={demo.instance}"))).status_code == 200
        other = await http.get(demo.admin("/ready?instance=0a0a0a"))
    assert (other.status_code, other.json()["reason"]) == (503, f"0a0a0a is gone, this is {demo.instance}")


async def call_raw(instance: Instance, tool: str, arguments: dict[str, Any]) -> httpx.Response:
    """A modern call, its HTTP answer as it is."""
    headers = instance.headers() | {
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
        "accept": "application/json, text/event-stream",
    }
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with httpx.AsyncClient(timeout=20) as http:
        return await http.post(instance.url, headers=headers, json=body)


async def states(consul: Consul, service: str = "demo") -> dict[str, tuple[str, str]]:
    """Instance → its state in the catalog and that of its check."""
    found = {}
    for entry in await consul.entries(service):
        checks = [check["Status"] for check in entry["Checks"] if check["CheckID"] != "serfHealth"]
        found[entry["Service"]["Meta"]["instance"]] = (entry["Service"]["Meta"]["state"], checks[0])
    return found


async def test_an_instance_has_called_itself_often_before_it_serves(services: Services) -> None:
    demo = await services.start(MCP_LOG_LEVEL="debug")
    events = [line["event"] for line in demo.lines()]
    assert not [event for event in events if event.startswith("warm.")], "it gave up, or refused itself"
    calls = [line for line in demo.lines()[: events.index("serving")] if line["event"] == "call"]
    assert len(calls) > 5
    assert {line["client"] for line in calls} == {"~probe"}
    assert await demo.metric("tekup_tool_calls_total") == 0, "nobody's metric counts them"


async def test_all_wrong_settings_are_named_in_one_message_and_nothing_starts(services: Services) -> None:
    demo = services.spawn(MCP_PORT="x", MCP_LOG_LEVEL="loud", MCP_INSTANCE="zz", MCP_DEMO_COUNT="many")
    assert await demo.ended(30) == os.EX_CONFIG
    said = demo.log.read_text()
    assert "demo was not started, its settings have 4 problem(s)" in said
    for variable in ("MCP_PORT", "MCP_LOG_LEVEL", "MCP_INSTANCE", "MCP_DEMO_COUNT"):
        assert variable in said
    assert not demo.lines()


async def test_without_a_secrets_file_only_standalone_starts(services: Services) -> None:
    demo = services.spawn(MCP_SECRETS_FILE=None)
    assert await demo.ended(30) == os.EX_CONFIG
    assert "MCP_STANDALONE=true" in demo.log.read_text()


async def test_a_taken_port_is_named(services: Services) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = services.spawn(MCP_PORT=port)
        assert await demo.ended(30) == os.EX_CONFIG
    assert f"MCP_PORT: 127.0.0.1:{port} cannot be listened on" in demo.log.read_text()


@pytest.mark.feature("B5")
async def test_ready_follows_the_probe_while_health_stays(services: Services, tmp_path: Path, wait_until: Wait) -> None:
    sick = tmp_path / "sick"
    demo = await services.start(MCP_DEMO_SICK_FILE=sick)
    assert (await ready(demo))[0] == 200
    sick.touch()

    async def unready() -> Any:
        status, body = await ready(demo)
        return body["reason"] if status == 503 else None

    assert await wait_until(unready, within_s=20) == "probe demo_echo: the demo is sick"
    async with httpx.AsyncClient() as http:
        assert (await http.get(demo.admin("/health"))).status_code == 200
        assert (await http.get(demo.url.removesuffix("/mcp") + "/ready")).status_code == 503
    assert await demo.metric("tekup_ready ") == 0
    sick.unlink()

    async def again() -> bool:
        return (await ready(demo))[0] == 200

    await wait_until(again, within_s=20)


@pytest.mark.feature("C1")
async def test_an_instance_registers_when_it_is_ready_and_deregisters_when_it_stops(
    services: Services, consul: Consul, wait_until: Wait
) -> None:
    demo = await services.start(MCP_CONSUL_URL=consul.url, MCP_VERSION="1.2.3")
    await demo.event("registry.registered")
    (entry,) = await consul.entries("demo")
    service = entry["Service"]
    assert service["ID"] == f"mcp-demo-{demo.instance}"
    assert (service["Address"], service["Port"]) == ("127.0.0.1", demo.where["port"])
    assert service["Tags"] in (None, [])
    assert abs(float(service["Meta"].pop("started")) - time.time()) < 60
    assert service["Meta"] == {
        "version": "1.2.3",
        "instance": demo.instance,
        "state": "serving",
        "admin": str(demo.where["admin_port"]),
    }
    assert await states(consul) == {demo.instance: ("serving", "passing")}
    demo.stop()
    assert await demo.ended() == 0
    assert await consul.entries("demo") == []


@pytest.mark.feature("C1")
async def test_a_sick_instance_is_unregistered_until_it_is_well(
    services: Services, consul: Consul, tmp_path: Path, wait_until: Wait
) -> None:
    sick = tmp_path / "sick"
    sick.touch()
    demo = services.spawn(MCP_CONSUL_URL=consul.url, MCP_DEMO_SICK_FILE=sick)
    await demo.event("ready.changed")
    assert await consul.entries("demo") == []
    assert demo.events("serving") == []
    sick.unlink()
    demo.where = await demo.event("serving")
    await demo.event("registry.registered")
    sick.touch()

    async def critical() -> bool:
        return (await states(consul)) == {demo.instance: ("serving", "critical")}

    await wait_until(critical, within_s=8)


@pytest.mark.feature("C1")
async def test_a_consul_that_comes_back_empty_knows_the_instance_again_within_seconds(
    services: Services, consul: Consul, wait_until: Wait
) -> None:
    demo = await services.start(MCP_CONSUL_URL=consul.url)
    await demo.event("registry.registered")
    consul.kill()
    await demo.event("registry.unreachable")
    async with demo.client() as client:
        assert text_of(await client.call_tool("demo_echo", {"text": "still here"})) == "still here"
    await asyncio.to_thread(consul.start)

    async def known() -> bool:
        return demo.instance in await states(consul)

    await wait_until(known, within_s=20)

    async def known_to_itself() -> bool:
        return await demo.metric("tekup_registered ") == 1

    await wait_until(known_to_itself, within_s=20)


async def test_an_instance_without_consul_serves_and_stops(services: Services) -> None:
    demo = await services.start(MCP_CONSUL_URL="http://127.0.0.1:9")
    await demo.event("registry.unreachable")
    async with demo.client() as client:
        assert text_of(await client.call_tool("demo_echo", {"text": "x"})) == "x"
    demo.stop()
    assert await demo.ended() == 0


@pytest.mark.feature("B6")
async def test_stopping_drains_serves_what_still_comes_and_loses_nothing(
    services: Services, consul: Consul, tmp_path: Path, wait_until: Wait
) -> None:
    closed = tmp_path / "closed"
    demo = await services.start(MCP_CONSUL_URL=consul.url, MCP_DEMO_CLOSED_FILE=closed, MCP_DRAIN_QUIET_S=1)
    await demo.event("registry.registered")
    async with demo.client() as client:
        running = asyncio.create_task(client.call_tool("demo_sleep", {"seconds": 2}))

        async def in_flight() -> bool:
            return await demo.metric("tekup_requests_in_flight ") == 1

        await wait_until(in_flight)
        demo.stop()

        async def draining() -> bool:
            return (await states(consul)).get(demo.instance, ("", ""))[0] == "draining"

        await wait_until(draining, within_s=20)
        status, body = await ready(demo)
        assert (status, body["reason"]) == (503, "draining")
        late = [text_of(await client.call_tool("demo_echo", {"text": str(i)})) for i in range(5)]
        assert late == ["0", "1", "2", "3", "4"]
        assert text_of(await running) == "slept"
    assert await demo.ended() == 0
    assert await consul.entries("demo") == []
    assert closed.read_text() == "build\n"


@pytest.mark.feature("B6")
async def test_an_open_handle_keeps_a_draining_instance_alive_until_it_is_closed(
    services: Services, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    demo = await services.start(MCP_DEMO_CLOSED_FILE=closed, MCP_DRAIN_QUIET_S=0.1)
    async with demo.client() as client:
        await client.list_tools()
        handle = text_of(await client.call_tool("demo_open", {"page": "p1"}))
        demo.stop()
        await demo.event("draining")
        assert text_of(await client.call_tool("demo_read", {"handle": handle})) == "p1"
        assert demo.process.poll() is None
        await client.call_tool("demo_close", {"handle": handle})
    assert await demo.ended() == 0
    assert closed.read_text().splitlines() == ["handle p1", "build"]


@pytest.mark.feature("B6")
async def test_the_drain_deadline_cuts_off_and_cleans_up(services: Services, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    demo = await services.start(MCP_DEMO_CLOSED_FILE=closed, MCP_DRAIN_QUIET_S=0.1, MCP_DRAIN_DEADLINE_S=0.5)
    async with demo.client() as client:
        await client.call_tool("demo_open", {"page": "p1"})
        running = asyncio.create_task(call_raw(demo, "demo_sleep", {"seconds": 60}))
        while await demo.metric("tekup_requests_in_flight ") < 1:
            assert not running.done()
        demo.stop()
        answer = await running
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, 502)
    assert "may have run" in answer.json()["error"]["message"]
    assert await demo.ended() == 0
    assert closed.read_text().splitlines() == ["handle p1", "build"]
    (cut,) = demo.events("drain.cut_off")
    assert (cut["cut_off"], cut["handles"]) == (1, 1)


async def test_a_second_signal_stops_at_once(services: Services) -> None:
    demo = await services.start()
    async with demo.client() as client:
        await client.call_tool("demo_open", {"page": "p1"})
    demo.stop()
    await demo.event("draining")
    demo.stop(signal.SIGINT)
    assert await demo.ended(5) == 0


async def test_an_open_idle_connection_does_not_hold_up_the_stop(services: Services) -> None:
    demo = await services.start()
    with socket.create_connection(("127.0.0.1", demo.where["port"])):
        demo.stop()
        assert await demo.ended(6) == 0


async def test_drills_change_behaviour_while_the_instance_runs(services: Services, tmp_path: Path) -> None:
    file = tmp_path / "drill.json"
    demo = await services.start(MCP_DRILL_FILE=file)
    async with demo.client() as client:

        async def echo() -> tuple[bool | None, str]:
            result = await client.call_tool("demo_echo", {"text": "x"})
            return result.is_error, text_of(result)

        assert await echo() == (False, "x")
        file.write_text(json.dumps([{"tool": "demo_e*", "error": "this is a drill"}]))
        assert await echo() == (True, "this is a drill")
        assert (await client.call_tool("demo_add", {"a": 1, "b": 1})).structured_content == {"total": 2}
        assert (await ready(demo))[0] == 200, "probes are spared"
        file.write_text(json.dumps([{"tool": "demo_hurry", "hang": True}]))
        assert await echo() == (False, "x")
        assert "deadline" in text_of(await client.call_tool("demo_hurry", {}))
        file.write_text('[{"tool": "demo_*", "explode": 1}]')
        assert await echo() == (False, "x")
        assert demo.events("drills.unreadable")
    file.write_text(json.dumps([{"tool": "demo_add", "crash": True}]))
    with pytest.raises(httpx.RemoteProtocolError):
        await call_raw(demo, "demo_add", {"a": 1, "b": 1})
    assert await demo.ended() == 70


@pytest.mark.feature("B8")
async def test_an_edit_is_served_within_seconds(services: Services, tmp_path: Path, wait_until: Wait) -> None:
    root = Path(__file__).parents[3]
    shutil.copytree(root / "services", tmp_path / "services", ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "services" / "demo" / "__main__.py"
    source.parent.mkdir()
    (source.parent / "__init__.py").touch()
    text = Path(__file__).with_name("demo_service.py").read_text()
    source.write_text(text)
    argv = [sys.executable, "-m", "services.demo"]
    demo = services.spawn(
        argv=["/usr/bin/env", "-C", str(tmp_path), *argv],
        PYTHONPATH=tmp_path,
        MCP_STANDALONE="true",
        MCP_RELOAD="true",
    )
    demo.where = await demo.event("serving", within_s=30)

    def says(title: str) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            titles: set[str | None] = set()
            try:
                async with demo.client() as client:
                    titles = {tool.title for tool in (await client.list_tools()).tools}
            except* httpx2.TransportError:  # between one child and the next nobody listens
                pass
            return title in titles

        return look

    assert await says("Echo")()
    began = time.monotonic()
    source.write_text(text.replace('title="Echo"', 'title="Echo, edited"'))
    await wait_until(says("Echo, edited"), within_s=20)
    took_s = time.monotonic() - began
    source.write_text("this does not compile (")
    await demo.event("reload.waiting")
    source.write_text(text.replace('title="Echo"', 'title="Echo, mended"'))
    await wait_until(says("Echo, mended"), within_s=20)
    assert took_s < 10, f"{took_s:.2f} s"
    demo.stop()
    assert await demo.ended() == 0
