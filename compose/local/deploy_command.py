"""`tekup deploy`: an environment of containers, or one of its services, brought to a version, here or on a Swarm."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import show
from .errors import BadInput, StepFailed
from .progress import reporter
from .settings import SERVICES

Kind = Annotated[Literal["dev", "staging", "prod", "swarm"], typer.Argument(help="Which environment of containers.")]
Strategy = Literal["canary", "blue-green", "immediate"]


def deploy(
    kind: Kind,
    service: Annotated[str | None, typer.Argument(help="One service; the whole environment without.")] = None,
    version: Annotated[str, typer.Option("--version", help="Tag of our images.")] = "latest",
    instances: Annotated[int | None, typer.Option(min=1, help="Of a service: how many; as now without.")] = None,
    strategy: Annotated[Strategy | None, typer.Option(help="Of a service: as its delivery says without.")] = None,
    keep_warm: Annotated[int | None, typer.Option(min=0, help="Of a service: seconds the old version stays.")] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; stands in the record.")] = "by command line",
    tested: Annotated[Path | None, typer.Option(help="Which images were tested; `make test-docker` writes it.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds to wait at most; 300, 3600 of a service.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring an environment of containers here, or one service of it, to a version; wait until it is so.

    Images that were not tested are refused before anything is touched. An earlier version is brought back likewise.
    A service's new version is started beside the old one by the control plane, which then shifts the calls.

    Example: tekup deploy staging --reason "release 1.2.0"

    `swarm` is production on three machines, from an engine that is a manager of their Swarm.

    Example: tekup deploy prod --version 1.1.0 --reason "back: 1.2.0 is slow"

    Example: tekup deploy prod search --version 1.2.0 --strategy blue-green
    """
    # what is asked of an engine takes time to import, and no other command needs it
    from compose.containers import deploy as deployment  # noqa: PLC0415
    from compose.images.errors import ImageError  # noqa: PLC0415
    from compose.images.tested import record_file  # noqa: PLC0415

    record = tested or record_file()
    try:
        with reporter() as report:
            if service is None:
                _refuse_without_service(instances=instances, strategy=strategy, keep_warm=keep_warm)
                done = deployment.deploy(kind, version, reason, record, timeout or 300, report)
            else:
                _refuse_unknown(kind, service, version)
                wanted = deployment.Wanted(service, version, reason, instances, strategy, keep_warm)
                shown = deployment.deploy_service(kind, wanted, record, timeout or 3600, report)
    except ImageError as error:
        raise StepFailed(str(error)) from error
    if json:
        show.as_json(asdict(done) if service is None else shown.model_dump())
    elif service is None:
        typer.echo(f"{kind} runs {version}: {done.containers} containers, all healthy, after {done.seconds:.0f} s"
                   f" ({done.noted})")  # fmt: skip
    else:
        typer.echo(f"{service} {version}: {shown.said}")
        typer.echo(f"For the next `up`: MCP_{service.upper()}_VERSION={version} in compose/.env")


def _refuse_without_service(**given: object) -> None:
    if odd := [name for name, value in given.items() if value is not None]:
        raise BadInput(f"--{odd[0].replace('_', '-')} is about one service; name it: tekup deploy prod search …")


def _refuse_unknown(kind: str, service: str, version: str) -> None:
    if kind == "swarm":
        raise BadInput("one service is deployed on one machine; on a Swarm run its new version beside the old one "
                       "with MCP_DEPLOY_BESIDE=SERVICE=VERSION, then shift calls: docs/containers.md")  # fmt: skip
    if service not in SERVICES:
        raise BadInput(f"there is no service {service!r}; there are: {', '.join(SERVICES)}")
    if version == "latest":
        raise BadInput("latest says nothing of which version that is; name it, as in --version 1.2.0")
