"""Calls of several tools without a pause through several gates, each kept with its time, version and end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from tests.support.load import answered, body, headers

MOST_CALLS = 200_000
Arguments = dict[str, object]


@dataclass(frozen=True)
class Call:
    """One call that has ended; times monotonic, `version` "" where the answer does not tell."""

    began_s: float
    ended_s: float
    tool: str
    version: str
    problem: str


@dataclass
class Calls:
    """All calls of a run.

    Args:
        urls: Endpoints, taken in turn.
        key: An API key.
        tools: Arguments by tool, taken in turn.
    """

    urls: Sequence[str]
    key: str
    tools: Mapping[str, Arguments]
    made: list[Call] = field(default_factory=list)

    @property
    def failed(self) -> list[Call]:
        """Calls that were not answered well."""
        return [call for call in self.made if call.problem]

    def of(self, version: str) -> list[Call]:
        """Calls that a version answered, well or not."""
        return [call for call in self.made if call.version == version]

    @contextlib.asynccontextmanager
    async def running(self, workers: int = 4) -> AsyncIterator[Calls]:
        """Call for the length of a block; at its end every call begun is awaited."""
        going = True
        turns = itertools.cycle(itertools.product(self.urls, self.tools.items()))

        async def work() -> None:
            async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
                while going and len(self.made) < MOST_CALLS:
                    url, (tool, arguments) = next(turns)
                    self.made.append(await self._call(client, url, tool, arguments))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(work())
            try:
                yield self
            finally:
                going = False

    async def _call(self, client: httpx.AsyncClient, url: str, tool: str, arguments: Arguments) -> Call:
        began_s = time.monotonic()
        asked = body("tools/call", {"name": tool, "arguments": arguments})
        version, problem = await answered(client, url, asked, headers(self.key, "tools/call", tool))
        return Call(began_s, time.monotonic(), tool, version, problem)
