"""The supervisor's side of its socket: a small HTTP API, only for the user who started it.

The socket lies in a 0700 folder; that is its access control.
"""

import asyncio
from pathlib import Path
from typing import Protocol, TypeVar, cast

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .errors import BadInput
from .status import Name, Status, Wish
from .table import Service

B = TypeVar("B", bound=BaseModel)


class Controlled(Protocol):
    """What the API needs of the supervisor."""

    def ask_down(self) -> None:
        """Begin to stop everything."""

    async def status(self) -> Status:
        """What runs, asked now."""

    async def restart(self, name: str) -> None:
        """Stop and start one process."""

    async def scale(self, wish: Wish) -> Wish:
        """Wish for a number of instances."""

    def put_service(self, service: Service) -> None:
        """Run one more service, or run one by another pattern."""

    def drop_service(self, name: str) -> None:
        """Run a service no more."""


def application(supervisor: Controlled) -> Starlette:
    """The API as an application."""

    async def status(_request: Request) -> Response:
        return JSONResponse((await supervisor.status()).model_dump(mode="json"))

    async def restart(request: Request) -> Response:
        await supervisor.restart((await _body(request, Name)).name)
        return Response(status_code=204)

    async def scale(request: Request) -> Response:
        wish = await supervisor.scale(await _body(request, Wish))
        return JSONResponse(wish.model_dump(mode="json"), status_code=202)

    async def put_service(request: Request) -> Response:
        supervisor.put_service(await _body(request, Service))
        return Response(status_code=202)

    async def drop_service(request: Request) -> Response:
        supervisor.drop_service((await _body(request, Name)).name)
        return Response(status_code=202)

    async def down(_request: Request) -> Response:
        supervisor.ask_down()
        return Response(status_code=202)

    async def refused(_request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=400)

    return Starlette(
        routes=[
            Route("/status", status),
            Route("/restart", restart, methods=["POST"]),
            Route("/scale", scale, methods=["PUT"]),
            Route("/services", put_service, methods=["PUT"]),
            Route("/services", drop_service, methods=["DELETE"]),
            Route("/down", down, methods=["POST"]),
        ],
        exception_handlers={BadInput: refused},
    )


async def _body(request: Request, kind: type[B]) -> B:
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise BadInput("; ".join(detail["msg"] for detail in error.errors())) from error


async def serve(supervisor: Controlled, socket: Path, finished: asyncio.Event) -> None:
    """Answer on a unix socket until `finished`.

    Args:
        supervisor: who answers.
        socket: the socket's path; one left by a dead supervisor is replaced.
        finished: ends the serving.
    """
    await asyncio.to_thread(socket.unlink, missing_ok=True)
    config = Config()
    config.bind = [f"unix:{socket}"]
    config.errorlog = None
    config.umask = 0o177
    config.graceful_timeout = 1

    async def shutdown() -> None:
        await finished.wait()

    app = cast("ASGIFramework", application(supervisor))  # both describe ASGI, in types that do not meet
    try:
        await hypercorn_serve(app, config, shutdown_trigger=shutdown, mode="asgi")
    finally:
        await asyncio.to_thread(socket.unlink, missing_ok=True)
