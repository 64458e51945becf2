"""How the CLI shows what the API said: a hint instead of an empty table, one line for what became of a change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import typer

from compose.local import show
from compose.local.exits import Exit
from compose.local.show import as_json
from compose.local.typed import typed

__all__ = ["Json", "as_json", "done", "table"]

Json = dict[str, object]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Print rows under headings; a hint where there is none."""
    found = list(rows)
    if found:
        show.table(columns, found)
    else:
        typer.echo(typed(empty))


def done(answer: Json, what: str, *, json_wanted: bool, aside: bool = False) -> None:
    """Say what became of a change; exits with 4 if it is not in force everywhere.

    Args:
        answer: The API's.
        what: What was changed.
        json_wanted: Print the answer instead.
        aside: Say it on standard error; standard output holds the result.
    """
    if json_wanted:
        as_json(answer)
    else:
        begun = f"revision {answer['revision']}" if answer["changed"] else f"so already, revision {answer['revision']}"
        typer.echo(typed(f"{what}: {begun}{_ending(answer)}"), err=aside)
    if not answer["in_force"]:
        raise typer.Exit(Exit.TIMEOUT)


def _ending(answer: Json) -> str:
    if answer["in_force"]:
        return f", in force after {answer['in_force_ms']} ms" if answer["changed"] else ""
    waiting = answer["waiting_for"]
    gates = ", ".join(str(gate) for gate in waiting) if isinstance(waiting, list) else str(waiting)
    return f", NOT in force on {gates}; `tekup gates list` says why"
