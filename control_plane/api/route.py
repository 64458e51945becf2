"""What a route is, and one request to it, parsed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request

from control_plane.api import bodies
from control_plane.engine import Engine
from control_plane.errors import Refused
from control_plane.loop import ControlPlane, Wish
from control_plane.model import problems_of

AUTHOR = "operator"
BODY_LIMIT_BYTES = 1 << 20
REASON: TypeAdapter[str] = TypeAdapter(bodies.Reason)
B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True)
class Asked:
    """One request, parsed: the path's names, the query's, the reason and `dry_run` of a DELETE, and the body."""

    plane: ControlPlane
    engine: Engine
    path: dict[str, str]
    reason: str
    body: BaseModel | None
    query: Mapping[str, int] = field(default_factory=dict)
    dry_run: bool = False

    def read(self, kind: type[B]) -> B:
        """The body as what the route takes."""
        if not isinstance(self.body, kind):
            raise TypeError(f"this route takes {self.body.__class__.__name__}, not {kind.__name__}")
        return self.body

    def number(self, name: str) -> int:
        """A whole number of the path.

        Raises:
            Refused: It is none.
        """
        return _number(name, self.path[name])

    def wish(self, reason: str = "", expected: int | None = None, *, dry_run: bool = False) -> Wish:
        """Who asks, and why."""
        return Wish(AUTHOR, reason or self.reason, expected, dry_run or self.dry_run)


Answer = Callable[[Asked], Awaitable[BaseModel]]


@dataclass(frozen=True)
class ApiRoute:
    """A route and what it takes and gives.

    Attributes:
        query: Whole numbers it takes in the query, each with its description.
        body_limit_bytes: The largest body it reads.
    """

    method: str
    path: str
    summary: str
    answer: Answer
    gives: type[BaseModel]
    takes: type[BaseModel] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    body_limit_bytes: int = BODY_LIMIT_BYTES


def asked(request: Request, plane: ControlPlane, engine: Engine, body: BaseModel | None, route: ApiRoute) -> Asked:
    """What a request asks for.

    Raises:
        Refused: Its reason is longer than one may be, or more than one line; or its query makes no sense.
    """
    reason = request.query_params.get("reason", "")
    if reason:
        try:
            REASON.validate_python(reason)
        except ValidationError as error:
            raise Refused(f"reason: {problems_of(error)}") from error
    path = {str(k): str(v) for k, v in request.path_params.items()}
    query = {name: _number(name, request.query_params[name]) for name in route.query if name in request.query_params}
    return Asked(
        plane, engine, path, reason, body, query, _yes("dry_run", request.query_params.get("dry_run", "false"))
    )


def _number(name: str, text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 12:
        return int(text)
    raise Refused(f"{name}: {text!r} is not a whole number")


def _yes(name: str, text: str) -> bool:
    # What was meant as a dry run must never be carried out.
    if text not in ("true", "false"):
        raise Refused(f"{name}: {text!r} is neither true nor false")
    return text == "true"
