"""A plain call's short way past the SDK answers as the SDK's own way does, whatever is asked."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.services.conftest import Instance, Starter, _grant
from tests.contract.services.test_bridge import Bridges

pytestmark = [pytest.mark.local, pytest.mark.feature("B11", "A13"), pytest.mark.timeout(120)]
VERSION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
ANOTHER_WAY = {"noted": 1}
"""A parameter that the protocol does not have, and ignores: a call with it is not plain."""


@pytest.fixture(scope="module")
def pear(starter: Starter) -> Iterator[Instance]:
    instance = Bridges(starter).start("bad-list")
    yield instance
    assert instance.end() == 0


async def answers(
    instance: Instance, params: dict[str, Any], *, access: str = "all", headers: dict[str, str] | None = None,
    **message: Any,
) -> list[tuple[int, str, Any]]:  # fmt: skip
    """What both ways answer."""
    sent = {
        "accept": "application/json, text/event-stream", "mcp-protocol-version": VERSION, "mcp-method": "tools/call",
        "mcp-name": str(params.get("name")), "x-tekup-gate": hmac.digest(instance.key, b"gate", "sha256").hex(),
        "x-tekup-client": "dev", "x-tekup-grant": _grant("dev", (), (), access), **(headers or {}),
    }  # fmt: skip
    found = []
    async with httpx.AsyncClient(timeout=30) as http:
        for more in ({}, ANOTHER_WAY):
            asked = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {**params, **more}, **message}
            answer = await http.post(f"http://127.0.0.1:{instance.where()['port']}/mcp", headers=sent, json=asked)
            found.append((answer.status_code, answer.headers["content-type"], answer.json()))
    return found


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pear_echo", {"text": "hi"}), ("pear_sum", {"values": [1, 2]}), ("pear_picture", {}), ("pear_error", {}),
        ("pear_fails", {}), ("pear_nonsense", {}), ("pear_refuses", {}), ("pear_nothing", {}), ("pear_huge", {}),
        ("pear_big", {"bytes": 100_000}),
    ],
)  # fmt: skip
async def test_a_call_is_answered_alike_on_both_ways(pear: Instance, name: str, arguments: dict[str, Any]) -> None:
    short, long = await answers(pear, {"name": name, "arguments": arguments, "_meta": META})
    assert short == long


async def test_what_is_wrong_is_refused_alike(pear: Instance) -> None:
    plain = {"name": "pear_echo", "arguments": {}, "_meta": META}
    for params, more in (
        ({"name": "pear_echo", "arguments": {}}, {}),
        ({**plain, "name": 7}, {}),
        ({**plain, "arguments": []}, {}),
        ({**plain, "_meta": {**META, "io.modelcontextprotocol/clientCapabilities": 7}}, {}),
        (plain, {"id": 1.5}),
        (plain, {"id": None}),
        (plain, {"jsonrpc": "1.0"}),
        (plain, {"method": "tools/list"}),
        (plain, {"headers": {"mcp-name": "pear_sum"}}),
        (plain, {"headers": {"accept": "application/json"}}),
        (plain, {"headers": {"content-type": "text/plain"}}),
    ):
        short, long = await answers(pear, params, **more)
        assert short == long
        assert short[0] >= 400


async def test_rights_hold_alike(pear: Instance) -> None:
    short, long = await answers(pear, {"name": "pear_pid", "arguments": {}, "_meta": META}, access="read-only")
    assert short == long
    assert "read-only tools only" in short[2]["error"]["message"]


async def test_ids_come_back_as_they_were(pear: Instance) -> None:
    for identity in ("a", "7", "", 0, -3):
        for _, _, said in await answers(pear, {"name": "pear_echo", "arguments": {}, "_meta": META}, id=identity):
            assert said["id"] == identity
            assert type(said["id"]) is type(identity)


@pytest.mark.long
async def test_a_call_that_takes_long_becomes_a_stream_with_signs_of_life(pear: Instance) -> None:
    sent = {
        "accept": "application/json, text/event-stream", "mcp-protocol-version": VERSION, "mcp-method": "tools/call",
        "mcp-name": "pear_sleep", "x-tekup-gate": hmac.digest(pear.key, b"gate", "sha256").hex(),
        "x-tekup-client": "dev", "x-tekup-grant": _grant("dev", (), ()),
    }  # fmt: skip
    params = {"name": "pear_sleep", "arguments": {"s": 16}, "_meta": META}
    asked = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    async with httpx.AsyncClient(timeout=40) as http:
        answer = await http.post(f"http://127.0.0.1:{pear.where()['port']}/mcp", headers=sent, json=asked)
    assert answer.headers["content-type"] == "text/event-stream"
    ping, event, _ = answer.text.split("\r\n\r\n")
    assert ping == ": ping"
    assert json.loads(event.partition("data: ")[2])["result"]["content"][0]["text"] == "slept"
