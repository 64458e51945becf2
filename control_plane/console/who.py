"""Whose token it is, and what pages offer to whom; what may be done the API decides at each call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from control_plane.roles import Operator, Role

__all__ = ["Known", "Operator", "may_administer", "may_change"]

Known = Callable[[str], Awaitable[Operator | None]]
"""Who has a token; None for a token of nobody. Raises `Unavailable` where that cannot be known now."""


def may_change(operator: Operator) -> bool:
    """Whether pages offer changes."""
    return operator.role.covers(Role.OPERATOR)


def may_administer(operator: Operator) -> bool:
    """Whether pages offer what an admin alone may change."""
    return operator.role.covers(Role.ADMIN)
