"""The HTTP side: ``/auth`` for Traefik's ``forwardAuth``, the descriptions of the resources for everybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_plane.errors import Unavailable
from control_plane.oauth.answers import INVALID, INVALID_REQUEST, Refusal, Told
from control_plane.oauth.guard import Guard, Trusted
from control_plane.oauth.keys import KeyRing
from control_plane.oauth.scopes import METADATA, service_of
from control_plane.oauth.tables import Tables
from observability.telemetry.exposition import exposed

GRANT = "X-Tekup-Grant"
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


class Answers:
    """The endpoints.

    Args:
        guard: Decides.
        told: What callers are told.
        tables: The gate's.
        trusted: Issuers, by name.
    """

    def __init__(self, guard: Guard, told: Told, tables: Tables, trusted: Mapping[str, Trusted]) -> None:
        self._guard = guard
        self._told = told
        self._tables = tables
        self._trusted = trusted
        self._registry = CollectorRegistry()
        self._decisions = Counter(
            "tekup_oauth_decisions", "Bearers judged, by outcome", ["outcome"], registry=self._registry
        )
        age = Gauge("tekup_oauth_keys_age_seconds", "Age of an issuer's keys", ["issuer"], registry=self._registry)
        for name, one in trusted.items():
            age.labels(name).set_function(partial(_age_s, one.keys))

    async def auth(self, request: Request) -> Response:
        """Whether Traefik lets a call pass, and with which grant."""
        service = service_of(request.headers.get("x-forwarded-uri", "").partition("?")[0])
        decision = await self._decide(request, service)
        if isinstance(decision, Refusal):
            self._decisions.labels(decision.reason).inc()
            headers = self._told.headers(decision, service or "")
            return JSONResponse(decision.body, decision.status, headers)
        self._decisions.labels("granted").inc()
        return Response(status_code=200, headers={GRANT: decision})

    async def _decide(self, request: Request, service: str | None) -> str | Refusal:
        if service is None:
            return Refusal(404, "path", "only /mcp and /<service>/mcp are served here")
        given = request.headers.getlist("authorization")
        if len(given) != 1:
            return Refusal(400, "malformed", "Authorization is needed once", INVALID_REQUEST)
        found = _BEARER.fullmatch(given[0])
        if not found:
            return Refusal(401, "malformed", "Authorization has to be a bearer and its token", INVALID)
        return await self._guard.decide(found[1], service)

    async def describe(self, request: Request) -> Response:
        """A protected resource's metadata (RFC 9728)."""
        service = request.path_params.get("service", "")
        try:
            services = self._tables.known().services
        except Unavailable as error:
            return _problem(503, str(error), {"Retry-After": "1"})
        if service and service not in services:
            return _problem(404, "there is no such service; /mcp serves all of them")
        return JSONResponse(self._told.described(service, services), headers=_open_to_pages({}))

    async def health(self, _: Request) -> Response:
        """Alive."""
        return JSONResponse({"status": "live"})

    async def ready(self, _: Request) -> Response:
        """What stands in the way of judging bearers: per issuer what is wrong with its keys, "" for nothing."""
        issuers = {name: one.keys.problem for name, one in self._trusted.items()}
        return JSONResponse({"status": "ready", "issuers": issuers})

    async def metrics(self, request: Request) -> Response:
        """What was counted, as whoever asks can read it."""
        text, media_type = exposed(self._registry, request.headers.get("accept", ""))
        return Response(text, media_type=media_type)


def _age_s(keys: KeyRing) -> float:
    return keys.age_s


def create_app(guard: Guard, told: Told, tables: Tables, trusted: Mapping[str, Trusted]) -> Starlette:
    """The application; see :class:`Answers`."""
    answers = Answers(guard, told, tables, trusted)
    routes = [
        Route("/auth", answers.auth),
        Route(METADATA, answers.describe),
        Route(f"{METADATA}/mcp", answers.describe),
        Route(f"{METADATA}/{{service}}/mcp", answers.describe),
        Route("/health", answers.health),
        Route("/ready", answers.ready),
        Route("/metrics", answers.metrics),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _told_http})


async def _told_http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _problem(error.status_code, error.detail, dict(error.headers or {}))


def _problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(Refusal(status, "", message).body, status, _open_to_pages(headers or {}))


def _open_to_pages(headers: Mapping[str, str]) -> dict[str, str]:
    """Pages of any origin may read: there is nothing here that not everybody may know."""
    return {**headers, "Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}
