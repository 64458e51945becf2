"""Every command, in the words of its own `--help`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from control_plane.cli.main import app
from tests.reference.table import heading

WIDTH = 80


def page() -> str:
    """The page of commands."""
    root: Any = typer.main.get_command(app)  # of the Click that Typer carries, which has no public name
    shown = list(_shown(root, root.context_class(root, info_name="tekup")))
    lines = heading(
        "Commands",
        "What each command says with `--help`. Commands that show or change something have `--json`. "
        "[Exit codes](../how-to.md), [completion in the shell](../install.md#completion-in-the-shell).",
    )
    for path, text in shown:
        lines += [f"## {path}", "", "```text", text, "```", ""]
    return "\n".join(lines)


def _shown(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    context.terminal_width = context.max_content_width = WIDTH
    yield context.command_path, "\n".join(line.rstrip() for line in command.get_help(context).splitlines()).strip()
    for name, child in getattr(command, "commands", {}).items():
        yield from _shown(child, child.context_class(child, info_name=name, parent=context))
