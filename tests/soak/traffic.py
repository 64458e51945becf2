"""What clients do in a soak: small pieces of work with each service, every call counted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import mcp

from tests.support.sdk import ERAS, Answer, asked, sdk_client

TURNS_A_SESSION = 25
PAUSE_S = 0.05
FILES = 40
MOST_CALLS = 1_000_000
PAGE = "<!doctype html><title>Soak</title><h1>Soak</h1><p>lighthouse</p><button id=b>Press</button>"


@dataclass(frozen=True)
class Timed:
    """A call that was answered well: when it began, monotonic, and how long it took."""

    service: str
    began_s: float
    took_s: float


@dataclass
class Traffic:
    """Clients of both eras that work without a pause worth the name.

    Args:
        url: The endpoint.
        key: An API key of a client that nobody else is.
        page: A page to open.
        sent: Tool calls sent, by service.
        timed: Those answered well.
        failed: The others, in words.
        sessions: How many clients have come and gone.
    """

    url: str
    key: str
    page: str
    sent: Counter[str] = field(default_factory=Counter)
    timed: list[Timed] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    sessions: int = 0
    _numbers: Any = field(default_factory=itertools.count)

    @contextlib.asynccontextmanager
    async def running(self, workers: int = 4) -> AsyncIterator[None]:
        """Work for the length of the block; at its end every call begun is awaited."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number, mode in zip(range(workers), itertools.cycle(ERAS), strict=False):
                tasks.create_task(self._work(ended, number, mode))
            try:
                yield
            finally:
                ended.set()

    async def _work(self, ended: asyncio.Event, number: int, mode: str) -> None:
        turns = itertools.cycle((self._files, self._search, self._files, self._browse))
        while not ended.is_set() and self.sent.total() < MOST_CALLS:
            self.sessions += 1
            try:
                async with sdk_client(self.url, self.key, mode) as client:
                    await client.list_tools()
                    for turn in itertools.islice(turns, TURNS_A_SESSION):
                        await turn(client, f"w{number}")
                        await asyncio.sleep(PAUSE_S)
                        if ended.is_set():
                            break
            except* (httpx2.HTTPError, mcp.MCPError) as errors:
                self.failed.append(f"{mode}: {errors.exceptions[0]!r}")

    async def _call(self, client: mcp.Client, tool: str, **arguments: object) -> Answer:
        service = tool.partition("_")[0]
        self.sent[service] += 1
        began_s = time.monotonic()
        answer = await asked(client, tool, dict(arguments))
        if answer.ok:
            self.timed.append(Timed(service, began_s, time.monotonic() - began_s))
        else:
            self.failed.append(f"{tool}: {answer}"[:400])
        return answer

    async def _files(self, client: mcp.Client, worker: str) -> None:
        number = next(self._numbers)
        path = f"soak/{worker}-{number % FILES}.txt"
        await self._call(client, "filesystem_write_file", path=path, content=f"one {number}\ntwo\n", overwrite=True)
        await self._call(client, "filesystem_edit_file", path=path, edits=[{"old_text": "two", "new_text": "three"}])
        read = await self._call(client, "filesystem_read_file", path=path)
        if read.ok and f"one {number}\n" not in read.text:
            self.failed.append(f"filesystem_read_file {path}: not what was written: {read.text[:200]}")
        await self._call(client, "filesystem_list_directory", path="soak")

    async def _search(self, client: mcp.Client, worker: str) -> None:
        found = await self._call(client, "search_grep", pattern="three", path="soak", limit=20)
        if found.ok and not (found.result or {}).get("matched"):
            self.failed.append("search_grep: found nothing of what was written")
        await self._call(client, "search_files", query=f"{worker}-1.txt", path="soak")
        await self._call(client, "search_text", query="three lighthouse")

    async def _browse(self, client: mcp.Client, _worker: str) -> None:
        opened = await self._call(client, "browser_open", url=self.page)
        if not opened.ok:
            return
        handle = (opened.result or {})["handle"]
        steps: Mapping[str, dict[str, object]] = {
            "browser_snapshot": {},
            "browser_click": {"target": "#b"},
            "browser_text": {},
            "browser_close": {},
        }
        for tool, arguments in steps.items():
            await self._call(client, tool, handle=handle, **arguments)
