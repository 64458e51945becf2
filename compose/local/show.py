"""How commands show things: tables that fit 80 columns for people, JSON for scripts."""

import json
import time
from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 80


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings, at most 80 columns wide; long cells are folded."""
    grid = Table(*columns, box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*(Text(cell, overflow="fold") for cell in row))
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(grid, width=min(WIDTH, console.width) if console.is_terminal else WIDTH)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def as_json(data: object) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(data, indent=2))


def age(since: float) -> str:
    """How long ago, in two characters and a unit."""
    seconds = max(0, int(time.time() - since))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
