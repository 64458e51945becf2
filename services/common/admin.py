"""The small HTTP applications around `/mcp`: health, readiness, metrics.

Health is whether the process answers, and with that whether its handles live; readiness is whether it should get calls.
"""

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from services.common.kit import Kit
from services.common.readiness import Readiness

__all__ = ["admin_app", "service_app"]

logger = logging.getLogger(__name__)


def _ready_route(readiness: Readiness, about: dict[str, str]) -> Route:
    async def ready(request: Request) -> Response:
        asked = request.query_params.get("instance", about["instance"])
        # An address outlives a container: who is asked may not be who is meant.
        gone = f"{asked} is gone, this is {about['instance']}" if asked != about["instance"] else None
        problem = gone or await readiness.problem()
        if problem is None:
            return JSONResponse({"ready": True, **about})
        return JSONResponse({"ready": False, "reason": problem, **about}, status_code=503)

    return Route("/ready", ready, methods=["GET"])


def _health_route(readiness: Readiness, about: dict[str, str]) -> Route:
    async def health(_: Request) -> Response:
        return JSONResponse({"alive": True, "phase": readiness.phase.value, **about})

    return Route("/health", health, methods=["GET"])


async def _as_jsonrpc(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = "only POST /mcp, GET /ready and GET /health are served here" if status < 500 else "internal error"
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": {"code": status, "message": message}}, status)


def admin_app(readiness: Readiness, kit: Kit, about: dict[str, str]) -> Starlette:
    """`/health`, `/ready`, `/state` and `/metrics`, for the admin port.

    Args:
        readiness: Answers `/ready`.
        kit: Its state and metrics are shown.
        about: Service, version and instance, in every answer.
    """

    async def show(request: Request) -> Response:
        text, media_type = await kit.metrics.shown(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    async def state(_: Request) -> Response:
        return JSONResponse({**about, **kit.state()})

    return Starlette(
        routes=[
            _health_route(readiness, about),
            _ready_route(readiness, about),
            Route("/state", state, methods=["GET"]),
            Route("/metrics", show, methods=["GET"]),
        ]
    )


def service_app(mcp: ASGIApp, readiness: Readiness, about: dict[str, str]) -> Starlette:
    """`/mcp`, `/ready` and `/health`, for the service port; whatever else is asked for is refused in JSON-RPC.

    Args:
        mcp: The application behind `/mcp`.
        readiness: Answers what the gate asks as well.
        about: Service, version and instance.
    """
    return Starlette(
        routes=[Route("/mcp", mcp), _ready_route(readiness, about), _health_route(readiness, about)],
        exception_handlers={404: _as_jsonrpc, 405: _as_jsonrpc, 500: _as_jsonrpc},
    )
