"""The Starlette application under ``/console``: who may come in, what browsers are told, and the table of pages."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from control_plane.api.events import Events, TooMany, stream
from control_plane.console import actions, pages, rules
from control_plane.console.alerts import Alerts
from control_plane.console.backend import Backend, Refusal
from control_plane.console.ended import Ended
from control_plane.console.links import Links
from control_plane.console.session import PATH, TOLD, Sessions, secure
from control_plane.console.templates import STATIC, environment
from control_plane.console.trail import Trail
from control_plane.console.visit import Asked, Desk, Visit, at
from control_plane.console.who import Known, may_change
from control_plane.errors import Unavailable

log = logging.getLogger(__name__)

MOST_FORM_BYTES = 64 << 10
MOST_FIELDS = 500
MOST_WRONG, WRONG_S = 20, 60.0
"""Wrong tokens a replica takes in so many seconds before it takes none at all."""
FRAGMENT = "x-console-fragment"
"""On what the page's script fetches by itself: that is no click, and keeps no session alive."""
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with `no-referrer` browsers send forms with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
Page = Callable[[Visit], Awaitable[Response]]


def create_console(
    api: ASGIApp,
    events: Events,
    trail: Trail,
    *,
    secret: str,
    known: Known,
    replica: str,
    alerts: Alerts,
    links: Links | None = None,
    ended: Ended | None = None,
    asked: Asked | None = None,
    now: Callable[[], float] = time.time,
) -> Starlette:
    """The console over a replica's API; to be mounted at ``/console``.

    Args:
        api: The HTTP API that everything is read from and done by.
        events: What changes.
        trail: How running rollouts came about.
        secret: Sessions are sealed with what follows from it; the same on all replicas.
        known: Whose token it is.
        replica: Who we are.
        alerts: Who knows of alerts.
        links: Where to look further.
        ended: Who has logged out; without, this replica alone knows.
        asked: What forms that were sent before were answered.
        now: Seconds since the epoch.
    """
    desk = Desk(
        Backend(api, now),
        Sessions(secret, now, ended),
        known,
        environment(now),
        alerts,
        links or Links(),
        events,
        trail,
        replica,
        asked,
    )
    door = Door(desk)
    routes = [
        Route("/static/{name}", _static, methods=["GET"]),
        Route("/login", door.login, methods=["GET", "POST"]),
    ]
    routes += [Route(path, door.guarded(shown), methods=["GET"]) for path, shown in SHOWN]
    for path, show, do in CHANGES:
        routes.append(Route(path, door.guarded(show), methods=["GET"]))
        routes.append(Route(path, door.guarded(do), methods=["POST"]))
    routes += [
        Route("/alerts/rules/edit", door.guarded(rules.tried), methods=["POST"]),
        Route("/alerts/rules/put", door.guarded(rules.put), methods=["POST"]),
        Route("/alerts/silences/{silence}/expire", door.guarded(actions.expire), methods=["POST"]),
        Route("/logout", door.guarded(door.logout), methods=["POST"]),
        Route("/events", door.guarded(_events), methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: door.lost})


SHOWN: tuple[tuple[str, Page], ...] = (
    ("/", pages.overview),
    ("/services/{service}", pages.service),
    ("/services/{service}/rollout", pages.rollout),
    ("/clients", pages.clients),
    ("/clients/{client}", pages.client),
    ("/alerts", pages.alerts),
    ("/alerts/rules", rules.listed),
    ("/alerts/rules/edit", rules.edit),
    ("/history", pages.history),
    ("/history/{revision}", pages.record),
    ("/audit", pages.audit),
)
CHANGES: tuple[tuple[str, Page, Page], ...] = (
    ("/services/{service}/traffic", *actions.offered(actions.traffic)),
    ("/services/{service}/rollout/start", *actions.offered(actions.start)),
    ("/services/{service}/rollout/{verb}", *actions.offered(actions.steer)),
    ("/clients/{client}/keys/{key}/revoke", *actions.offered(actions.revoke)),
    ("/history/{revision}/rollback", *actions.offered(actions.rollback)),
    ("/alerts/rules/{group}/remove", *actions.offered(rules.remove)),
    ("/alerts/silence", actions.silence_form, actions.silence),
)


class Door:
    """Lets in whoever has logged in.

    Args:
        desk: What pages are made with.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._wrong: deque[float] = deque(maxlen=MOST_WRONG)

    def guarded(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """A page for those who have logged in."""

        async def endpoint(request: Request) -> Response:
            try:
                visit = await self._visit(request)
            except Unavailable as error:
                return private(_away(error))
            if visit is None:
                return self._to_login(request)
            try:
                answer = await self._answered(page, visit)
            except Refusal as refusal:
                answer = await _problem(visit, refusal)
            if FRAGMENT not in request.headers and page not in (_events, self.logout):
                self._desk.sessions.keep(request, answer, visit.session)
            if TOLD in request.cookies and answer.status_code == 200 and FRAGMENT not in request.headers:
                answer.delete_cookie(TOLD, path=PATH)
            return private(answer)

        return endpoint

    async def _visit(self, request: Request) -> Visit | None:
        """A request of somebody who has logged in; None of anybody else.

        Raises:
            Unavailable: Whose token it is cannot be known now.
        """
        session = self._desk.sessions.read(request)
        operator = await self._desk.known(session.token) if session else None
        return Visit(request, self._desk, session, operator) if session and operator else None

    async def _answered(self, page: Page, visit: Visit) -> Response:
        if visit.request.method == "POST":
            visit.form = await _form(visit.request)
            if not _of_ours(visit.request) or not visit.session.owns(visit.given("csrf")):
                raise Refusal(
                    403, "Nothing was changed", "the form was not made for this login; go back and open the page anew"
                )
            if not may_change(visit.operator) and page != self.logout:
                raise Refusal(
                    403, "Nothing was changed", f"{visit.operator.name} may look at everything and change nothing"
                )
        return await page(visit)

    def _to_login(self, request: Request) -> Response:
        if FRAGMENT in request.headers or request.url.path.endswith("/events"):
            return private(Response(status_code=401))
        inside = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        to = f"?next={quote(inside, safe='')}" if request.method == "GET" and inside != at("") else ""
        return private(RedirectResponse(at("login") + to, status_code=303))

    async def login(self, request: Request) -> Response:
        """The page of the token, and the token itself."""
        if request.method == "GET":
            return private(self._asking(request))
        try:
            form = await _form(request)
        except Refusal as refusal:
            return private(self._asking(request, refusal.detail, refusal.status))
        onward = (form.get("next") or [""])[0]
        if not _of_ours(request):
            return private(self._asking(request, "The form came from another page; nothing was done.", 403, onward))
        if self._hammered():
            return private(self._asking(request, "Too many wrong tokens; wait a minute.", 429, onward))
        token = (form.get("token") or [""])[0].strip()
        try:
            operator = await self._desk.known(token) if token else None
        except Unavailable as error:
            return private(self._asking(request, f"Who has that token cannot be known now: {error}", 503, onward))
        if operator is None:
            self._wrong.append(time.monotonic())
            log.warning("console.login_refused", extra={"replica": self._desk.replica})
            return private(self._asking(request, "That is no operator's token.", 401, onward))
        log.info("console.login", extra={"author": operator.name})
        answer = RedirectResponse(_inside(onward), status_code=303)
        self._desk.sessions.begun(request, answer, self._desk.sessions.begin(token))
        return private(answer)

    def _hammered(self) -> bool:
        return len(self._wrong) == MOST_WRONG and time.monotonic() - self._wrong[0] < WRONG_S

    def _asking(self, request: Request, problem: str = "", status_code: int = 200, onward: str = "") -> Response:
        onward = onward or request.query_params.get("next", "")
        return self._desk.render(
            "login.html", status_code, problem=problem, onward=onward, clear=not secure(request), told=""
        )

    async def logout(self, visit: Visit) -> Response:
        """End the session."""
        await self._desk.sessions.end(visit.session)
        answer = RedirectResponse(at("login"), status_code=303)
        self._desk.sessions.forget(answer)
        return answer

    async def lost(self, request: Request, error: Exception) -> Response:
        """A page that does not exist."""
        if not isinstance(error, HTTPException):
            raise error
        try:
            visit = await self._visit(request)
        except Unavailable as unavailable:
            return private(_away(unavailable))
        if visit is None:
            return private(Response(error.detail, error.status_code, media_type="text/plain"))
        return private(await _problem(visit, Refusal(error.status_code, error.detail, "there is no such page")))


def _away(error: Unavailable) -> Response:
    said = f"Who you are cannot be known now: {error}. With the token of the file that replicas are given it can."
    return Response(said, 503, media_type="text/plain", headers={"Retry-After": "5"})


def private(answer: Response) -> Response:
    """An answer that nobody keeps, frames or reads from another site."""
    answer.headers.update(SECURITY)
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer


async def _problem(visit: Visit, refusal: Refusal) -> Response:
    await visit.look()
    return visit.page("problem.html", refusal.status, title=refusal.title, detail=refusal.detail)


async def _form(request: Request) -> Mapping[str, list[str]]:
    """The fields of a form.

    Raises:
        Refusal: It is none, or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refusal(415, "Nothing was changed", "forms come as application/x-www-form-urlencoded")
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_FORM_BYTES:
            raise Refusal(413, "Nothing was changed", f"the form is larger than {MOST_FORM_BYTES} bytes")
    try:
        return parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise Refusal(400, "Nothing was changed", f"the form cannot be read: {error}") from error


def _of_ours(request: Request) -> bool:
    """Whether browsers say that a form stood on a page of ours; those too old to say so have the token of the form."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


def _inside(onward: str) -> str:
    """Where to go after the login: a page of ours and nothing else."""
    inside = (
        onward.startswith(f"{PATH}/")
        and "\\" not in onward
        and ".." not in onward
        and not any(ord(sign) < 33 for sign in onward)
    )
    return onward if inside else at("")


async def _events(visit: Visit) -> Response:
    try:
        return await stream(visit.desk.events, visit.request)
    except TooMany as error:
        raise Refusal(503, "Too many listen", str(error)) from error


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(404)
    answer = FileResponse(Path(__file__).parent / "static" / name)
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return private(answer)
