"""Verbs that are not easily undone say on a terminal what they would change, and ask; scripts are not asked."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from compose.local.exits import Exit
from control_plane.cli import show
from control_plane.cli.client import Api

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; where there is no terminal, nothing asks.")]
TIMEOUT_S = 120.0


def ask_first(
    method: str, path: str, question: str, *, silent: bool, body: show.Json | None = None, reason: str = ""
) -> None:
    """Show what a change would do, and go on only with a person's word.

    Args:
        method: Of the call.
        path: Of the call.
        question: What is asked.
        silent: Do not ask: it was said beforehand, or a script reads the answer.
        body: Of the call.
        reason: Of a call without a body.

    Raises:
        typer.Exit: The answer was no.
    """
    if silent or not _somebody_there():
        return
    params = {} if body is not None else {"reason": reason, "dry_run": "true"}
    wish = None if body is None else body | {"dry_run": True}
    show.plan(Api.here().ask(method, path, wish, params=params, timeout_s=TIMEOUT_S))
    _ask(question)


def ask_plainly(question: str, *, silent: bool) -> None:
    """Go on only with a person's word, where the API cannot say beforehand what would change.

    Args:
        question: What is asked, with what it means.
        silent: See :func:`ask_first`.

    Raises:
        typer.Exit: The answer was no.
    """
    if not silent and _somebody_there():
        _ask(question)


def _somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(question: str) -> None:
    if not typer.confirm(f"{question}?", err=True):
        show.sentence("nothing was changed", aside=True)
        raise typer.Exit(Exit.FAILED)
