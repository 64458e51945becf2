"""The browser service against Playwright MCP from npm: the same Chromium, the same pages, both over HTTP, by turns."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from tests.bench.sites import PAGES
from tests.bench.tools import Row, percentile, process
from tests.support.ports import free_ports
from tests.support.programs import program
from tests.support.site import site

PARALLEL = 20
HELD = 10
Call = Callable[..., Awaitable[CallToolResult]]


@dataclass
class Times:
    """What one side took, in milliseconds, by task; and the bytes of its answers."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def add(self, task: str, ms: float) -> None:
        """One run of a task."""
        self.ms.setdefault(task, []).append(ms)


@dataclass
class Browsing:
    """One client of one side, by the tools of that side."""

    call: Call
    ours: bool
    handle: str = ""

    async def ask(self, tool: str, **arguments: Any) -> CallToolResult:
        """Call a tool; a failure ends the benchmark."""
        if self.ours and tool not in ("browser_open", "browser_list"):
            arguments["handle"] = self.handle
        result = await self.call(tool, arguments)
        if result.is_error:
            raise RuntimeError(f"{'ours' if self.ours else 'peer'}: {tool}: {result.content}")
        return result

    async def open(self, url: str) -> None:
        """A new page at a URL."""
        if self.ours:
            result = await self.ask("browser_open", url=url)
            self.handle = str((result.structured_content or {})["handle"])
        else:
            await self.ask("browser_tabs", action="new", url=url)

    async def close(self) -> None:
        """Close what `open` opened."""
        if self.ours:
            await self.ask("browser_close")
        else:
            await self.ask("browser_tabs", action="close")

    async def picture(self) -> CallToolResult:
        """A picture of the window."""
        return await self.ask("browser_screenshot" if self.ours else "browser_take_screenshot")


@asynccontextmanager
async def client(url: str, *, ours: bool) -> AsyncIterator[Browsing]:
    """A client of one side."""
    mode = "2026-07-28" if ours else "legacy"
    async with (
        httpx2.AsyncClient(timeout=120) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as connected,
    ):

        async def call(tool: str, arguments: dict[str, Any]) -> CallToolResult:
            result = await connected.call_tool(tool, arguments)
            assert isinstance(result, CallToolResult)
            return result

        yield Browsing(call, ours)


@contextmanager
def both(folder: Path, host: str) -> Iterator[tuple[str, str]]:
    """Both servers; their URLs, ours first."""
    port, admin, peer = free_ports(3)
    env = {
        "PATH": os.environ["PATH"],
        "MCP_STANDALONE": "true",
        "MCP_PORT": str(port),
        "MCP_ADMIN_PORT": str(admin),
        "MCP_BROWSER_EXECUTABLE": program("chromium"),
        "MCP_BROWSER_ALLOW_HOSTS": host,
        "MCP_BROWSER_PAGES_PER_CLIENT": "50",
        "MCP_LOG_LEVEL": "warning",
    }
    command = (program("playwright-mcp"), "--headless", "--isolated", "--port", str(peer), "--no-sandbox")
    given = (
        "--host",
        "127.0.0.1",
        "--allowed-hosts",
        "*",
        "--executable-path",
        program("chromium"),
        "--output-dir",
        str(folder / "peer"),
    )
    with (
        process(
            [sys.executable, "-m", "services.browser"],
            f"http://127.0.0.1:{admin}/ready",
            folder / "ours.log",
            env,
            ready=True,
        ),
        process([*command, *given], f"http://127.0.0.1:{peer}/mcp", folder / "peer.log"),
    ):
        yield f"http://127.0.0.1:{port}/mcp", f"http://127.0.0.1:{peer}/mcp"


async def timed(times: Times, task: str, work: Awaitable[object]) -> object:
    """Do it and note how long it took."""
    began = time.perf_counter()
    result = await work
    times.add(task, 1000 * (time.perf_counter() - began))
    return result


async def one_round(times: Times, use: Browsing, url: Callable[[str], str]) -> None:
    """Each task once."""
    await timed(times, "open + navigate", use.open(url("/shop")))
    await timed(times, "navigate", use.ask("browser_navigate", url=url("/news")))
    await timed(times, "snapshot at once", use.ask("browser_snapshot"))
    await timed(times, "click", use.ask("browser_click", target="#press"))
    await timed(times, "screenshot", use.picture())
    await timed(times, "snapshot", use.ask("browser_snapshot"))
    await use.close()


def size_of(result: CallToolResult) -> int:
    """Bytes of an answer, as a model would get it: content, and facts beside it where they are not the content."""
    content = json.dumps([block.model_dump(mode="json", exclude_none=True) for block in result.content])
    return len(content.encode()) + len(json.dumps(result.structured_content or {}).encode())


async def sizes(times: Times, use: Browsing, url: Callable[[str], str]) -> None:
    """Bytes of the snapshot of each page, whole: all its parts."""
    for name in PAGES:
        await use.open(url(name))
        if not use.ours:
            times.bytes[name] = size_of(await use.ask("browser_snapshot"))
        offset: int | None = 0
        while use.ours and offset is not None:
            part = await use.ask("browser_snapshot", offset=offset)
            times.bytes[name] = times.bytes.get(name, 0) + size_of(part)
            offset = (part.structured_content or {})["next_offset"]
        await use.close()


async def in_parallel(address: str, page: str, *, ours: bool) -> tuple[float, int]:
    """Clients at once, each with a page of its own: seconds, and how many failed."""

    async def one() -> None:
        async with client(address, ours=ours) as use:
            await use.open(page)
            await use.ask("browser_snapshot")
            await use.close()

    began = time.perf_counter()
    ended = await asyncio.gather(*(one() for _ in range(PARALLEL)), return_exceptions=True)
    failed = [end for end in ended if isinstance(end, BaseException)]
    for end in failed[:1]:
        print(f"of {len(failed)} failures the first: {_innermost(end)}", file=sys.stderr)
    return time.perf_counter() - began, len(failed)


def _innermost(error: BaseException) -> BaseException:
    return _innermost(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def held(address: str, page: str, *, ours: bool) -> float:
    """MiB that each of some open pages takes, each a client's own."""
    before = memory_mib()
    async with AsyncExitStack() as stack:
        uses = [await stack.enter_async_context(client(address, ours=ours)) for _ in range(HELD)]
        for use in uses:
            await use.open(page)
        taken = (memory_mib() - before) / HELD
        for use in uses:
            with suppress(RuntimeError):
                await use.close()
    return taken


def memory_mib() -> float:
    """What all processes that this one started take, shared pages by share."""
    total = 0
    for found in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += found.memory_full_info().pss
    return total / (1 << 20)


def browsing(folder: Path, rounds: int) -> list[Row]:
    """Every figure, ours and the peer's."""
    with site() as made:
        made.pages.update(PAGES)
        with both(folder, made.host) as addresses:
            return asyncio.run(_figures(addresses, made.url, rounds))


async def _figures(addresses: tuple[str, str], url: Callable[[str], str], rounds: int) -> list[Row]:
    times = (Times(), Times())
    async with client(addresses[0], ours=True) as ours, client(addresses[1], ours=False) as peer:
        first = Times()
        await timed(first, "first", ours.open(url("/shop")))
        await ours.close()
        for turn in range(rounds + 1):
            for side, use in zip(times, (ours, peer), strict=True):
                await one_round(side if turn else Times(), use, url)
        for side, use in zip(times, (ours, peer), strict=True):
            await sizes(side, use, url)
    rows = [_row(task, *(side.ms[task] for side in times)) for task in times[0].ms]
    median = statistics.median(times[0].ms["open + navigate"])
    rows.append(("first page after ready / median", f"{first.ms['first'][0] / median:.2f}x"))
    rows += [
        (f"bytes of the snapshot of {name}, ours / peer", f"{a / b:.2f}x   {a} / {b}")
        for name, a, b in ((name, times[0].bytes[name], times[1].bytes[name]) for name in PAGES)
    ]
    for is_ours, address in zip((True, False), addresses, strict=True):
        seconds, failed = await in_parallel(address, url("/news"), ours=is_ours)
        each = await held(address, url("/news"), ours=is_ours)
        who = "ours" if is_ours else "peer"
        rows.append((f"{PARALLEL} clients at once, {who}", f"{seconds:.1f} s, {failed} failed"))
        rows.append((f"pages for each GB, {who}", f"{1024 / each:.0f} ({each:.0f} MiB each)"))
    return rows


def _row(task: str, ours: list[float], theirs: list[float]) -> Row:
    figures = " / ".join(f"{percentile(side, 0.5):.0f} (p95 {percentile(side, 0.95):.0f})" for side in (ours, theirs))
    return f"{task}, p50 ms, ours / peer", f"{percentile(ours, 0.5) / percentile(theirs, 0.5):.2f}x   {figures}"
