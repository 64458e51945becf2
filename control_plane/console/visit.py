"""One request of somebody who has logged in, and what it is answered from."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import quote

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from control_plane.api.events import Events
from control_plane.console.alerts import Alerts
from control_plane.console.backend import AWAY, MOST_WAITS, WAIT_S, Backend, Json, Refusal
from control_plane.console.links import Links
from control_plane.console.session import PATH, Session, Sessions
from control_plane.console.trail import Trail
from control_plane.console.views import banners, lasted
from control_plane.console.who import Known, Operator, may_administer, may_change
from control_plane.errors import Unavailable
from control_plane.once import Answer

STATUS = "/v1/status"
ONCE = re.compile(r"[0-9a-f-]{36}")
Asked = Callable[[str, str, str], Awaitable[Answer | None]]
"""What a call of an operator with a bearer was answered under a key (`control_plane.once.Once.answered`)."""


@dataclass(frozen=True)
class Desk:
    """What all pages are made with.

    Attributes:
        replica: Who serves them.
        asked: What was answered before; without, a form that is sent twice is told a conflict with itself.
    """

    backend: Backend
    sessions: Sessions
    known: Known
    pages: jinja2.Environment
    alerts: Alerts
    links: Links
    events: Events
    trail: Trail
    replica: str
    asked: Asked | None = None

    def render(self, template: str, status_code: int = 200, **values: object) -> Response:
        """A page."""
        return HTMLResponse(self.pages.get_template(template).render(values), status_code=status_code)


@dataclass
class Visit:
    """A request and whose it is.

    Attributes:
        form: What was posted.
        status: What the API said of itself at this visit.
        old: Since when the oldest answer of this visit is old; 0 if all are of now.
        why: Why the API said nothing of itself.
    """

    request: Request
    desk: Desk
    session: Session
    operator: Operator
    form: Mapping[str, list[str]] = field(default_factory=dict)
    status: Json | None = None
    old: float = 0.0
    why: str = ""

    def given(self, name: str, default: str = "") -> str:
        """A field of the form, or else of the query."""
        return self.form[name][0] if self.form.get(name) else self.request.query_params.get(name, default)

    def named(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    async def ask(
        self, method: str, path: str, body: Json | None = None, query: Mapping[str, str] | None = None, once: str = ""
    ) -> Json:
        """A change, or a question about one.

        Args:
            method: Of HTTP.
            path: What is asked.
            body: What is said.
            query: What is said in the address.
            once: The key under which the change is made once.

        Raises:
            Refusal: The API said no.
        """
        return await self.desk.backend.ask(self.session.token, method, path, body, query, once)

    @property
    def once(self) -> str:
        """The key of the form that was sent; "" where it has none, or something else in its place."""
        given = self.given("once")
        return f"console-{given}" if ONCE.fullmatch(given) else ""

    async def answered(self) -> Json | None:
        """What was answered when the same form was sent before, waited for while that is under way.

        Returns:
            The answer, {} where only that there was one is known; None where there was none.

        Raises:
            Refusal: That cannot be known now.
        """
        if not self.once or not self.desk.asked:
            return None
        for _ in range(MOST_WAITS):
            try:
                before = await self.desk.asked(self.operator.name, self.session.token, self.once)
            except Unavailable as error:
                why = f"whether that was done before cannot be known now: {error}"
                raise Refusal(AWAY[1], "Not known", why) from error
            if before is None or before.status:
                return cast("Json", json.loads(before.body or b"{}")) if before else None
            await asyncio.sleep(WAIT_S)
        return None

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """What a GET answers.

        Raises:
            Refusal: Neither now nor before.
        """
        answer, old = await self.desk.backend.read(self.session.token, path, query)
        if old:
            self.old = min(self.old, old) if self.old else old
        return answer

    async def reads(self, *paths: str) -> list[Json]:
        """Several at once, and how the whole is."""
        answers = await asyncio.gather(self.look(), *(self.read(path) for path in paths))
        return [one for one in answers[1:] if one is not None]

    async def look(self) -> None:
        """Learn how the whole is; that nobody says so is no reason to show nothing."""
        try:
            self.status = await self.read(STATUS)
        except Refusal as refusal:
            self.why = refusal.detail

    @property
    def revision(self) -> int:
        """The present revision; 0 if that is not known."""
        return int(self.status["revision"]) if self.status else 0

    def page(self, template: str, status_code: int = 200, **values: object) -> Response:
        """A page with what all of them show."""
        old = f"{lasted(time.time() - self.old)} ago" if self.old else ""
        return self.desk.render(
            template,
            status_code,
            operator=self.operator,
            may_change=may_change(self.operator),
            may_administer=may_administer(self.operator),
            csrf=self.session.csrf,
            once=uuid.uuid4(),
            status=self.status,
            revision=self.revision,
            banners=banners(self.status, self.why, old),
            links=self.desk.links,
            replica=self.desk.replica,
            told=self.desk.sessions.told(self.request),
            has_alerts=self.desk.alerts.known,
            **values,
        )

    def go(self, to: str, said: str = "") -> Response:
        """On to another page, which says something."""
        answer = RedirectResponse(to, status_code=303)
        if said:
            self.desk.sessions.tell(self.request, answer, said)
        return answer


def at(*parts: object) -> str:
    """The address of a page of the console."""
    return "/".join([PATH, *(quote(str(part), safe="") for part in parts)])


def api(*parts: object) -> str:
    """The address of something of the API."""
    return "/".join(["/v1", *(quote(str(part), safe="") for part in parts)])
