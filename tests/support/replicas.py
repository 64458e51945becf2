"""Replicas of the control plane as processes of their own, each with its own line to Consul, and a gate that obeys."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from control_plane.agent.report import Report, Reporter
from control_plane.consul import Consul
from control_plane.kept import AUDIT_PREFIX, HISTORY_PREFIX, REVISION_KEY
from control_plane.leadership import LEADER_KEY
from control_plane.model import HistoryRecord, Replica, Revision
from control_plane.watch import WATCH_S, follow
from tests.support.consul_process import ConsulProcess
from tests.support.cut import Cut, cut_proxy
from tests.support.ports import free_ports
from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]
TOKEN = "operator-of-the-test"
NAMES = ("one", "two", "three")
TAKEOVER_S = 20.0
"""Another replica must lead within this after whatever happened to the leader."""
PATIENCE_S = 40.0
"""The most that an answer may take: see `control_plane.api.forward`."""
NOBODY = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass
class Member:
    """One replica.

    Args:
        cut: Its line to Consul.
        folder: Where its log and the operator's token lie.
    """

    name: str
    port: int
    cut: Cut
    folder: Path
    ttl_s: int
    settings: dict[str, str] = field(default_factory=dict)
    source: Path = ROOT
    """Whose source it runs; another version's, where told."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has said so far, over all its lives."""
        return (self.folder / f"{self.name}.log").read_text()

    def start(self) -> None:
        """Start it; does not wait."""
        env = {
            "PATH": os.environ["PATH"],
            "MCP_CONSUL_URL": self.cut.url,
            "MCP_PORT": str(self.port),
            "MCP_REPLICA": self.name,
            "MCP_SESSION_TTL_S": str(self.ttl_s),
            "MCP_OPERATOR_TOKEN_FILE": str(self.folder / "operator.token"),
            **self.settings,
        }
        with (self.folder / f"{self.name}.log").open("ab") as log:
            command = [sys.executable, "-m", "control_plane"]
            self.process = subprocess.Popen(command, env=env, cwd=self.source, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        assert self.process, f"{self.name} does not run"
        self.process.send_signal(number)


@dataclass
class Crew:
    """All replicas over one Consul.

    Args:
        server: The Consul they meet in.
        consul: The test's own line to it, which is never cut.
        members: The replicas by name.
    """

    server: ConsulProcess
    consul: Consul
    members: dict[str, Member]
    http: httpx.AsyncClient
    _turns: itertools.count[int] = field(default_factory=itertools.count)

    def start(self, name: str) -> None:
        """Start a replica that does not run."""
        self.members[name].start()

    async def stop(self, name: str) -> None:
        """End a replica in order."""
        await self._end(name, signal.SIGTERM)

    async def kill(self, name: str) -> None:
        """End a replica at once."""
        await self._end(name, signal.SIGKILL)

    def freeze(self, name: str) -> None:
        """Stop a replica's time; its connections stay open."""
        self.members[name].send(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen replica go on as if nothing had been."""
        self.members[name].send(signal.SIGCONT)

    def cut(self, name: str) -> None:
        """Let nothing through between a replica and Consul; it still serves and is reached."""
        self.members[name].cut.cut()

    def heal(self, name: str) -> None:
        """Undo a cut; what was on its way arrives now."""
        self.members[name].cut.heal()

    async def _end(self, name: str, number: signal.Signals) -> None:
        member = self.members[name]
        assert member.process, f"{name} does not run"
        member.process.send_signal(number)
        await asyncio.to_thread(member.process.wait, 30)
        member.process = None

    async def leader(self) -> str | None:
        """Who leads as Consul has it, None while nobody does."""
        entry = (await self.consul.read(LEADER_KEY)).entries.get("")
        return Replica.parse(entry.value, LEADER_KEY).replica if entry and entry.session else None

    async def until_led(self, *, but: str = "", within_s: float = TAKEOVER_S) -> str:
        """Wait until somebody leads, and not ``but``; returns who."""

        async def other() -> str | None:
            name = await self.leader()
            return None if name == but else name

        return await eventually(other, f"a leader other than {but!r}" if but else "a leader", within_s)

    async def until_written_down(self) -> None:
        """Wait until the audit trail has the whole history: the next write is then one that was asked for."""

        async def all_of_them() -> bool:
            trail = await self.consul.read(AUDIT_PREFIX)
            told = [entry for entry in trail.entries.values() if json.loads(entry.value)["record"]]
            return len(told) >= len(await self.records())

        await eventually(all_of_them, "the audit trail to have the whole history", 30)

    async def until_all_stand(self, within_s: float = TAKEOVER_S) -> None:
        """Wait until each replica that runs answers, names the same leader, and is it or stands by."""

        async def agreed() -> bool:
            leader = await self.leader()
            seen = [await self.status(name) for name, member in self.members.items() if member.process]
            return bool(leader) and all(
                one and one["leader"] == leader and one["leading"] is (one["replica"] == leader) for one in seen
            )

        await eventually(agreed, "every replica to stand by the same leader", within_s)

    async def status(self, name: str) -> dict[str, object] | None:
        """What a replica says of itself; None if it does not answer, or not well."""
        with contextlib.suppress(httpx.TransportError):
            answer = await self.ask("GET", "/v1/status", of=name)
            shown: dict[str, object] = answer.json()
            return shown if answer.is_success else None
        return None

    async def ask(self, method: str, path: str, body: object = None, *, of: str = "") -> httpx.Response:
        """Ask a replica, or each time the next of those that listen.

        Raises:
            httpx.TransportError: It did not answer; with several, none listens.
        """
        names = [of] if of else self._in_turn()
        for name in names[:-1]:
            with contextlib.suppress(*NOBODY):
                return await self._ask(name, method, path, body)
        return await self._ask(names[-1], method, path, body)

    async def _ask(self, name: str, method: str, path: str, body: object) -> httpx.Response:
        return await self.http.request(method, self.members[name].url + path, json=body)

    def _in_turn(self) -> list[str]:
        names = list(self.members)
        first = next(self._turns) % len(names)
        return names[first:] + names[:first]

    async def records(self) -> list[HistoryRecord]:
        """The history as Consul has it."""
        listing = await self.consul.read(HISTORY_PREFIX)
        return [HistoryRecord.parse(entry.value, key) for key, entry in sorted(listing.entries.items())]


class ObedientAgent:
    """Reports each revision as in force as soon as it is written; takes up its work again after any outage.

    Args:
        consul: Where revisions come from and reports go.
        gate: The gate it stands for.
    """

    def __init__(self, consul: Consul, gate: str = "gate-1") -> None:
        self._consul = consul
        self._reporter = Reporter(consul, gate, 5)
        self._reporter.say(Report(0, 0))

    async def run(self) -> None:
        """Report for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reporter.run())
            tasks.create_task(follow(self._read, "revision"))

    async def _read(self, after: int) -> int:
        listing = await self._consul.read(REVISION_KEY, after=after, wait_s=WATCH_S)
        if "" in listing.entries:
            revision = Revision.parse(listing.entries[""].value, REVISION_KEY)
            self._reporter.say(Report(revision.epoch, revision.number))
        return listing.index


@contextlib.asynccontextmanager
async def replicas(
    server: ConsulProcess, folder: Path, *, ttl_s: int = 5, mirrors: bool = False
) -> AsyncIterator[Crew]:
    """Three replicas with a gate, led and with an empty policy.

    Args:
        server: A Consul of the test's own.
        folder: For logs and the token.
        ttl_s: How long a replica's session lives at least without a sign of life.
        mirrors: Each replica keeps a git mirror while it leads, in a folder of its own below `mirrors`.
    """
    (folder / "operator.token").write_text(TOKEN)
    async with contextlib.AsyncExitStack() as stack:
        consul = await stack.enter_async_context(Consul(server.url))
        http = await stack.enter_async_context(
            httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"})
        )
        members = {}
        for name, port in zip(NAMES, free_ports(len(NAMES)), strict=True):
            cut = await stack.enter_async_context(cut_proxy(server.url))
            own = {"MCP_GIT_MIRROR": str(folder / "mirrors" / name)} if mirrors else {}
            members[name] = Member(name, port, cut, folder, ttl_s, own)
        crew = Crew(server, consul, members, http)
        agent = asyncio.create_task(ObedientAgent(consul).run())
        try:
            for name in members:
                crew.start(name)
            await _begun(crew)
            yield crew
        finally:
            _end(crew)
            agent.cancel()
            await asyncio.wait([agent])


async def _begun(crew: Crew) -> None:
    await crew.until_led(within_s=60)
    await crew.until_all_stand(60)

    async def initialised() -> bool:
        return (await crew.ask("POST", "/v1/init", {})).is_success

    await eventually(initialised, "an empty policy", 30)


def _end(crew: Crew) -> None:
    for member in crew.members.values():
        if member.process:
            member.process.kill()
            member.process.wait()
