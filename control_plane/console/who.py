"""Whose token it is: the one place where the console learns that."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

VIEWER = "viewer"


class Operator(Protocol):
    """Who has logged in, as far as pages show it; what may be done the API decides at each call."""

    @property
    def name(self) -> str:
        """What the record calls them."""

    @property
    def role(self) -> str:
        """`viewer`, `operator` or `admin`."""


Known = Callable[[str], Operator | None]
"""Who has a token; None for a token of nobody."""


@dataclass(frozen=True)
class One:
    """The one operator there is where there is one token."""

    name: str = "operator"
    role: str = "admin"


def one_token(token: str) -> Known:
    """Everybody who has this token is the operator.

    Args:
        token: The operator token.
    """

    def known(given: str) -> Operator | None:
        return One() if hmac.compare_digest(given.encode(), token.encode()) else None

    return known


def may_change(operator: Operator) -> bool:
    """Whether pages offer changes."""
    return str(operator.role) != VIEWER
