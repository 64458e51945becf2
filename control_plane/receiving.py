"""The verbs on receivers: checked by Alertmanager's own tool before they are written, live when it has them."""

from __future__ import annotations

import asyncio
import re
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import httpx

from control_plane import tools
from control_plane.desired import Documents
from control_plane.errors import Conflict, Refused, Unavailable
from control_plane.model import Change, Table
from control_plane.outcome import Outcome, Wish
from control_plane.page import Page, found
from control_plane.receivers import MOST, TEST_ALERT, Delivered, Receiver, merged
from control_plane.state import CarryOut

LIVE_WITHIN_S = 10.0
TEST_WITHIN_S = 15.0
LOOK_S = 0.25
TOOL_S = 20.0
TIMEOUT_S = 5.0
LIVES_S = 60
"""How long a test alert is said to hold."""
BASE = """
route: {receiver: platform, routes: [{receiver: platform, matchers: [alertname="Watchdog"]}]}
receivers: [{name: platform}]
"""
"""What stands in for the platform's own configuration where receivers are checked."""
CHECKING = re.compile(r"^Checking '[^']*'\s+FAILED:", re.MULTILINE)
COUNTED = re.compile(
    r"^alertmanager_notification(s_failed|_requests|_requests_failed)_total\{([^}]*)\} (\S+)$", re.MULTILINE
)


class Checks(Protocol):
    """Whoever knows what Alertmanager takes."""

    async def problem_of(self, receivers: Sequence[Receiver]) -> str:
        """What is wrong with some receivers, "" if nothing is."""
        ...


@dataclass(frozen=True)
class Amtool:
    """Alertmanager's own parser, as a program.

    Args:
        program: Where it lies.
    """

    program: Path

    async def problem_of(self, receivers: Sequence[Receiver]) -> str:
        """What is wrong with some receivers, in the program's own words; "" if nothing is.

        Raises:
            Unavailable: The program cannot be run.
        """
        with tempfile.TemporaryDirectory(prefix="tekup-receivers-") as name:
            folder = Path(name)
            for secret in {secret for one in receivers for secret in one.secrets}:
                (folder / secret).write_text("http://secret.invalid/", "utf-8")
            (folder / "alertmanager.yml").write_text(merged(BASE, receivers, name), "utf-8")
            said = await tools.run(
                self.program, "check-config", "alertmanager.yml", hint="see MCP_AMTOOL", within_s=TOOL_S, folder=folder
            )
        if not said.code:
            return ""
        text = said.out.decode(errors="replace").replace(f"{name}/", "")
        return " ".join(CHECKING.sub("", text).split()) or "amtool refuses it without a word"


@dataclass
class Receivers:
    """The receivers of operators.

    Args:
        carry_out: Makes a change.
        amtool: Checks them; without one none is taken.
        url: Of Alertmanager, "" where there is none.
    """

    carry_out: CarryOut
    amtool: Checks | None = None
    url: str = ""
    _tests: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refuse_broken(self, changes: Sequence[Change]) -> None:
        """Refuse receivers among changed documents that Alertmanager would not take.

        Raises:
            Refused: Naming them, and what is wrong.
            Unavailable: Nobody can tell.
        """
        wanted = [
            Receiver.parse(change.after, change.key)
            for change in changes
            if change.key.startswith(Table.RECEIVERS.prefix) and change.after is not None
        ]
        if not wanted:
            return
        if self.amtool is None:
            raise Refused("receivers cannot be checked: this control plane has no amtool; name it by MCP_AMTOOL")
        if problem := await self.amtool.problem_of(wanted):
            raise Refused(f"receivers {', '.join(one.name for one in wanted)}: {problem}")

    async def put(self, receiver: Receiver, wish: Wish, *, add: bool) -> Outcome:
        """Make a receiver what is wanted; `add`: only where there is none of its name that differs."""

        def change(page: Page) -> Documents:
            there = page.find(Table.RECEIVERS, receiver.name, Receiver)
            if add and there not in (None, receiver):
                raise Conflict(f"receiver {receiver.name} exists and is another; replace it with --replace")
            if there is None and len(page.tables[Table.RECEIVERS]) >= MOST:
                raise Refused(f"there are {MOST} receivers, and no more may be; remove one first")
            return {(Table.RECEIVERS, receiver.name): receiver}

        return await self.carry_out("receiver.set", wish, change, rights=False)

    async def remove(self, name: str, wish: Wish) -> Outcome:
        """Remove a receiver."""

        def change(page: Page) -> Documents:
            found(page.find(Table.RECEIVERS, name, Receiver), f"receiver {name}")
            return {(Table.RECEIVERS, name): None}

        return await self.carry_out("receiver.remove", wish, change, rights=False)

    async def live(self, receivers: Sequence[Receiver]) -> Mapping[str, str]:
        """How Alertmanager has each of some receivers: `live`, `older`, `not loaded`, or why it is not known."""
        try:
            listed = await self._get("/api/v2/receivers")
            names = {str(one["name"]) for one in listed.json()}
        except (Refused, Unavailable) as error:
            return {one.name: str(error) for one in receivers}
        except (ValueError, LookupError, TypeError):
            return {one.name: f"Alertmanager at {self.url} answered nonsense" for one in receivers}
        older = {name.partition("@")[0] for name in names}
        return {
            one.name: "live"
            if one.called in names
            else "older"
            if one.called.partition("@")[0] in older
            else "not loaded"
            for one in receivers
        }

    async def until_live(self, receiver: Receiver, within_s: float = LIVE_WITHIN_S) -> str:
        """Wait until Alertmanager has taken a receiver up, or time is up.

        Returns:
            How it has it.
        """
        end = time.monotonic() + within_s
        while True:
            health = (await self.live([receiver]))[receiver.name]
            if health == "live" or time.monotonic() > end:
                return health
            await asyncio.sleep(LOOK_S)

    async def test(self, receiver: Receiver, author: str, within_s: float = TEST_WITHIN_S) -> Delivered:
        """Have Alertmanager send a receiver a message that nobody else gets, and see whether it arrived.

        Args:
            receiver: Whom.
            author: Who asks; stands in the message.
            within_s: How long to wait for its arrival.

        Raises:
            Refused: There is no Alertmanager, or it does not know the receiver.
            Unavailable: It does not answer.
        """
        async with self._tests:  # so that what is counted is this one
            if (health := (await self.live([receiver]))[receiver.name]) != "live":
                raise Refused(f"receiver {receiver.name} is not live at Alertmanager: {health}")
            before = await self._counted(receiver)
            await self._post_alert(receiver, author)
            end = time.monotonic() + within_s
            while True:
                now = await self._counted(receiver)
                gone = {name: now[name] - before[name] for name in now}
                if gone["_requests"] > gone["_requests_failed"]:
                    return Delivered(delivered=True)
                if gone["s_failed"] or time.monotonic() > end:
                    lost = "Alertmanager could not deliver it; its log says why"
                    return Delivered(
                        delivered=False, why=lost if gone["_requests_failed"] else f"not sent within {within_s:.0f} s"
                    )
                await asyncio.sleep(LOOK_S)

    async def _counted(self, receiver: Receiver) -> dict[str, float]:
        """How often a receiver was told, how often in vain, and how often it was given up."""
        text = (await self._get("/metrics")).text
        mine = f'receiver_name="{receiver.called}"'
        counts = dict.fromkeys(("_requests", "_requests_failed", "s_failed"), 0.0)
        for what, labels, value in COUNTED.findall(text):
            if mine in labels:
                counts[what] += float(value)
        return counts

    async def _post_alert(self, receiver: Receiver, author: str) -> None:
        now = time.time()
        alert = {
            "labels": {
                "alertname": TEST_ALERT,
                "receiver": receiver.name,
                "severity": "none",
                "test": secrets.token_hex(4),
            },
            "annotations": {
                "summary": f"A test of receiver {receiver.name}",
                "description": f"Asked for by {author}. Nothing is wrong, and nothing is to be done.",
            },
            "startsAt": datetime.fromtimestamp(now, UTC).isoformat(),
            "endsAt": datetime.fromtimestamp(now + LIVES_S, UTC).isoformat(),
        }
        await self._call("POST", "/api/v2/alerts", [alert])

    async def _get(self, path: str) -> httpx.Response:
        return await self._call("GET", path)

    async def _call(self, method: str, path: str, body: object = None) -> httpx.Response:
        if not self.url:
            raise Refused("this control plane knows no Alertmanager; name it by MCP_ALERTMANAGER_URL")
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
                return (await http.request(method, f"{self.url.rstrip('/')}{path}", json=body)).raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Alertmanager at {self.url} does not answer: {str(error) or type(error).__name__}"
            ) from error
