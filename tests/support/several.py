"""A client that knows several endpoints of one environment: a constant, counted load, each call with its end.

What could not be connected is asked of the next endpoint, since nobody has it yet; what was sent is never sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.load import body, headers

CONNECT_S = 2.0
ANSWER_S = 45.0
AVOIDED_S = 5.0
"""An endpoint that could not be connected is the last to be tried for so long."""
MOST_CALLS = 100_000


@dataclass(frozen=True)
class Asked:
    """One kind of call."""

    name: str
    method: str
    params: dict[str, object]

    @classmethod
    def tool(cls, name: str, **arguments: object) -> Asked:
        """A call of a tool."""
        return cls(name, "tools/call", {"name": name, "arguments": arguments})

    def good(self, result: dict[str, Any]) -> bool:
        """Whether this is its answer."""
        return bool(result.get("tools")) if self.method == "tools/list" else result.get("isError") is False


@dataclass(frozen=True)
class Ended:
    """A call that has ended; times monotonic, `endpoint` where it was sent last, `problem` "" when it was answered."""

    began_s: float
    ended_s: float
    name: str
    endpoint: int
    problem: str


class _ByName(httpx.AsyncHTTPTransport):
    """Asks an address by the name that its certificate is for."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": "localhost"}
        return await super().handle_async_request(request)


@dataclass
class Several:
    """A constant load.

    Args:
        urls: Base URLs of the endpoints.
        key: An API key.
        trust: Whom to trust.
        calls: Taken in turn.
        per_second: How many calls begin each second.
    """

    urls: Sequence[str]
    key: str
    trust: ssl.SSLContext
    calls: Sequence[Asked]
    per_second: float
    ended: list[Ended] = field(default_factory=list)
    _shunned: dict[int, float] = field(default_factory=dict)

    @property
    def lost(self) -> list[Ended]:
        """Calls that nobody answered well."""
        return [one for one in self.ended if one.problem]

    def since(self, began_s: float) -> list[Ended]:
        """Those that began at a time or later."""
        return [one for one in self.ended if one.began_s >= began_s]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Several]:
        """Call for the length of the block; at its end every call begun is awaited."""
        over = asyncio.Event()
        transport = _ByName(verify=self.trust, limits=httpx.Limits(max_connections=200))
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        async with httpx.AsyncClient(transport=transport, timeout=timeout) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._begin(client, tasks, over))
            try:
                yield self
            finally:
                over.set()

    async def _begin(self, client: httpx.AsyncClient, tasks: asyncio.TaskGroup, over: asyncio.Event) -> None:
        """One call after another begins, whether or not those before have ended."""
        turns = itertools.cycle(self.calls)
        due_s = time.monotonic()
        for number in range(MOST_CALLS):
            tasks.create_task(self._call(client, next(turns), number))
            due_s += 1 / self.per_second
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), max(0.0, due_s - time.monotonic()))
            if over.is_set():
                return

    async def _call(self, client: httpx.AsyncClient, asked: Asked, number: int) -> None:
        began_s = time.monotonic()
        endpoint, problem = await self._somewhere(client, asked, number)
        self.ended.append(Ended(began_s, time.monotonic(), asked.name, endpoint, problem))

    async def _somewhere(self, client: httpx.AsyncClient, asked: Asked, number: int) -> tuple[int, str]:
        order = [(number + turn) % len(self.urls) for turn in range(len(self.urls))]
        now_s = time.monotonic()
        order.sort(key=lambda at: self._shunned.get(at, 0) > now_s)
        for at in order:
            try:
                return at, await self._ask(client, self.urls[at], asked)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._shunned[at] = time.monotonic() + AVOIDED_S
            except (httpx.HTTPError, ValueError) as error:
                return at, f"{type(error).__name__} {error}"
        return order[-1], "no endpoint could be connected"

    async def _ask(self, client: httpx.AsyncClient, url: str, asked: Asked) -> str:
        name = str(asked.params.get("name", ""))
        sent = {**headers(self.key, asked.method, name), "Host": "localhost"}
        answer = await client.post(f"{url}/mcp", json=body(asked.method, asked.params), headers=sent)
        result: dict[str, Any] = answer.json().get("result") or {}
        good = answer.status_code == 200 and asked.good(result)
        return "" if good else f"{answer.status_code} {answer.text[:200]}"
