"""A plain call's short way past the SDK's server is answered, and traced, as the SDK's own way is."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.contract.kit.conftest import Instance, Services, grant_of
from tests.contract.kit.test_serving import call_body, call_headers
from tests.support.otlp import Collector, Taken, collecting

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.local, pytest.mark.feature("A13")]
ANOTHER_WAY = {"noted": 1}
"""A parameter that the protocol does not have, and ignores: a call with it is not plain."""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CASES: Sequence[tuple[str, dict[str, Any]]] = (
    ("demo_echo", {"text": "hi"}), ("demo_echo", {"text": "ä€🙂\u2028"}), ("demo_echo", {"text": ""}),
    ("demo_add", {"a": 1, "b": 2}), ("demo_add", {"a": "1", "b": 2}), ("demo_add", {"a": "one", "b": 2}),
    ("demo_add", {"a": 1}), ("demo_add", {"a": 1, "b": 2, "c": 3}), ("demo_hurry", {}), ("demo_read", {"handle": "x"}),
    ("demo_pages", {}), ("demo_whoami", {}), ("demo_steps", {"count": 2}), ("demo_nothing", {}),
)  # fmt: skip


async def answers(
    instance: Instance, tool: str, arguments: dict[str, Any], parent: str = "", **grant: object
) -> list[tuple[int, str, Any]]:
    """What both ways answer; the short one in no more bytes."""
    sent = {
        **call_headers(instance, tool), "x-tekup-grant": grant_of("dev", ("*",), **grant),
        **({"traceparent": f"00-{TRACE}-{parent}-01"} if parent else {}),
    }  # fmt: skip
    if "handle" in arguments:
        sent["mcp-param-handle"] = arguments["handle"]
    found, sizes = [], list[int]()
    async with httpx.AsyncClient(timeout=30, headers=sent) as http:
        for more in ({}, ANOTHER_WAY):
            asked = call_body(tool, arguments)
            asked["params"] |= more
            answer = await http.post(instance.url, json=asked)
            found.append((answer.status_code, answer.headers["content-type"], answer.json()))
            sizes.append(len(answer.content))
    assert sizes[0] <= sizes[1]
    return found


@pytest.mark.parametrize(("tool", "arguments"), CASES)
async def test_a_call_is_answered_alike_on_both_ways(demo: Instance, tool: str, arguments: dict[str, Any]) -> None:
    short, long = await answers(demo, tool, arguments)
    assert short == long


async def test_a_crash_is_told_alike_but_for_its_reference(demo: Instance) -> None:
    short, long = (json.dumps(answer) for answer in await answers(demo, "demo_crash", {}))
    assert short.partition("as ")[0] == long.partition("as ")[0]
    assert "secret" not in short


async def test_rights_hold_alike(demo: Instance) -> None:
    short, long = await answers(demo, "demo_sleep", {"seconds": 0}, access="read-only")
    assert short == long
    assert "read-only tools only" in short[2]["error"]["message"]


async def test_a_caller_that_leaves_has_cancelled_its_call(services: Services) -> None:
    instance = await services.start()
    asked = call_body("demo_sleep", {"seconds": 60})
    async with httpx.AsyncClient(headers=call_headers(instance, "demo_sleep")) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(instance.url, json=asked, timeout=0.5)
    call = await instance.event("call")
    assert (call["tool"], call["outcome"]) == ("demo_sleep", "cancelled")


def _said(span: Taken) -> tuple[object, ...]:
    return span.name, span.parent, span.failed, span.about


async def test_both_ways_are_traced_alike(services: Services) -> None:
    with collecting() as collector:
        instance = await services.start(MCP_OTLP_URL=collector.url)
        for tool, arguments in CASES:
            await answers(instance, tool, arguments, PARENT)
        pairs = await asyncio.to_thread(_pairs, collector)
    assert [one.name for one, _ in pairs] == [f"tools/call {tool}" for tool, _ in CASES]
    for short, long in pairs:
        assert _said(short) == _said(long)
        assert short.parent == PARENT


def _pairs(collector: Collector) -> list[tuple[Taken, Taken]]:
    """Served calls in the order they ended, two and two."""
    collector.wait("tools/call demo_nothing", 2)
    spans = [one for one in collector.of(TRACE) if one.name.startswith("tools/call")]
    return list(zip(spans[::2], spans[1::2], strict=True))
