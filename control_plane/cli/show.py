"""How the CLI shows what the API said: a hint instead of an empty table, one line for what became of a change."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, cast

import typer

from compose.local import show
from compose.local.exits import Exit
from compose.local.show import as_json
from compose.local.typed import typed
from control_plane.differences import Difference
from control_plane.resources import KINDS

__all__ = ["Json", "as_json", "done", "drift", "ending", "plan", "sentence", "table", "unified"]

Json = dict[str, object]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Print rows under headings; a hint where there is none."""
    found = list(rows)
    if found:
        show.table(columns, found)
    else:
        typer.echo(typed(empty))


def done(answer: Json, what: str, *, json_wanted: bool, aside: bool = False, lacks_it: str = "the set") -> None:
    """Say what became of a change; exits with 4 if it is not in force everywhere.

    Args:
        answer: The API's.
        what: What was changed.
        json_wanted: Print the answer instead.
        aside: Say it on standard error; standard output holds the result.
        lacks_it: See :func:`plan`.
    """
    if json_wanted:
        as_json(answer)
    elif answer["dry_run"]:
        plan(answer, lacks_it=lacks_it)
        sentence(f"{what}: dry run, nothing was written; revision {answer['revision']} stands", aside=aside)
    else:
        begun = f"revision {answer['revision']}" if answer["changed"] else f"so already, revision {answer['revision']}"
        sentence(f"{what}: {begun}{ending(answer)}", aside=aside)
    if not answer["in_force"]:
        raise typer.Exit(Exit.TIMEOUT)


def ending(answer: Json) -> str:
    """What became of a change at the gates, to go on a sentence with; "" if there was none."""
    if answer["in_force"]:
        return f", in force after {answer['in_force_ms']} ms" if answer["changed"] else ""
    waiting = answer["waiting_for"]
    gates = ", ".join(str(gate) for gate in waiting) if isinstance(waiting, list) else str(waiting)
    return f", NOT in force on {gates}; `tekup gates list` says why"


def plan(answer: Json, *, lacks_it: str = "the set") -> None:
    """What changes, field by field, and how much of it.

    Args:
        answer: The API's.
        lacks_it: What was applied, and does not have the documents that stay.
    """
    found = _differences(answer)
    for one in found:
        _lines(one.lines())
    for name in cast("list[str]", answer.get("kept", [])):
        typer.echo(f"= {name} stays, though {lacks_it} does not have it")
    counted = (sum(one.action == action for one in found) for action in ("added", "changed", "removed"))
    typer.echo("{} to add, {} to change, {} to remove".format(*counted) if found else "nothing to change")


def sentence(text: str, *, aside: bool = False) -> None:
    """Print a sentence in 80 columns, with each `tekup …` in it as it has to be typed here.

    Args:
        text: The sentence.
        aside: Say it on standard error; standard output holds the result.
    """
    typer.echo(textwrap.fill(typed(text), show.WIDTH, subsequent_indent="  ", break_on_hyphens=False), err=aside)


def unified(answer: Json) -> None:
    """What changes, as a unified diff."""
    for one in _differences(answer):
        _lines(one.unified())


def drift(answer: Json, tables: Sequence[str], gates: Sequence[str]) -> None:
    """What another hand has changed, what is wrong at gates, and what to do."""
    unified(answer)
    told = {KINDS[one.kind].table.prefix for one in _differences(answer)}
    for prefix in tables:
        typer.echo(f"{prefix} does not fit revision {answer['revision']}: another hand has changed it")
    if set(tables) - told:
        _lines(["The history does not tell what was there: keys are not kept in it, and records may be missing."])
    _lines(gates)
    if tables:
        _lines([typed("`tekup state repair` accepts what lies in Consul, `tekup state restore` puts back what was.")])


def _differences(answer: Json) -> list[Difference]:
    shown = cast("list[dict[str, Any]]", answer["changes"])
    return [Difference(one["kind"], one["name"], one["before"], one["after"]) for one in shown]


def _lines(lines: Iterable[str]) -> None:
    """Lines of at most 80 columns; what goes on stands under its line's text."""
    for line in lines:
        typer.echo("\n".join(_folded(line)))


def _folded(line: str) -> list[str]:
    indent = line[: len(line) - len(line.lstrip(" +-"))]
    wrapper = textwrap.TextWrapper(
        show.WIDTH, subsequent_indent=indent + "  ", break_on_hyphens=False, drop_whitespace=False
    )
    return wrapper.wrap(line) or [""]
