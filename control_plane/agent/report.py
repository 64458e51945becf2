"""Tells the control plane what this gate has in force, under a session that dies with the agent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from control_plane.errors import Unavailable
from control_plane.gates import GATES_PREFIX
from control_plane.model import GateReport
from control_plane.ports import Desk

log = logging.getLogger(__name__)

RETRY_S = 0.25


@dataclass(frozen=True)
class Report:
    """What a gate has to say: see :class:`control_plane.model.GateReport`."""

    epoch: int
    number: int
    problems: tuple[str, ...] = ()
    revoked: Mapping[str, int] = field(default_factory=dict)


class Reporter:
    """Keeps ``tekup/gates/<id>`` true.

    Args:
        consul: Where the report lies.
        gate: This gate's id.
        ttl_s: How long after its last sign of life Consul gives the gate up.
    """

    def __init__(self, consul: Desk, gate: str, ttl_s: int) -> None:
        self._consul = consul
        self._gate = gate
        self._ttl_s = ttl_s
        self._wanted: Report | None = None
        self._said: Report | None = None
        self._written = b""
        self._news = asyncio.Event()

    def say(self, report: Report) -> None:
        """Report this from now on."""
        self._wanted = report
        if self._wanted != self._said:
            self._news.set()

    async def run(self) -> None:
        """Report for ever; a new session is opened whenever the old one is gone."""
        while True:
            try:
                session = await self._consul.open_session(f"gate {self._gate}", self._ttl_s)
                self._said = None
                await self._report(session)
            except Unavailable as error:
                log.warning("report.unavailable", extra={"why": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _report(self, session: str) -> None:
        try:
            while True:
                self._news.clear()
                if self._wanted != self._said:
                    await self._write(session)
                try:
                    async with asyncio.timeout(self._ttl_s / 3):
                        await self._news.wait()
                except TimeoutError:
                    if not await self._consul.renew_session(session):
                        return
                    await self._look_again()
        except asyncio.CancelledError:
            await self._close(session)
            raise

    async def _write(self, session: str) -> None:
        wanted = self._wanted
        if wanted is None:
            return
        report = GateReport(id=self._gate, at=time.time(), **asdict(wanted))
        if await self._consul.lock(GATES_PREFIX + self._gate, report.to_bytes(), session):
            self._said, self._written = wanted, report.to_bytes()
            return
        await self._evict_predecessor()

    async def _look_again(self) -> None:
        """Forget what was said if the store has: a restored one shows the report of then."""
        entry = (await self._consul.read(GATES_PREFIX + self._gate)).entries.get("")
        if entry is None or entry.value != self._written:
            self._said = None

    async def _evict_predecessor(self) -> None:
        # The folder's lock says that no other agent of this gate lives, so whoever holds the report is our own past.
        entry = (await self._consul.read(GATES_PREFIX + self._gate)).entries.get("")
        if entry and entry.session:
            await self._consul.close_session(entry.session)
        self._news.set()

    async def _close(self, session: str) -> None:
        try:
            async with asyncio.timeout(1):
                await self._consul.close_session(session)
        except (Unavailable, TimeoutError):
            log.warning("report.session_left_open", extra={"gate": self._gate})
