"""The application: every group of commands, and one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
import textwrap
from typing import Annotated

import typer

from compose.local import commands
from compose.local.bridged import commands as bridged
from compose.local.errors import LocalError
from compose.local.exits import HELP
from compose.local.show import WIDTH
from compose.local.typed import typed
from control_plane.cli import policy, state
from control_plane.cli.audit import audit
from control_plane.cli.autoscale import autoscale
from control_plane.cli.demo import demo
from control_plane.cli.observe import commands as observe
from control_plane.cli.operators import operators
from control_plane.cli.receivers import receivers
from control_plane.cli.region import region
from control_plane.cli.rollout import rollout
from control_plane.cli.rules import rules, silence
from observability.telemetry.about import platform_version

app = typer.Typer(
    name="tekup",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Runs MCP servers like production services.",
    epilog=HELP,
)
commands.register(app)
bridged.register(app)
observe.register(app)
policy.register(app)
app.command()(demo)
app.add_typer(rollout, name="rollout")
state.register(app)
app.add_typer(operators, name="operators")
app.add_typer(audit, name="audit")
app.add_typer(rules, name="rules")
app.add_typer(silence, name="silence")
app.add_typer(receivers, name="receivers")
app.add_typer(autoscale, name="autoscale")
app.add_typer(region, name="region")


@app.command("version")
def show_version() -> None:
    """Print the version.

    Example: tekup version
    """
    typer.echo(platform_version())


def _version_asked(asked: bool) -> None:
    if asked:
        show_version()
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_version_asked)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run; every error on purpose is one message on standard error and its own exit code."""
    try:
        app()
    except LocalError as error:
        sys.stderr.write(f"{_wrapped(typed(f'tekup: {error}'))}\n")
        sys.exit(error.exit_code)


def _wrapped(message: str) -> str:
    """The message in lines of at most 80 columns; its own line breaks stay, and paths and URLs stay whole."""
    return "\n".join(
        textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in message.splitlines()
    )
