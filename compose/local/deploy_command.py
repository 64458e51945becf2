"""`tekup deploy`: an environment of containers on this machine, or on those of a Swarm, brought to a version."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import show
from .errors import StepFailed
from .progress import reporter

Kind = Annotated[Literal["dev", "staging", "prod", "swarm"], typer.Argument(help="Which environment of containers.")]


def deploy(
    kind: Kind,
    version: Annotated[str, typer.Option("--version", help="Tag of our images.")] = "latest",
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; stands in the record.")] = "by command line",
    tested: Annotated[Path | None, typer.Option(help="Which images were tested; `make test-docker` writes it.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 300,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring an environment of containers here to a version, and wait until all of it is healthy.

    Images that were not tested are refused before anything is touched. An earlier version is brought back likewise.

    Example: tekup deploy staging --reason "release 1.2.0"

    `swarm` is production on three machines, from an engine that is a manager of their Swarm.

    Example: tekup deploy prod --version 1.1.0 --reason "back: 1.2.0 is slow"
    """
    # what is asked of an engine takes time to import, and no other command needs it
    from compose.containers import deploy as deployment  # noqa: PLC0415
    from compose.images.errors import ImageError  # noqa: PLC0415
    from compose.images.tested import record_file  # noqa: PLC0415

    try:
        with reporter() as report:
            done = deployment.deploy(kind, version, reason, tested or record_file(), timeout, report)
    except ImageError as error:
        raise StepFailed(str(error)) from error
    if json:
        show.as_json(asdict(done))
        return
    typer.echo(
        f"{kind} runs {version}: {done.containers} containers, all healthy, after {done.seconds:.0f} s ({done.noted})"
    )
