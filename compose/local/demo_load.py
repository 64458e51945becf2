"""A small steady load on one service through the gate, by the official SDK client; every call is counted."""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx2
from mcp import MCPError
from mcp.types import CallToolResult

from .first_call import client_of
from .served import Target

__all__ = ["Ask", "Counted", "loaded"]

CALLERS = 4
PAUSE_S = 0.02
AGAIN_S = 0.5
SERVER = "io.modelcontextprotocol/serverInfo"


@dataclass(frozen=True)
class Ask:
    """What is called over and over."""

    service: str
    tool: str
    arguments: Mapping[str, object]


@dataclass
class Counted:
    """Calls so far, by the version that answered ("" for none) and whether they were answered well."""

    calls: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def of(self, version: str) -> tuple[int, int]:
        """Calls that a version answered, and how many of them failed."""
        failed = self.calls[version, False]
        return self.calls[version, True] + failed, failed

    @property
    def total(self) -> int:
        """All calls."""
        return sum(self.calls.values())


@contextlib.contextmanager
def loaded(target: Target, ask: Ask) -> Iterator[Counted]:
    """Keep a service under load, in a thread, while the block runs."""
    counted, stop = Counted(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_callers(target, ask, counted, stop)), daemon=True)
    thread.start()
    try:
        yield counted
    finally:
        stop.set()
        thread.join(30)


async def _callers(target: Target, ask: Ask, counted: Counted, stop: threading.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CALLERS):
            tasks.create_task(_caller(target, ask, counted, stop))


async def _caller(target: Target, ask: Ask, counted: Counted, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            async with client_of(target, ask.service) as client:
                while not stop.is_set():
                    began = time.monotonic()
                    result = await client.call_tool(ask.tool, dict(ask.arguments))
                    counted.calls[_version(result), not result.is_error] += 1
                    await asyncio.sleep(max(0.0, PAUSE_S - (time.monotonic() - began)))
        except (MCPError, httpx2.HTTPError, OSError, BaseExceptionGroup):
            counted.calls["", False] += 1
            await asyncio.sleep(AGAIN_S)


def _version(result: CallToolResult) -> str:
    return str(((result.meta or {}).get(SERVER) or {}).get("version", ""))
