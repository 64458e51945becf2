"""A plain call of an older client goes a short way through the hub, answered and traced as the SDK's own way is."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.contract.kit.conftest import grant_of
from tests.support.otlp import collecting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.contract.kit.conftest import Instance, Services, StandInGate

pytestmark = [pytest.mark.local, pytest.mark.feature("A13"), pytest.mark.timeout(120)]
VERSION = "2025-06-18"
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
ANOTHER_WAY = {"noted": 1}
"""A parameter that the protocol does not have, and ignores: a call with it is not plain."""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLS: Sequence[tuple[str, dict[str, Any]]] = (
    ("pear_echo", {"text": "hi"}), ("pear_echo", {"text": "ä€🙂\u2028"}), ("pear_add", {"a": 1, "b": 2}),
    ("pear_add", {"a": "one", "b": 2}), ("pear_add", {"a": 1}), ("pear_hurry", {}), ("pear_read", {"handle": "x"}),
    ("pear_nothing", {}), ("pear_whoami", {}), ("plum_echo", {"text": "hi"}), ("nothing", {}),
    ("pear_steps", {"count": 2}), ("hub_find_tools", {"query": "echo"}), ("hub_find_tools", {"words": 1}),
    ("hub_find_tools", {}), ("hub_call_tool", {"name": "pear_echo", "arguments": {"text": "by a door"}}),
)  # fmt: skip


@pytest.fixture
async def hub(services: Services, gate: StandInGate, pair: tuple[Instance, Instance]) -> Instance:
    """Before the stand-in, with two services behind it."""
    gate.instances = {instance.name: instance for instance in pair}
    return await services.start_hub(gate)


def _read(answer: httpx.Response) -> dict[str, Any]:
    """The message that an answer carries, in either form."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        return dict(json.loads(answer.text.partition("data: ")[2]))
    return dict(answer.json()) if answer.content else {}


async def answers(
    hub: Instance,
    params: dict[str, Any],
    *,
    headers: dict[str, str] | None = None,
    grant: dict[str, object] | None = None,
    plain: bool = True,
    **message: Any,
) -> list[tuple[int, Any]]:
    """What both ways answer, the short one in JSON."""
    sent = {
        **hub.headers(), **ACCEPT, "mcp-protocol-version": VERSION,
        "x-tekup-grant": grant_of("dev", ("*",), **(grant or {})), **(headers or {}),
    }  # fmt: skip
    found, forms = [], list[str]()
    async with httpx.AsyncClient(timeout=30, headers={name: value for name, value in sent.items() if value}) as http:
        for more in ({}, ANOTHER_WAY):
            asked = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {**params, **more}, **message}
            answer = await http.post(hub.url, json=asked)
            found.append((answer.status_code, _read(answer)))
            forms.append(answer.headers["content-type"].partition(";")[0])
    if plain:  # each has gone its own way
        assert forms == ["application/json", "text/event-stream"]
    return found


async def test_a_call_is_answered_alike_on_both_ways(hub: Instance) -> None:
    for tool, arguments in CALLS:
        short, long = await answers(hub, {"name": tool, "arguments": arguments})
        assert short == long, tool
        assert short[0] == 200


async def test_every_older_version_is_answered_alike(hub: Instance) -> None:
    for version in ("", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"):
        call = {"name": "pear_add", "arguments": {"a": 1, "b": 2}}
        short, long = await answers(hub, call, headers={"mcp-protocol-version": version})
        assert short == long
        assert short[1]["result"]["content"][0]["text"]


async def test_what_is_wrong_is_refused_alike(hub: Instance) -> None:
    plain = {"name": "pear_echo", "arguments": {"text": "x"}}
    for params, more in (
        ({**plain, "name": 7}, {}),
        ({**plain, "arguments": []}, {}),
        ({**plain, "_meta": 7}, {}),
        ({**plain, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}, {}),
        (plain, {"id": 1.5}),
        (plain, {"id": True}),
        (plain, {"jsonrpc": "1.0"}),
        (plain, {"method": "tools/none"}),
        (plain, {"headers": {"accept": "application/json"}}),
        (plain, {"headers": {"content-type": "text/plain"}}),
        (plain, {"headers": {"content-type": "application/jsonx"}}),
        (plain, {"headers": {"mcp-protocol-version": "2019-01-01"}}),
    ):
        short, long = await answers(hub, params, plain=False, **more)
        assert short[0] == long[0]  # texts quote what was sent
        assert short[1].get("error", {}).get("code") == long[1].get("error", {}).get("code")


async def test_rights_hold_alike(hub: Instance) -> None:
    for grant in (dict[str, object](access="read-only"), {}):
        short, long = await answers(hub, {"name": "pear_sleep", "arguments": {"seconds": 0}}, grant=grant)
        assert short == long
        assert ("error" in short[1]) is bool(grant)


async def test_ids_come_back_as_they_were(hub: Instance) -> None:
    for identity in ("a", "7", "", 0, -3):
        for _, said in await answers(hub, {"name": "pear_echo", "arguments": {"text": "x"}}, id=identity):
            assert said["id"] == identity
            assert type(said["id"]) is type(identity)


async def test_a_caller_that_leaves_has_cancelled_its_call(hub: Instance) -> None:
    params = {"name": "pear_sleep", "arguments": {"seconds": 60}}
    asked = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    async with httpx.AsyncClient(headers={**hub.headers(), **ACCEPT, "mcp-protocol-version": VERSION}) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(hub.url, json=asked, timeout=0.5)
    call = await hub.event("call")
    assert (call["tool"], call["outcome"]) == ("pear_sleep", "cancelled")


async def test_both_ways_are_traced_alike(
    services: Services, gate: StandInGate, pair: tuple[Instance, Instance]
) -> None:
    gate.instances = {instance.name: instance for instance in pair}
    with collecting() as collector:
        hub = await services.start_hub(gate, MCP_OTLP_URL=collector.url)
        for tool, arguments in CALLS:
            await answers(
                hub, {"name": tool, "arguments": arguments}, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}
            )
        await asyncio.to_thread(collector.wait, "tools/call hub_call_tool", 2)
    served = [one for one in collector.of(TRACE) if one.name.startswith("tools/call")]
    assert [one.name for one in served[::2]] == [f"tools/call {tool}" for tool, _ in CALLS]
    for short, long in zip(served[::2], served[1::2], strict=True):
        assert (short.name, short.parent, short.failed, short.about) == (
            long.name,
            long.parent,
            long.failed,
            long.about,
        )
        assert short.parent == PARENT
