"""What a route is, and one request to it, parsed."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request

from control_plane.api import bodies
from control_plane.engine import Engine
from control_plane.errors import Forbidden, Refused
from control_plane.loop import ControlPlane, Wish
from control_plane.model import Table, problems_of
from control_plane.roles import Operator, Role

BODY_LIMIT_BYTES = 1 << 20
REASON: TypeAdapter[str] = TypeAdapter(bodies.Reason)
B = TypeVar("B", bound=BaseModel)


NOBODY = Operator("", Role.VIEWER)


@dataclass(frozen=True)
class Asked:
    """One request, parsed: the path's names, the query's, the reason and `dry_run` of a DELETE, the body, and who."""

    plane: ControlPlane
    engine: Engine
    path: dict[str, str]
    reason: str
    body: BaseModel | None
    query: Mapping[str, int] = field(default_factory=dict)
    dry_run: bool = False
    operator: Operator = NOBODY
    match: tuple[Table, str, str] | None = None

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
        who = self.operator
        return Wish(who.name, reason or self.reason, expected, dry_run or self.dry_run, who.services, self.match)


Answer = Callable[[Asked], Awaitable[BaseModel]]


@dataclass(frozen=True)
class ApiRoute:
    """A route and what it takes and gives.

    Attributes:
        query: Whole numbers it takes in the query, each with its description.
        body_limit_bytes: The largest body it reads.
        needs: The least role that may ask it; None: a viewer may look, and an admin alone may change.
        looks: It changes nothing, though it is no `GET`.
        own: What it changes is this region's own, so that a region that follows another does it as well; it changes
            nothing when it is asked again, and is not remembered.
        about: The table of the document that it is about, and the name in the path that is its key: `GET` tells its tag
            (`ETag`), and a change is refused unless it has the one in `If-Match`.
        by_object: Each document that it changes is held against the services an operator is bound to. What names no
            service and is not so is refused to whoever is bound to some.
    """

    method: str
    path: str
    summary: str
    answer: Answer
    gives: type[BaseModel]
    takes: type[BaseModel] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    body_limit_bytes: int = BODY_LIMIT_BYTES
    needs: Role | None = None
    by_object: bool = False
    about: tuple[Table, str] | None = None
    looks: bool = False
    own: bool = False

    @property
    def role(self) -> Role:
        """The least role that may ask it."""
        return self.needs or (Role.VIEWER if self.method == "GET" else Role.ADMIN)

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self.method != "GET" and self.role is not Role.VIEWER and not self.looks

    def refuse(self, operator: Operator, path: Mapping[str, str]) -> None:
        """Refuse an operator who may not ask this.

        Args:
            operator: Who asks.
            path: The names in the path.

        Raises:
            Forbidden: Their role does not cover it, or it is not about their services.
        """
        if not operator.role.covers(self.role):
            raise Forbidden(
                f"{self.method} {self.path} needs the role {self.role}, and {operator.name} is {operator.role}; ask an"
                " admin for a token with that role"
            )
        service = path.get("service")
        bound = ", ".join(operator.services)
        if operator.services and service is not None and service not in operator.services:
            raise Forbidden(
                f"{operator.name} is bound to {bound}, and this is about {service}; ask somebody who is not"
            )
        if operator.services and service is None and self.changes and not self.by_object:
            raise Forbidden(f"{operator.name} is bound to {bound}, and this changes what belongs to no service")


def asked(
    request: Request,
    plane: ControlPlane,
    engine: Engine,
    body: BaseModel | None,
    route: ApiRoute,
    operator: Operator,
) -> Asked:
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
    dry_run = _yes("dry_run", request.query_params.get("dry_run", "false"))
    match = (
        (route.about[0], path[route.about[1]], _tag(request)) if route.about and "if-match" in request.headers else None
    )
    return Asked(plane, engine, path, reason, body, query, dry_run, operator, match)


def _tag(request: Request) -> str:
    """The tag in `If-Match`.

    Raises:
        Refused: It is none of ours.
    """
    given = request.headers["if-match"].strip()
    if not re.fullmatch(r'"([0-9a-f]{16}|none)"', given):
        raise Refused(f"If-Match: {given[:40]!r} is no tag; send the ETag that was read, with its quotes")
    return given.strip('"')


def _number(name: str, text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 12:
        return int(text)
    raise Refused(f"{name}: {text!r} is not a whole number")


def _yes(name: str, text: str) -> bool:
    # What was meant as a dry run must never be carried out.
    if text not in ("true", "false"):
        raise Refused(f"{name}: {text!r} is neither true nor false")
    return text == "true"
