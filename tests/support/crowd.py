"""A crowd of official clients, half of each era or all of one, that call without a pause; every answer is kept."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import mcp

from tests.support.sdk import ERAS, Answer, asked, sdk_client

MORE_S = 90.0
MOST_CALLS = 20_000


@dataclass(frozen=True)
class Called:
    """A call that has been answered."""

    speaker: str
    mode: str
    tool: str
    arguments: dict[str, Any]
    answer: Answer
    took_s: float


@dataclass
class Speaker:
    """One client of the crowd.

    Args:
        name: Unique in the crowd.
        mode: One of `ERAS`.
        client: Connected.
        calls: Where its calls are kept, in the crowd's order.
        memory: Whatever a turn wants to remember for the next.
    """

    name: str
    mode: str
    client: mcp.Client
    calls: list[Called]
    memory: dict[str, str] = field(default_factory=dict)
    good: int = 0
    asking: tuple[str, dict[str, Any]] | None = None
    _asked_s: float = 0.0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def entry(self) -> str:
        """A text that nobody has used before."""
        return f"{self.name}-{next(self._numbers)}"

    async def call(self, tool: str, **arguments: Any) -> Answer:
        """Call once and keep the answer."""
        self._ask(tool, arguments)
        answer = await asked(self.client, tool, arguments)
        self._keep(answer)
        return answer

    async def lists(self) -> set[str]:
        """Ask for the list of tools, past every cache of the client's, and keep it as an answer."""
        self._ask("tools/list", {})
        try:
            listed = await self.client.list_tools(cache_mode="bypass")
        except mcp.MCPError as error:
            self._keep(Answer(code=error.error.code, message=error.error.message))
            return set()
        names = {tool.name for tool in listed.tools}
        self._keep(Answer(result={"names": sorted(names)}))
        return names

    def hung_up_on(self) -> None:
        """The connection broke: instead of an answer, if one was awaited."""
        if self.asking:
            self._keep(Answer(hung_up=True))

    def _ask(self, tool: str, arguments: dict[str, Any]) -> None:
        self.asking, self._asked_s = (tool, arguments), time.monotonic()

    def _keep(self, answer: Answer) -> None:
        assert self.asking
        took_s = time.monotonic() - self._asked_s
        self.calls.append(Called(self.name, self.mode, *self.asking, answer, took_s))
        self.asking, self.good = None, self.good + answer.ok


Turn = Callable[[Speaker], Awaitable[None]]


class Crowd:
    """Clients that take turns of their own, each one call after the other.

    Args:
        url: The endpoint.
        keys: An API key per speaker.
        turn: What a speaker does again and again.
        modes: Their eras, in turn.
    """

    def __init__(self, url: str, keys: Sequence[str], turn: Turn, modes: Iterable[str] = ERAS) -> None:
        self._url = url
        self._keys = keys
        self._turn = turn
        self._modes = tuple(modes)
        self._going = True
        self.speakers: list[Speaker] = []
        self.calls: list[Called] = []

    def failed(self) -> list[Called]:
        """Calls that were not answered well."""
        return [call for call in self.calls if not call.answer.ok]

    @contextlib.asynccontextmanager
    async def speaking(self) -> AsyncIterator[Crowd]:
        """They call for the length of the block; at its end every call begun is awaited."""
        async with asyncio.TaskGroup() as tasks:
            for number, (key, mode) in enumerate(zip(self._keys, itertools.cycle(self._modes), strict=False)):
                tasks.create_task(self._speak(f"s{number}", key, mode))
            try:
                await self.more(2)
                yield self
            finally:
                self._going = False

    async def more(self, each: int) -> None:
        """Wait until every speaker has got so many more good answers."""
        async with asyncio.timeout(MORE_S):
            while len(self.speakers) < len(self._keys):
                await asyncio.sleep(0.02)
            wanted = {speaker.name: speaker.good + each for speaker in self.speakers}
            while any(speaker.good < wanted[speaker.name] for speaker in self.speakers):
                await asyncio.sleep(0.02)

    async def _speak(self, name: str, key: str, mode: str) -> None:
        speaker: Speaker | None = None
        while self._going:
            try:
                async with sdk_client(self._url, key, mode) as client:
                    await client.list_tools()
                    if speaker is None:
                        speaker = Speaker(name, mode, client, self.calls)
                        self.speakers.append(speaker)
                    speaker.client = client
                    while self._going and len(self.calls) < MOST_CALLS:
                        await self._turn(speaker)
            except* (httpx2.RemoteProtocolError, mcp.MCPError):  # the SDK's client does not outlive it: a new one
                if speaker is None:
                    raise
                speaker.hung_up_on()


@contextlib.contextmanager
def clients(environment: Any, *names: str, **wish: object) -> Iterator[dict[str, str]]:
    """Clients of the platform, made and removed by the operators' API; their keys by their names."""
    token = {"Authorization": f"Bearer {environment.operator_token}"}
    with httpx.Client(base_url=environment.control_plane_url, headers=token, timeout=30) as http:
        try:
            keys = {}
            for name in names:
                http.post("/v1/clients", json={"id": name, "reason": "test", **wish}).raise_for_status()
                made = http.post(f"/v1/clients/{name}/keys", json={"reason": "test"}).raise_for_status().json()
                assert made["in_force"], made
                keys[name] = made["key"]
            yield keys
        finally:
            for name in names:
                http.delete(f"/v1/clients/{name}", params={"reason": "test"})
