"""Forged, misused and misplaced tokens of an authorization server. All ask for a tool that `staff` may use."""

from __future__ import annotations

from typing import Final

from tests.attacks.bearers import ALICE, TOKENS
from tests.attacks.row import Raw, Row, call

__all__ = ["ROWS"]

OK: Final = frozenset({200})
UNKNOWN: Final = frozenset({400, 401})
FORBIDDEN: Final = frozenset({403})
GOOD: Final = ("good", "without a scope", "with another service in scope", "for the hub")


def shown(token: str, *, path: str = "/vault/mcp", **more: str) -> Raw:
    """A call with a bearer, and headers besides."""
    return call(path=path, client="", add=[("Authorization", f"Bearer {token}"), *more.items()])


def jwt(what: str) -> str:
    """A token by its name."""
    return f"<<jwt {what.replace(chr(39), '')}>>"


ROWS: Final = [
    Row("a good token", shown(jwt("good")), OK, runs_as=ALICE, must_run=True),
    Row("a good token of the hub's", shown(jwt("for the hub")), OK, runs_as=ALICE, must_run=True),
    *(
        Row(f"a token {what}", shown(jwt(what)), UNKNOWN, unguarded=True)
        for what in TOKENS
        if what not in GOOD
    ),
    Row("a token without a scope", shown(jwt("without a scope")), FORBIDDEN, unguarded=True),
    Row("a token with another service in scope",
        shown(jwt("with another service in scope")), FORBIDDEN, unguarded=True),
    Row("a token of a service on the hub's path", shown(jwt("good"), path="/mcp"), UNKNOWN, unguarded=True),
    Row("a token without a scope and a stolen grant",
        shown(jwt("without a scope"), **{"X-Tekup-Grant": "<<grant dev>>"}), FORBIDDEN, unguarded=True),
    Row("a forged token and a stolen grant",
        shown(jwt("signed with another key"), **{"X-Tekup-Grant": "<<grant dev>>"}), UNKNOWN, unguarded=True),
    Row("a stolen grant and no token",
        call(client="", add=[("X-Tekup-Grant", "<<grant dev>>")]), UNKNOWN, unguarded=True),
    Row("a stolen grant as the token", shown("<<grant dev>>"), UNKNOWN, unguarded=True),
    Row("a token for another service, and the word that it was asked for that one",
        shown(jwt("for another service"), **{"X-Forwarded-Uri": "/attic/mcp", "X-Forwarded-Host": "gate.test"}),
        UNKNOWN, unguarded=True),
    Row("a token for another service, in a path that ends like its own",
        shown(jwt("for another service"), path="/vault/mcp?/attic/mcp"), UNKNOWN, unguarded=True),
    Row("a good token twice", shown(jwt("good"), Authorization=f"Bearer {jwt('good')}"), UNKNOWN, unguarded=True),
    Row("a forged token, then a good one",
        shown(jwt("alg none"), Authorization=f"Bearer {jwt('good')}"), UNKNOWN, unguarded=True),
    Row("a good token, then a key", shown(jwt("good"), Authorization="Bearer <<key dev>>"), UNKNOWN, unguarded=True),
    Row("a good token after a tab", shown("\t" + jwt("good")), UNKNOWN, unguarded=True),
    Row("a good token in the form of a key", shown("tk_" + jwt("good")), UNKNOWN, unguarded=True),
    Row("a good token in the path",
        call(client="", path=f"/vault/mcp?access_token={jwt('good')}"), UNKNOWN, unguarded=True),
    Row("a good token in quotes", shown(f'"{jwt("good")}"'), UNKNOWN, unguarded=True),
]  # fmt: skip
