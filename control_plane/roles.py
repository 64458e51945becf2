"""Who operates the platform, and what each may do. Pure values."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from control_plane.errors import Forbidden
from control_plane.model import Change, Document, Name, ServiceName, Stored, Table, Time

BUILT_IN = "operator"
"""Who comes with the token of the file that every replica is given."""
RESERVED = frozenset({BUILT_IN, "control-plane"})
ID_DIGITS = 10
MOST_TOKENS = 8


class Role(StrEnum):
    """What an operator may do; each covers those before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether who has this one may do what needs another."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class TokenState(StrEnum):
    """What becomes of who shows a token."""

    GOOD = "good"
    EXPIRED = "expired"
    REVOKED = "revoked"


class OperatorToken(Document):
    """One token; only the hash of its text is kept. A time of 0 means never."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{10}$")]
    hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    created: Time
    expires: Time = 0
    revoked: Time = 0

    def state(self, now_s: float) -> TokenState:
        """What it is good for now."""
        if self.revoked:
            return TokenState.REVOKED
        return TokenState.EXPIRED if self.expires and self.expires <= now_s else TokenState.GOOD


class OperatorDocument(Stored):
    """An operator as Consul holds it.

    Attributes:
        name: Stands as the author of each change.
        role: What they may do.
        services: Whose they may change, and look at one by one; none = every service, and what belongs to none.
        tokens: What they show; several for a while, when one takes the place of another.
    """

    name: Name
    role: Role
    services: Annotated[tuple[ServiceName, ...], Field(max_length=64)] = ()
    tokens: Annotated[tuple[OperatorToken, ...], Field(max_length=MOST_TOKENS)] = ()

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name in RESERVED:
            raise ValueError(f"{self.name} is the platform's own name; choose another")
        return self

    @property
    def key(self) -> str:
        return self.name

    def good(self, now_s: float) -> bool:
        """Whether any of their tokens lets them in now."""
        return any(token.state(now_s) is TokenState.GOOD for token in self.tokens)

    def revoked(self, now_s: float) -> OperatorDocument:
        """The same with no token that is good."""
        ended = (
            token if token.revoked else token.model_copy(update={"revoked": max(1, int(now_s))})
            for token in self.tokens
        )
        return self.model_copy(update={"tokens": tuple(ended)})

    def with_token(self, token: OperatorToken, until_s: int, now_s: float) -> OperatorDocument:
        """The same with a further token.

        Args:
            token: The new one.
            until_s: Tokens that are good end then at the latest; those of `now_s` or before are revoked.
            now_s: Seconds since the epoch.
        """
        live = [one for one in self.tokens if one.state(now_s) is TokenState.GOOD]
        if until_s <= now_s:
            kept = [one.model_copy(update={"revoked": max(1, int(now_s))}) for one in live]
        else:
            kept = [one.model_copy(update={"expires": min(one.expires or until_s, until_s)}) for one in live]
        return self.model_copy(update={"tokens": (*kept[1 - MOST_TOKENS :], token)})


@dataclass(frozen=True)
class Operator:
    """Who asks.

    Attributes:
        name: Stands as the author.
        role: What they may do.
        services: See :class:`OperatorDocument`.
    """

    name: str
    role: Role
    services: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewToken:
    """A token just made: what is kept, and the text to show once."""

    document: OperatorToken
    text: str

    def __repr__(self) -> str:
        return f"NewToken({self.document.id})"


def new_token(now_s: float, expires_s: int) -> NewToken:
    """Make a token.

    Args:
        now_s: Seconds since the epoch.
        expires_s: Seconds since the epoch, 0 for never.
    """
    token_id = secrets.token_hex(ID_DIGITS // 2)
    text = f"to_{token_id}_{secrets.token_hex(24)}"
    # As with API keys, 192 random bits leave nothing to guess, so a plain hash is enough.
    return NewToken(OperatorToken(id=token_id, hash=digest(text), created=int(now_s), expires=expires_s), text)


def digest(text: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


def refuse_outside(services: tuple[str, ...], changes: Iterable[Change]) -> None:
    """Refuse a change of anything but some services.

    Args:
        services: Those that may be changed; none = everything may.
        changes: What is to be written.

    Raises:
        Forbidden: Naming the first document that belongs to none of them.
    """
    own = {table.prefix + name for table in (Table.SERVICES, Table.DELIVERY) for name in services}
    outside = [change.key for change in changes if change.key not in own] if services else []
    if outside:
        raise Forbidden(
            f"the change touches {outside[0]}, and your token is for {', '.join(services)} alone; leave that out, or"
            " ask an operator whose token is not bound to services"
        )
