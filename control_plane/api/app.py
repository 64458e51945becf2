"""The Starlette application: token, parsing, problems. The routes are data in :mod:`control_plane.api.routes`."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_plane.api.autoscale import AUTOSCALE_ROUTES
from control_plane.api.backups import BACKUP_ROUTES
from control_plane.api.bodies import Done, Problem
from control_plane.api.forward import Forward, Named
from control_plane.api.openapi import document
from control_plane.api.rollouts import ROUTES as ROLLOUT_ROUTES
from control_plane.api.route import ApiRoute, asked
from control_plane.api.routes import ROUTES
from control_plane.engine import Engine
from control_plane.errors import (
    Conflict,
    Fenced,
    NotFound,
    NotInitialised,
    NotLeader,
    Refused,
    TekupError,
    Unanswered,
    Unavailable,
)
from control_plane.loop import ControlPlane
from control_plane.model import problems_of
from observability.telemetry.traces import TRACEPARENT, root_span

log = logging.getLogger(__name__)

ALL_ROUTES = (*ROUTES, *ROLLOUT_ROUTES, *AUTOSCALE_ROUTES, *BACKUP_ROUTES)
# Told with Retry-After, which promises that to ask again repeats nothing.
NOTHING_DONE = (NotLeader, Fenced)
# First match counts, so the narrower error stands above the wider.
STATUS: tuple[tuple[type[TekupError], int, str], ...] = (
    (NotFound, 404, "Not found"),
    (Conflict, 409, "Conflict"),
    (Refused, 422, "Refused"),
    (NotInitialised, 409, "Not initialised"),
    (NotLeader, 503, "Not the leader"),
    (Fenced, 503, "Not the leader"),
    (Unanswered, 502, "Outcome unknown"),
    (Unavailable, 503, "Unavailable"),
)


def create_app(plane: ControlPlane, engine: Engine, token: str, forward: Forward | None = None) -> Starlette:
    """The API over a control plane.

    Args:
        plane: What answers.
        engine: What answers about rollouts.
        token: The operator token every call but health, metrics and the OpenAPI document must bring as a bearer.
        forward: Takes changes to the leader while this replica is not; without, they are refused.
    """

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        if plane.leadership.leading:
            return JSONResponse({"status": "leading", "led": True})
        # our own name there is that of a predecessor, or of us a moment ago
        led = await plane.replicas.leader() not in (None, plane.leadership.me)
        return JSONResponse({"status": "standing by", "led": led})

    async def openapi(_: Request) -> Response:
        return JSONResponse(document(ALL_ROUTES))

    async def metrics(request: Request) -> Response:
        text, media_type = plane.metrics.shown(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    routes = [Route("/health", health), Route("/ready", ready), Route("/v1/openapi.json", openapi)]
    routes.append(Route("/metrics", metrics))
    api = Api(plane, engine, token, forward)
    routes += [Route(route.path, _endpoint(route, api), methods=[route.method]) for route in ALL_ROUTES]
    return Starlette(
        routes=routes,
        exception_handlers={TekupError: _told, HTTPException: _http_told},
        middleware=[Middleware(Named, replica=plane.leadership.me.replica)],
    )


@dataclass(frozen=True)
class Api:
    """What every route needs."""

    plane: ControlPlane
    engine: Engine
    token: str
    forward: Forward | None


def _endpoint(route: ApiRoute, api: Api) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), api.token.encode()):
            return _problem(
                401,
                "Unauthorized",
                "an operator token is needed: Authorization: Bearer <token>",
                {"WWW-Authenticate": "Bearer"},
            )
        if route.method == "GET":  # looking changes nothing, and screens look each second
            return await _answered(route, api, request)
        with root_span(f"{route.method} {route.path}", parent=request.headers.get(TRACEPARENT, "")) as call:
            answer = await _answered(route, api, request)
            call.note(tekup_status=answer.status_code)
            return answer

    return endpoint


async def _answered(route: ApiRoute, api: Api, request: Request) -> Response:
    raw = await _read(request, route.body_limit_bytes)
    if route.method != "GET" and api.forward and (theirs := await api.forward.answer(request, raw)):
        return theirs
    body = _parse(request, raw, route.takes) if route.takes else None
    answer = await route.answer(asked(request, api.plane, api.engine, body, route))
    pending = isinstance(answer, Done) and not answer.in_force
    return JSONResponse(answer.model_dump(mode="json"), status_code=202 if pending else 200)


async def _read(request: Request, limit_bytes: int) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit_bytes:
            raise HTTPException(413, f"the body is larger than {limit_bytes} bytes")
    return bytes(raw)


def _parse(request: Request, raw: bytes, kind: type[BaseModel]) -> BaseModel:
    try:
        return kind.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise Refused(f"{request.method} {request.url.path}: {problems_of(error)}") from error


async def _told(_: Request, error: Exception) -> Response:
    for kind, status, title in STATUS:
        if isinstance(error, kind):
            return _problem(status, title, str(error), {"Retry-After": "1"} if kind in NOTHING_DONE else None)
    raise error


async def _http_told(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _problem(error.status_code, "Refused", error.detail, dict(error.headers or {}))


def _problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    problem = Problem(title=title, status=status, detail=detail)
    return JSONResponse(
        problem.model_dump(), status_code=status, media_type="application/problem+json", headers=headers
    )
