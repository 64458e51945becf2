"""A counting client: bounded calls to the gate, each one accounted for by version or by how it failed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

VERSION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
SERVER_INFO = "io.modelcontextprotocol/serverInfo"
MOST_CALLS = 60_000


def headers(key: str, method: str, name: str = "") -> dict[str, str]:
    """What a modern client sends."""
    return {
        "Authorization": f"Bearer {key}",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": method,
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        **({"Mcp-Name": name} if name else {}),
    }


def body(method: str, params: dict[str, object] | None = None) -> dict[str, object]:
    """A modern request."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": META}}


class Load:
    """Calls one tool again and again.

    Args:
        url: The endpoint.
        key: An API key.
        tool: The tool.
        arguments: Its arguments.
    """

    def __init__(self, url: str, key: str, tool: str, arguments: dict[str, object] | None = None) -> None:
        self._url = url
        self._headers = headers(key, "tools/call", tool)
        self._body = body("tools/call", {"name": tool, "arguments": arguments or {}})
        self.versions: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    @property
    def calls(self) -> int:
        """Calls that have ended, well or badly."""
        return self.versions.total() + self.failures.total()

    async def run(self, count: int, workers: int = 8) -> None:
        """Make exactly so many calls."""
        ticket = itertools.count()
        await self._work(workers, lambda: next(ticket) < count)

    @contextlib.asynccontextmanager
    async def running(self, workers: int = 6) -> AsyncIterator[Load]:
        """Call without a pause for the length of a block; at its end every call begun is awaited."""
        going = True

        def more() -> bool:
            return going and self.calls < MOST_CALLS

        work = asyncio.create_task(self._work(workers, more))
        try:
            await self.more(20)
            yield self
            await self.more(20)
        finally:
            going = False
            await work

    async def more(self, count: int, timeout_s: float = 30) -> None:
        """Wait until so many further calls have been answered well."""
        wanted = self.versions.total() + count
        async with asyncio.timeout(timeout_s):
            while self.versions.total() < wanted and self.calls < MOST_CALLS:
                await asyncio.sleep(0.01)

    async def _work(self, workers: int, more: Callable[[], bool]) -> None:
        limits = httpx.Limits(max_connections=workers, max_keepalive_connections=workers)
        async with httpx.AsyncClient(limits=limits, timeout=30) as client, asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(self._worker(client, more))

    async def _worker(self, client: httpx.AsyncClient, more: Callable[[], bool]) -> None:
        while more():
            await self._call(client)

    async def _call(self, client: httpx.AsyncClient) -> None:
        version, problem = await answered(client, self._url, self._body, self._headers)
        if problem:
            self.failures[problem] += 1
        else:
            self.versions[version] += 1


async def answered(
    client: httpx.AsyncClient, url: str, asked: dict[str, object], sent: dict[str, str]
) -> tuple[str, str]:
    """Call a tool once.

    Returns:
        The version that answered, "" where the answer does not tell, and what was wrong, "" for nothing.
    """
    try:
        answer = await client.post(url, json=asked, headers=sent)
        result: dict[str, Any] = answer.json().get("result") or {}
    except (httpx.HTTPError, ValueError) as error:
        return "", f"{type(error).__name__} {error}"
    version = str(((result.get("_meta") or {}).get(SERVER_INFO) or {}).get("version", ""))
    good = answer.status_code == 200 and result.get("isError") is False and version
    return version, "" if good else f"{answer.status_code} {answer.text[:160]}"
