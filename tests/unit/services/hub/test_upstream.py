"""What the hub makes of a service's answer, whatever its shape."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from mcp import MCPError

from services.hub.upstream import Upstream, http_client

RESULT = {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "text": "ü"}}
SSE = "text/event-stream"


def told(params: object) -> bytes:
    return b"data: " + json.dumps({"method": "notifications/progress", "params": params}).encode() + b"\n\n"


async def call(status: int, body: bytes, kind: str, steps: list[float]) -> object:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body, headers={"content-type": kind} if kind else {})

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    app = web.Application()
    app.router.add_post("/pear/mcp", answer)
    async with TestServer(app) as server, http_client() as client:
        upstream = Upstream(str(server.make_url("")).rstrip("/"), lambda: "proof", client, version="1")
        return await upstream.request("pear", "tools/call", {}, name="pear_a", grant="grant", progress=note)


@pytest.mark.parametrize("kind", [SSE, "Text/Event-Stream; charset=utf-8"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_a_result_is_found_among_whatever_else_a_stream_holds(kind: str, end: bytes) -> None:
    lines = [b": hi", b"", b"event: message", b"data: " + json.dumps(RESULT).encode(), b"", b""]
    assert await call(200, end.join(lines), kind, []) == RESULT["result"]


async def test_odd_progress_does_not_cost_the_call_its_result() -> None:
    odd: list[object] = [[1], 7, None, {}, {"progressToken": "p", "progress": "x"}]
    odd.append({"progressToken": "p", "progress": 1, "message": {}})
    steps: list[float] = []
    good = told({"progressToken": "p", "progress": 2})
    body = b"".join(map(told, odd)) + good + b"data: " + json.dumps(RESULT).encode() + b"\n\n"
    assert await call(200, body, SSE, steps) == RESULT["result"]
    assert steps == [2]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", "application/json"),
        (200, b"[]", "application/json"),
        (204, b"", ""),
        (200, b"<html>", "text/html"),
        (500, b"oops", "text/plain"),
        (200, b"data: {", SSE),
        (200, b": still here\n\n", SSE),
    ],
)
async def test_after_an_answer_that_is_none_the_caller_is_told_that_the_call_may_have_run(
    status: int, body: bytes, kind: str
) -> None:
    with pytest.raises(MCPError, match="may have run") as lost:
        await call(status, body, kind, [])
    assert lost.value.error.code == 502
