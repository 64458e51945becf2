"""`tekup replica run | show`: a standby replica of the workspace, kept on a second host or disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from compose.local import show
from compose.local.errors import NotRunning, StepFailed
from compose.local.layout import Layout
from compose.local.link import Link
from compose.local.operators_api import OperatorsApi, first_to_answer
from compose.local.programs import found
from compose.local.progress import Silent

from .commands import JsonFlag, Of
from .replica import Round, carry_out, keep

replica = typer.Typer(no_args_is_help=True, help="A standby replica of the workspace, elsewhere.")
CALL_S = 10.0


@replica.command("run")
def replica_run(
    target: Annotated[str, typer.Argument(help="A folder, or HOST:FOLDER by ssh.")],
    every: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds between rounds.")] = 30,
    once: Annotated[bool, typer.Option("--once", help="One round, then end.")] = False,
    of: Of = None,
    source: Annotated[Path | None, typer.Option("--from", help="The workspace, where it is another folder.")] = None,
    json: JsonFlag = False,
) -> None:
    """Keep a replica of the workspace until a signal ends this, or carry out one round; tells the control plane.

    Example: tekup replica run standby:/srv/tekup/workspace --every 30

    Example: tekup replica run /mnt/standby --once --of prod
    """
    rsync = found("rsync")
    where = source or _workspace(of)
    tell = _teller(of)
    if not once:
        keep(lambda: carry_out(rsync, where, target, every), tell, every, typer.echo)
    done = carry_out(rsync, where, target, 0)
    tell(done)
    if json:
        show.as_json(asdict(done))
        return
    typer.echo(f"{done.target} is up to date, after {done.seconds:.1f} s")


@replica.command("show")
def replica_show(of: Of = None, json: JsonFlag = False) -> None:
    """Show how old the replica is, and what a loss of the machine would cost at most.

    Example: tekup replica show
    """
    told = _plane(of).standby()
    done = Round(**told)
    if json:
        show.as_json(told | {"age_s": time.time() - done.at, "bound_s": done.bound_s})
        return
    bound = f"{done.bound_s:.0f} s while rounds go on like that" if done.every_s else "what was written since"
    typer.echo(f"{done.target}: {show.age(done.at)} old, its last round took {done.seconds:.1f} s")
    typer.echo(f"Lost with this machine: {bound}")


def _workspace(of: str | None) -> Path:
    if of is None:
        return Layout(Path.cwd()).workspace
    # what is asked of an engine takes time to import
    from compose.containers.backup import compose_of, workspace_of  # noqa: PLC0415

    return workspace_of(compose_of(of))


def _plane(of: str | None) -> OperatorsApi:
    if of is not None:
        from compose.containers.backup import compose_of  # noqa: PLC0415
        from compose.containers.deploy import plane  # noqa: PLC0415

        return plane(compose_of(of), Silent(), CALL_S)
    layout = Layout(Path.cwd())
    answer = first_to_answer(layout, Link(layout).status().processes, CALL_S)
    if answer is None:
        raise NotRunning("no control plane runs here; `tekup up` starts one")
    return answer[0]


def _teller(of: str | None) -> Callable[[Round], None]:
    def tell(done: Round) -> None:
        try:
            _plane(of).kept_standby(done.target, done.at, done.seconds, done.every_s)
        except OSError as error:
            raise StepFailed(f"the control plane could not be told: {error}") from error

    return tell
