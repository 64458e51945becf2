"""Routes of operators: who may ask this API for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from control_plane.api.bodies import Body, Done, DryRun, Reason
from control_plane.api.client_bodies import MOST_OVERLAP_S
from control_plane.api.route import ApiRoute, Asked
from control_plane.model import Name, ServiceName, Time
from control_plane.operators import Change
from control_plane.roles import BUILT_IN, NewToken, OperatorDocument, Role, TokenState

Services = Annotated[
    tuple[ServiceName, ...], Field(max_length=64, description="Those it is bound to; none: to no service.")
]


class TokenShown(Body):
    """A token, nothing secret."""

    id: str
    state: TokenState
    created: Time
    expires: Annotated[Time, Field(description="0 = never.")]
    revoked: Time
    last_used: Annotated[Time, Field(description="To a minute; 0 = not yet.")]


class OperatorShown(Body):
    """An operator."""

    name: str
    role: Role
    services: tuple[str, ...]
    built_in: Annotated[bool, Field(description="The one whose token lies in a file of every replica.")] = False
    tokens: tuple[TokenShown, ...] = ()


class OperatorsShown(Body):
    """All operators."""

    operators: tuple[OperatorShown, ...]


class WhoShown(Body):
    """Whose token this is."""

    name: str
    role: Role
    services: tuple[str, ...]


class NewOperator(Body):
    """An operator to add."""

    name: Name
    role: Role
    services: Services = ()
    expires: Annotated[Time, Field(description="When its token ends; 0 = never.")] = 0
    reason: Reason
    dry_run: DryRun = False


class OperatorPatch(Body):
    """What is to change of an operator; what is left out stays."""

    role: Role | None = None
    services: Services | None = None
    reason: Reason
    dry_run: DryRun = False


class TokenWish(Body):
    """A new token in the place of those there are."""

    overlap_s: Annotated[int, Field(ge=0, le=MOST_OVERLAP_S, description="How long those go on.")] = 0
    expires: Annotated[Time, Field(description="When the new one ends; 0 = never.")] = 0
    reason: Reason
    dry_run: DryRun = False


class TokenMade(Done):
    """A token just made."""

    id: str
    token: Annotated[str, Field(description="Shown this once.")]


async def operators(ask: Asked) -> OperatorsShown:
    """Every operator, nothing secret."""
    known, uses = await ask.plane.operators.all(), await ask.plane.operators.uses()
    shown = [OperatorShown(name=BUILT_IN, role=Role.ADMIN, services=(), built_in=True)]
    shown += [_shown(one, uses, ask.plane.operators.now()) for one in known.values()]
    return OperatorsShown(operators=tuple(shown))


def _shown(one: OperatorDocument, uses: Mapping[str, int], now_s: float) -> OperatorShown:
    tokens = tuple(
        TokenShown(state=token.state(now_s), last_used=uses.get(token.id, 0), **token.model_dump(exclude={"hash"}))
        for token in one.tokens
    )
    return OperatorShown(name=one.name, role=one.role, services=one.services, tokens=tokens)


async def who(ask: Asked) -> WhoShown:
    """Whose token it is that asks."""
    return WhoShown(name=ask.operator.name, role=ask.operator.role, services=ask.operator.services)


async def add_operator(ask: Asked) -> TokenMade:
    """Add an operator; the token's text is shown this once."""
    body = ask.read(NewOperator)
    wish = ask.wish(body.reason, dry_run=body.dry_run)
    made, outcome = await ask.plane.operators.add(body.name, body.role, body.services, body.expires, wish)
    return _made(made, Done.of(outcome))


async def change_operator(ask: Asked) -> Done:
    """Give an operator another role, or other services."""
    body = ask.read(OperatorPatch)
    wish = ask.wish(body.reason, dry_run=body.dry_run)
    wanted = Change(body.role, body.services)
    return Done.of(await ask.plane.operators.change(ask.path["operator"], wanted, wish))


async def rotate_operator(ask: Asked) -> TokenMade:
    """Give an operator a new token, whose text is shown this once."""
    body = ask.read(TokenWish)
    wish = ask.wish(body.reason, dry_run=body.dry_run)
    made, outcome = await ask.plane.operators.rotate(ask.path["operator"], body.overlap_s, body.expires, wish)
    return _made(made, Done.of(outcome))


def _made(made: NewToken, done: Done) -> TokenMade:
    shown = ("", "") if done.dry_run else (made.document.id, made.text)
    return TokenMade(**dict(done), id=shown[0], token=shown[1])


async def revoke_operator(ask: Asked) -> Done:
    """Revoke every token of an operator."""
    return Done.of(await ask.plane.operators.revoke(ask.path["operator"], ask.wish()))


ALL, ONE = "/v1/operators", "/v1/operators/{operator}"
OPERATOR_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/who", "Whose token this is", who, WhoShown),
    ApiRoute("GET", ALL, "All operators", operators, OperatorsShown, needs=Role.ADMIN),
    ApiRoute("POST", ALL, "Add an operator", add_operator, TokenMade, NewOperator),
    ApiRoute("PATCH", ONE, "Another role, other services", change_operator, Done, OperatorPatch),
    ApiRoute("POST", ONE + "/rotate", "A new token in its place", rotate_operator, TokenMade, TokenWish),
    ApiRoute("DELETE", ONE, "Revoke an operator's tokens", revoke_operator, Done),
)
