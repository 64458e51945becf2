"""The load of a chaos run: every call has an entry of its own, two endpoints to go to, and is kept with its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from tests.support.load import SERVER_INFO, body, headers

PAUSE_S = 0.01
CONNECT_S = 1.0
READ_S = 45.0
"""Longer than the gate waits for an instance (30 s): it is the gate that gives up."""
AVOID_S = 2.0
"""For so long a client leaves an endpoint alone that has failed it."""
NOT_SENT_ON = "not sent on"
MOST_CALLS = 100_000
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
NOT_READY = "404 page not found"
"""What Traefik answers between its first connection and the reading of its configuration: nothing was passed on."""

End = Literal["good", "refused", "lost"]


@dataclass(frozen=True)
class Sent:
    """A call that has ended.

    Args:
        entry: What it asked to be written, of its own.
        gate: The endpoint it went to.
        path: The path there.
        began_s: When it was sent, monotonic.
        ended_s: When it ended.
        end: `good`; `refused` with an answer that says so; `lost` without an answer.
        said: What was wrong, or the instance that answered.
        version: Of the service, "" where unknown.
        echoed: The entry as the answer has it.
    """

    entry: str
    gate: str
    path: str
    began_s: float
    ended_s: float
    end: End
    said: str = ""
    version: str = ""
    echoed: str = ""


@dataclass(frozen=True)
class Note:
    """How a call has its entry written.

    Args:
        tool: The tool.
        arguments: Of the call that writes an entry.
        read: From what the tool answers: who has written it, "" where it does not say, and the entry.
    """

    tool: str
    arguments: Callable[[str], Mapping[str, object]]
    read: Callable[[Mapping[str, Any]], tuple[str, str]]


@dataclass
class Caller:
    """Clients that call without a pause worth the name.

    Args:
        gates: Their endpoints; one that cannot be connected to, or is not ready, is left for the other.
        paths: Taken in turn.
        note: How entries are written.
        key: An API key that is good.
        bad_key: One that is not: each call with it must be refused and never run.
        name: Begins every entry.
        trust: Whom they trust.
    """

    gates: Sequence[str]
    paths: Sequence[str]
    note: Note
    key: str
    bad_key: str
    name: str
    trust: ssl.SSLContext
    sent: list[Sent] = field(default_factory=list)
    intruded: list[Sent] = field(default_factory=list)
    _connected: int = 0
    _failed_at: dict[str, float] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)

    @contextlib.asynccontextmanager
    async def running(self, workers: int = 6) -> AsyncIterator[Caller]:
        """Call for the length of the block; at its end every call begun is awaited."""
        going = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(workers):
                tasks.create_task(self._work(going, number))
            tasks.create_task(self._intrude(going))
            try:
                yield self
            finally:
                going.set()

    def good_since(self, since_s: float) -> int:
        """How many calls were begun since then and answered well."""
        return sum(call.end == "good" and call.began_s >= since_s for call in reversed(self.sent))

    def reconnect(self) -> None:
        """Have every client leave its connections after the call it makes, and make new ones."""
        self._connected += 1

    async def herd(self, many: int) -> None:
        """So many more calls at once."""
        async with self._client() as client:
            await asyncio.gather(*(self._call(client, number) for number in range(many)))

    async def _work(self, ended: asyncio.Event, number: int) -> None:
        while not ended.is_set() and len(self.sent) < MOST_CALLS:
            connected = self._connected
            async with self._client() as client:
                while connected == self._connected and not ended.is_set() and len(self.sent) < MOST_CALLS:
                    await self._call(client, number)
                    await asyncio.sleep(PAUSE_S)

    async def _intrude(self, ended: asyncio.Event) -> None:
        async with self._client() as client:
            while not ended.is_set():
                entry = f"{self.name}-intruder-{next(self._numbers)}"
                self.intruded.append(await self._ask(client, self.gates[0], self.paths[0], entry, self.bad_key))
                await asyncio.sleep(20 * PAUSE_S)

    async def _call(self, client: httpx.AsyncClient, number: int) -> None:
        at = next(self._numbers)
        entry, path = f"{self.name}-{at}", self.paths[at % len(self.paths)]
        done: Sent | None = None
        for gate in self._in_order(number):
            done = await self._ask(client, gate, path, entry, self.key)
            if done.end != "good":
                self._failed_at[gate] = time.monotonic()
            if not done.said.startswith(NOT_SENT_ON):
                break
        assert done
        self.sent.append(done)

    def _in_order(self, number: int) -> list[str]:
        """A client's own endpoint first, unless it has failed somebody lately."""
        mine = number % len(self.gates)
        now = time.monotonic()
        order = [*self.gates[mine:], *self.gates[:mine]]
        return sorted(order, key=lambda gate: now - self._failed_at.get(gate, 0.0) < AVOID_S)

    async def _ask(self, client: httpx.AsyncClient, gate: str, path: str, entry: str, key: str) -> Sent:
        tool = self.note.tool
        asked = body("tools/call", {"name": tool, "arguments": self.note.arguments(entry)})
        began_s = time.monotonic()
        try:
            answer = await client.post(gate + path, json=asked, headers=headers(key, "tools/call", tool))
            if answer.status_code == 404 and answer.text.strip() == NOT_READY:
                return Sent(entry, gate, path, began_s, time.monotonic(), "refused", f"{NOT_SENT_ON}: {NOT_READY}")
            said: dict[str, Any] = answer.json()
        except NOT_SENT as error:
            return Sent(entry, gate, path, began_s, time.monotonic(), "lost", f"{NOT_SENT_ON}: {type(error).__name__}")
        except (httpx.HTTPError, ValueError) as error:
            return Sent(entry, gate, path, began_s, time.monotonic(), "lost", f"{type(error).__name__} {error}")
        ended_s = time.monotonic()
        result = said.get("result") or {}
        version = str(((result.get("_meta") or {}).get(SERVER_INFO) or {}).get("version", ""))
        if answer.status_code != 200 or result.get("isError") is not False:
            why = f"{answer.status_code} {answer.text[:200]}"
            return Sent(entry, gate, path, began_s, ended_s, "refused", why, version)
        who, noted = self.note.read(result["structuredContent"])
        return Sent(entry, gate, path, began_s, ended_s, "good", who, version, noted)

    def _client(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
        return httpx.AsyncClient(timeout=timeout, trust_env=False, verify=self.trust)
