"""What an instance tells of itself: to the control plane alone, and without counting as a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.contract.kit.conftest import Instance

pytestmark = [pytest.mark.local, pytest.mark.feature("C11")]
LOAD = "dev.tekup/load"


async def test_counters_only_grow_and_who_asks_is_told_who_answers(demo: Instance) -> None:
    before = (await demo.told(LOAD)).json()["result"]
    async with demo.client() as client:
        await client.call_tool("demo_sleep", {"seconds": 0.3})
    answer = await demo.told(LOAD)
    after = answer.json()
    assert answer.headers["x-tekup-instance"] == demo.instance
    assert (after["jsonrpc"], after["id"], after["result"]["resultType"]) == ("2.0", 7, "complete")
    assert after["result"]["in_flight_seconds"] - before["in_flight_seconds"] >= 0.3
    assert all(after["result"][name] >= before[name] for name in ("at_s", "cpu_seconds", "late_seconds", "turns"))


async def test_being_asked_is_no_load(demo: Instance) -> None:
    before = (await demo.told(LOAD)).json()["result"]["in_flight_seconds"]
    for _ in range(20):
        await demo.told(LOAD)
    assert (await demo.told(LOAD)).json()["result"]["in_flight_seconds"] == before


async def test_nobody_else_is_told(demo: Instance) -> None:
    for whose in ({"x-tekup-client": "dev"}, {"x-tekup-client": "~hub"}, {"x-tekup-gate": "0" * 64}):
        answer = await demo.told(LOAD, whose)
        assert "in_flight_seconds" not in answer.text
        assert answer.status_code >= 400


async def test_what_is_no_request_is_refused(demo: Instance) -> None:
    sent = {**demo.headers("~control-plane", None), "mcp-protocol-version": "2026-07-28", "mcp-method": LOAD}
    async with httpx.AsyncClient() as http:
        for body in (b"", b"[]", b'{"id": null}', b"{" * 70_000):
            answer = await http.post(demo.url, headers=sent, content=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
