"""How the CLI shows what the API said: a hint instead of an empty table, one line for what became of a change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import typer

from compose.local import show
from compose.local.exits import Exit
from compose.local.show import as_json

__all__ = ["Json", "as_json", "done", "table"]

Json = dict[str, object]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Print rows under headings; a hint where there is none."""
    found = list(rows)
    if found:
        show.table(columns, found)
    else:
        typer.echo(empty)


def done(answer: Json, what: str, *, json_wanted: bool) -> None:
    """Say what became of a change; exits with 4 if it is not in force everywhere."""
    if json_wanted:
        as_json(answer)
    elif not answer["changed"]:
        typer.echo(f"{what}: so already, revision {answer['revision']}")
    else:
        in_force = f"in force after {answer['in_force_ms']} ms"
        ending = in_force if answer["in_force"] else f"NOT in force on {_lag(answer)}"
        typer.echo(f"{what}: revision {answer['revision']}, {ending}")
    if not answer["in_force"]:
        raise typer.Exit(Exit.TIMEOUT)


def _lag(answer: Json) -> str:
    waiting = answer["waiting_for"]
    return ", ".join(str(gate) for gate in waiting) if isinstance(waiting, list) else str(waiting)
