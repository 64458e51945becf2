"""The Starlette application: token, parsing, problems. The routes are data in :mod:`control_plane.api.routes`."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_plane.api.autoscale import AUTOSCALE_ROUTES
from control_plane.api.backups import BACKUP_ROUTES
from control_plane.api.bodies import LINES, Done, Lines, Problem
from control_plane.api.deployments import DEPLOYMENT_ROUTES
from control_plane.api.events import Events, TooMany, stream
from control_plane.api.forward import REPLAYED, Forward, Named
from control_plane.api.once import call_of, once
from control_plane.api.openapi import document
from control_plane.api.pace import Pace
from control_plane.api.regions import REGION_ROUTES, side
from control_plane.api.rollout_bodies import RolloutDone
from control_plane.api.rollouts import ROUTES as ROLLOUT_ROUTES
from control_plane.api.route import ApiRoute, asked
from control_plane.api.routes import ROUTES
from control_plane.audit import MOST_SAID, Draft, Result
from control_plane.engine import Engine
from control_plane.errors import (
    Conflict,
    Elsewhere,
    Fenced,
    Forbidden,
    NotFound,
    NotInitialised,
    NotLeader,
    Refused,
    Stale,
    TekupError,
    Unanswered,
    Unavailable,
    UnderWay,
)
from control_plane.form import SCHEMA
from control_plane.loop import ControlPlane
from control_plane.model import problems_of
from control_plane.roles import Operator
from observability.telemetry.traces import TRACEPARENT, root_span, trace_id

log = logging.getLogger(__name__)

ALL_ROUTES = (*ROUTES, *ROLLOUT_ROUTES, *AUTOSCALE_ROUTES, *BACKUP_ROUTES, *DEPLOYMENT_ROUTES, *REGION_ROUTES)
# Told with Retry-After, which promises that to ask again repeats nothing.
NOTHING_DONE = (NotLeader, Fenced, UnderWay)
# First match counts, so the narrower error stands above the wider.
STATUS: tuple[tuple[type[TekupError], int, str], ...] = (
    (NotFound, 404, "Not found"),
    (Forbidden, 403, "Forbidden"),
    (Elsewhere, 409, "Elsewhere"),
    (Stale, 412, "Precondition failed"),
    (UnderWay, 409, "Under way"),
    (Conflict, 409, "Conflict"),
    (Refused, 422, "Refused"),
    (NotInitialised, 409, "Not initialised"),
    (NotLeader, 503, "Not the leader"),
    (Fenced, 503, "Not the leader"),
    (Unanswered, 502, "Outcome unknown"),
    (Unavailable, 503, "Unavailable"),
)


def create_app(
    plane: ControlPlane,
    engine: Engine,
    token: str,
    forward: Forward | None = None,
    events: Events | None = None,
    pace: Pace | None = None,
) -> Starlette:
    """The API over a control plane.

    Args:
        plane: What answers.
        engine: What answers about rollouts.
        token: The built-in admin's. Every call but health, metrics and the OpenAPI document must bring this one or
            another operator's as a bearer.
        forward: Takes changes to the leader while this replica is not; without, they are refused.
        events: What changes, for who listens; without, nobody can.
        pace: How often each operator may ask.
    """
    plane.operators.trust(token)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        if plane.leadership.leading:
            return JSONResponse({"status": "leading", "led": True, "form": SCHEMA})
        if plane.leadership.elected:
            return JSONResponse({"status": "following", "led": True, "form": SCHEMA})
        # our own name there is that of a predecessor, or of us a moment ago
        led = await plane.replicas.leader() not in (None, plane.leadership.me)
        return JSONResponse({"status": "standing by", "led": led, "form": SCHEMA})

    async def openapi(_: Request) -> Response:
        return JSONResponse(document(ALL_ROUTES))

    async def metrics(request: Request) -> Response:
        text, media_type = plane.metrics.shown(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    routes = [Route("/health", health), Route("/ready", ready), Route("/v1/openapi.json", openapi)]
    routes.append(Route("/metrics", metrics))
    routes.append(Route("/v1/region/side", partial(side, plane.regions), methods=["GET"]))
    api = Api(plane, engine, forward, pace or Pace())
    if events:
        routes.append(Route("/v1/events", _listening(events, api), methods=["GET"]))
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
    forward: Forward | None
    pace: Pace


def _endpoint(route: ApiRoute, api: Api) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operator = await _operator(request, api)
        if operator is None:
            if route.changes:
                await api.plane.audit.tell_unproven(f"{request.method} {request.url.path}")
            return _stranger()
        if wait_s := api.pace.wait_s(operator.name):
            return _too_often(operator, wait_s)
        if route.method == "GET":  # looking changes nothing, and screens look each second
            return await _answered(route, api, request, operator)
        with root_span(f"{route.method} {route.path}", parent=request.headers.get(TRACEPARENT, "")) as call:
            answer = await _carried_out(route, api, request, operator)
            call.note(tekup_status=answer.status_code)
            return answer

    return endpoint


def _listening(events: Events, api: Api) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operator = await _operator(request, api)
        if operator is None:
            return _stranger()
        if wait_s := api.pace.wait_s(operator.name):
            return _too_often(operator, wait_s)
        try:
            return await stream(events, request)
        except TooMany as error:
            return _problem(503, "Unavailable", str(error), {"Retry-After": "5"})

    return endpoint


async def _operator(request: Request, api: Api) -> Operator | None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return await api.plane.operators.of(given) if scheme.lower() == "bearer" else None


def _stranger() -> Response:
    said = "an operator token is needed: Authorization: Bearer <token>"
    return _problem(401, "Unauthorized", said, {"WWW-Authenticate": "Bearer"})


def _too_often(operator: Operator, wait_s: int) -> Response:
    detail = f"{operator.name} asks too often; nothing was done, ask again in {wait_s} s"
    return _problem(429, "Too many requests", detail, {"Retry-After": str(wait_s)})


async def _carried_out(route: ApiRoute, api: Api, request: Request, operator: Operator) -> Response:
    """What the leader answers; by the leader itself it is written down as well."""
    raw = await _read(request, route.body_limit_bytes)
    if api.forward and (theirs := await api.forward.answer(request, raw)):
        return theirs
    remembered = route.changes and not route.own and not _dry(request, raw)
    call = call_of(request, raw, operator) if remembered and not api.plane.leadership.elsewhere else None
    failed: list[TekupError] = []

    async def carried_out() -> Response:
        try:
            return await _answered(route, api, request, operator, raw)
        except TekupError as error:
            failed.append(error)
            return await _told(request, error)

    try:
        answer = await once(api.plane.once, call, carried_out)
    except TekupError as error:  # the key stands in its way
        failed.append(error)
        answer = await _told(request, error)
    if REPLAYED not in answer.headers:
        await _tell(route, api, request, raw, answer, operator)
    if failed:
        raise failed[0]  # the call's span has failed
    return answer


async def _tell(route: ApiRoute, api: Api, request: Request, raw: bytes, answer: Response, operator: Operator) -> None:
    """Have the audit trail hold what no revision does."""
    if route.changes and (draft := _draft(route, request, raw, answer, operator)):
        await api.plane.audit.tell(draft.model_copy(update={"at": api.plane.audit.now()}))


def _draft(route: ApiRoute, request: Request, raw: bytes, answer: Response, operator: Operator) -> Draft | None:
    """What the audit trail has to be told of a call; None for what it finds in the history, or what was only tried."""
    asked_for, said = _object(raw), _object(bytes(answer.body))
    dry = _dry(request, raw)
    status = answer.status_code
    refused = status >= HTTPStatus.BAD_REQUEST
    in_history = said.get("changed") is True or said.get("initialised") is True
    if in_history or (dry and status != HTTPStatus.FORBIDDEN) or "Retry-After" in answer.headers:
        return None
    # A verb on a rollout changes the rollout where it leaves the policy as it is.
    result: Result = "unchanged" if "changed" in said and not issubclass(route.gives, RolloutDone) else "done"
    if refused:
        result = "refused" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"
    number = said.get("revision")
    revision = number if isinstance(number, int) and not refused else 0
    return Draft(
        at=0,
        who=operator.name,
        what=route.answer.__name__.replace("_", "-"),
        target=f"{request.method} {request.url.path}",
        why=str(asked_for.get("reason") or request.query_params.get("reason", ""))[:MOST_SAID],
        before=revision,
        after=revision,
        result=result,
        status=status,
        said=str(said.get("detail", ""))[:MOST_SAID] if refused else "",
        trace=trace_id(),
    )


def _dry(request: Request, raw: bytes) -> bool:
    return _object(raw).get("dry_run") is True or request.query_params.get("dry_run") == "true"


def _object(raw: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def _answered(
    route: ApiRoute, api: Api, request: Request, operator: Operator, raw: bytes | None = None
) -> Response:
    route.refuse(operator, {str(name): str(value) for name, value in request.path_params.items()})
    raw = await _read(request, route.body_limit_bytes) if raw is None else raw
    if route.changes and not route.own:
        api.plane.leadership.refuse_elsewhere()
    body = _parse(request, raw, route.takes) if route.takes else None
    tag = await _tag(route, api, request)
    answer = await route.answer(asked(request, api.plane, api.engine, body, route, operator))
    if isinstance(answer, Lines) and LINES in request.headers.get("accept", ""):
        return Response(answer.text(), media_type=LINES)
    pending = isinstance(answer, Done) and not answer.in_force
    return JSONResponse(answer.model_dump(mode="json"), status_code=202 if pending else 200, headers=tag)


async def _tag(route: ApiRoute, api: Api, request: Request) -> dict[str, str]:
    """The tag of what is looked at, read before it is: at worst it is an older one, which changes nothing."""
    if route.about is None or route.method != "GET":
        return {}
    table, name = route.about
    page = await api.plane.page(afresh=False)
    return {"ETag": f'"{page.tag(table, str(request.path_params[name]))}"'}


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
