"""Lists and discovery of real instances: what they say about keeping them, and that nobody gets another's."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.contract.kit.conftest import Instance, Services, StandInGate

pytestmark = [pytest.mark.local, pytest.mark.feature("A10")]
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
RIGHTS: dict[str, tuple[str, ...]] = {
    "all": ("*",),
    "echoes": ("*_echo",),
    "pears": ("pear_*", "pear://*", "demo_add"),
    "none": (),
}


async def ask(instance: Instance, client: str, method: str, allow: tuple[str, ...], **params: object) -> dict[str, Any]:
    headers = {
        **instance.headers(client, allow),
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        **({"mcp-name": str(params["uri"])} if "uri" in params else {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    async with httpx.AsyncClient(timeout=20) as http:
        answer = await http.post(instance.url, headers=headers, content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


async def tools(instance: Instance, client: str, allow: tuple[str, ...]) -> set[str]:
    return {tool["name"] for tool in (await ask(instance, client, "tools/list", allow))["tools"]}


def on_wire(result: dict[str, Any]) -> tuple[object, object, object]:
    return result["resultType"], result["cacheScope"], result["ttlMs"]


async def test_every_complete_result_of_a_service_says_how_long_and_for_whom(demo: Instance) -> None:
    for client, allow in (("all", ("*",)), ("echoes", ("demo_echo",))):
        for method in LISTS:
            for _ in ("made", "kept"):
                assert on_wire(await ask(demo, client, method, allow)) == ("complete", "private", 5000)
        for _ in ("made", "kept"):
            assert on_wire(await ask(demo, client, "server/discover", allow)) == ("complete", "public", 5000)
    read = await ask(demo, "all", "resources/read", ("*",), uri="demo://about")
    assert on_wire(read) == ("complete", "private", 0)
    every = [await ask(demo, client, "server/discover", allow) for client, allow in RIGHTS.items()]
    assert all(told == every[0] for told in every)


async def test_interleaved_clients_of_a_service_get_their_own_lists_and_changed_rights_show_at_once(
    demo: Instance,
) -> None:
    wanted = {client: await tools(demo, client, allow) for client, allow in RIGHTS.items()}
    assert wanted["echoes"] == {"demo_echo"}
    assert wanted["pears"] == {"demo_add"}
    assert wanted["none"] == set()
    assert len(wanted["all"]) > 5
    hits = await demo.metric('tekup_list_cache_total{method="tools/list",result="hit"}')

    async def client(name: str) -> None:
        for _ in range(10):
            assert await tools(demo, name, RIGHTS[name]) == wanted[name]

    await asyncio.gather(*(client(name) for name in RIGHTS))
    assert await demo.metric('tekup_list_cache_total{method="tools/list",result="hit"}') >= hits + 40
    assert await tools(demo, "all", RIGHTS["none"]) == set()
    assert await tools(demo, "none", RIGHTS["echoes"]) == {"demo_echo"}


@pytest.fixture
async def hub(services: Services, gate: StandInGate, pair: tuple[Instance, Instance]) -> Instance:
    """A hub over apple and pear."""
    gate.instances = {instance.name: instance for instance in pair}
    return await services.start_hub(gate)


async def test_the_hub_says_the_same_and_discovery_is_each_clients_own(hub: Instance) -> None:
    for client, allow in RIGHTS.items():
        for method in (*LISTS, "server/discover"):
            kind, scope, ttl_ms = on_wire(await ask(hub, client, method, allow))
            assert (kind, scope) == ("complete", "private")
            assert isinstance(ttl_ms, int)
            assert 0 <= ttl_ms <= 5000
    read = await ask(hub, "all", "resources/read", ("*",), uri="pear://about")
    assert on_wire(read) == ("complete", "private", 0)
    assert "apple:" not in (await ask(hub, "pears", "server/discover", RIGHTS["pears"]))["instructions"]
    assert "apple:" in (await ask(hub, "all", "server/discover", RIGHTS["all"]))["instructions"]


async def test_interleaved_clients_of_the_hub_get_their_own_lists_and_changed_rights_show_at_once(
    hub: Instance,
) -> None:
    wanted = {client: await tools(hub, client, allow) for client, allow in RIGHTS.items()}
    assert wanted["echoes"] == {"apple_echo", "pear_echo"}
    assert {name.split("_")[0] for name in wanted["pears"]} == {"pear"}
    assert wanted["none"] == set()

    async def client(name: str) -> None:
        for _ in range(10):
            assert await tools(hub, name, RIGHTS[name]) == wanted[name]

    await asyncio.gather(*(client(name) for name in RIGHTS))
    assert await hub.metric('tekup_list_cache_total{method="tools/list",result="hit"}') >= 30
    assert await tools(hub, "all", RIGHTS["none"]) == set()


async def test_the_hub_shows_another_list_when_a_service_lists_something_else(
    services: Services, gate: StandInGate, pair: tuple[Instance, Instance]
) -> None:
    def says(*names: str, ttl_ms: int) -> tuple[int, bytes, str]:
        listed = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        result = {"tools": listed, "ttlMs": ttl_ms, "cacheScope": "public"}
        return 200, json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode(), "application/json"

    gate.answers = {"odd": says("odd_one", ttl_ms=1500)}
    hub = await services.start_hub(gate)
    told = await ask(hub, "all", "tools/list", ("*",))
    assert [tool["name"] for tool in told["tools"]] == ["odd_one"]
    assert told["ttlMs"] <= 1500
    assert told["cacheScope"] == "private"
    gate.answers = {"odd": says("odd_one", "odd_two", ttl_ms=0)}
    async with asyncio.timeout(20):
        while await tools(hub, "all", ("*",)) != {"odd_one", "odd_two"}:
            await asyncio.sleep(0.05)
    assert await tools(hub, "narrow", ("odd_one",)) == {"odd_one"}
    assert (await ask(hub, "all", "tools/list", ("*",)))["ttlMs"] == 0
