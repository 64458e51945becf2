"""Deploys containers, on one machine or three, all or one service of them: what was tested and nothing else."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from compose.images.tested import ids_of, untested
from compose.local.errors import LocalError, StepFailed, WaitedTooLong
from compose.local.operators_api import DeploymentShown, OperatorsApi
from compose.local.progress import Reporter
from compose.local.settings import SERVICES

from . import swarm
from .ask import Inside
from .command import Compose

VERSION = re.compile(r"[0-9A-Za-z.]{1,32}")
AGAIN_S = 1.0
NOTE_S = 20.0


@dataclass(frozen=True)
class Deployed:
    """What came of it."""

    kind: str
    version: str
    images: Mapping[str, str]
    containers: int
    """How many run."""
    seconds: float
    noted: str
    """Where the reason stands, or why it stands nowhere."""


@dataclass(frozen=True)
class Wanted:
    """A version of one service that should be there."""

    service: str
    version: str
    reason: str
    instances: int | None = None
    """None: as many as the stable version has."""
    strategy: str | None = None
    """None: as the service's delivery says, as with the next."""
    keep_warm_s: int | None = None

    def body(self) -> dict[str, object]:
        """What the control plane is asked."""
        return {key: value for key, value in asdict(self).items() if key != "service" and value is not None}


def deploy(kind: str, version: str, reason: str, record: Path, timeout_s: float, report: Reporter) -> Deployed:
    """Bring an environment to a version, or find that it is there; another version is brought back in the same way.

    Args:
        kind: Which environment.
        version: Tag of our images.
        reason: Why; stands in the control plane's history.
        record: Which images were tested.
        timeout_s: The most to wait until all is healthy.
        report: Told what is waited for.

    Raises:
        LocalError: An image was not tested or is not there (nothing was changed then), Compose failed, or not all of it
            became healthy in time.
    """
    began = time.monotonic()
    images = ids_of(version)
    if strange := untested(images, record):
        raise StepFailed(f"not deployed: {', '.join(strange)} not tested, as {record} says; `make test-docker` tests "
                         "what this checkout builds")  # fmt: skip
    if kind == swarm.KIND:
        several = swarm.swarm(version)
        several.up(began + timeout_s, report, _left_out(), _beside(record))
        running, seconds = several.running(), time.monotonic() - began
        return Deployed(kind, version, images, running, seconds, several.note(_what(kind, version), reason, NOTE_S))
    compose = Compose(kind, version)
    compose.run("up", "--detach", "--no-build", "--remove-orphans", *_services(compose))
    _wait(compose, began + timeout_s, report)
    running = len([one for one in compose.containers() if one["State"] == "running"])
    noted = _note(compose, _what(kind, version), reason, report)
    return Deployed(kind, version, images, running, time.monotonic() - began, noted)


def _services(compose: Compose) -> list[str]:
    return sorted(set(compose.run("config", "--services").split()) - _left_out())


def _left_out() -> frozenset[str]:
    return frozenset(filter(None, os.environ.get("MCP_DEPLOY_WITHOUT", "").split(",")))


def _beside(record: Path) -> dict[str, str]:
    """Further versions of services that are to run, each tested."""
    found = {}
    for one in filter(None, os.environ.get("MCP_DEPLOY_BESIDE", "").split(",")):
        service, _, version = one.partition("=")
        if service not in SERVICES or not VERSION.fullmatch(version):
            raise StepFailed(f"MCP_DEPLOY_BESIDE has {one!r}; give SERVICE=VERSION, as in search=0.2.0")
        if strange := untested(ids_of(version, [service]), record):
            raise StepFailed(f"not deployed: {', '.join(strange)} not tested, as {record} says")
        found[service] = version
    return found


def _what(kind: str, version: str) -> str:
    return f"deploy {kind} {version}"


def _wait(compose: Compose, deadline: float, report: Reporter) -> None:
    while waits := [_how(one) for one in compose.containers() if not _well(one)]:
        if time.monotonic() > deadline:
            raise WaitedTooLong(f"not healthy in time: {', '.join(waits)}; see `docker compose logs`")
        report.update("deploy", f"waiting for {', '.join(waits)}")
        time.sleep(AGAIN_S)
    report.over("deploy")


def _well(container: Mapping[str, object]) -> bool:
    """Healthy, running without a health check, or over and done."""
    if container["State"] == "running":
        return container["Health"] in ("", "healthy")
    return container["State"] == "exited" and container["ExitCode"] == 0


def _how(container: Mapping[str, object]) -> str:
    return f"{container['Service']} ({container['Health'] or container['State']})"


def deploy_service(kind: str, wanted: Wanted, record: Path, timeout_s: float, report: Reporter) -> DeploymentShown:
    """Have the control plane bring a service to a version, beside the rest of its environment, and wait for it.

    Args:
        kind: Which environment.
        wanted: What.
        record: Which images were tested.
        timeout_s: The most to wait until calls go to it and whoever lost has gone.
        report: Told how it goes.

    Raises:
        LocalError: The image was not tested or is not there, the control plane refused it, it failed (then things are
            as they were), or took longer.
    """
    deadline = time.monotonic() + timeout_s
    if strange := untested(ids_of(wanted.version, [wanted.service]), record):
        raise StepFailed(f"not deployed: {', '.join(strange)} not tested, as {record} says; `make test-docker` tests "
                         "what this checkout builds")  # fmt: skip
    api = plane(Compose(kind, wanted.version), report, NOTE_S)
    shown = api.deploy(wanted.service, wanted.body())
    while not shown.ended:
        if time.monotonic() > deadline:
            raise WaitedTooLong(f"{wanted.service} {wanted.version} is still {shown.stage} ({shown.said}); it goes on "
                                f"by itself: tekup rollout status {wanted.service}")  # fmt: skip
        report.update("deploy", f"{shown.stage}: {shown.said}")
        time.sleep(AGAIN_S)
        shown = plane(Compose(kind, wanted.version), report, NOTE_S).deployment(wanted.service)
    report.over("deploy")
    if shown.stage == "failed" or shown.version != wanted.version:
        raise StepFailed(
            f"{wanted.service} {wanted.version} was not deployed, and things are as they were: {shown.said}"
        )
    return shown


def plane(compose: Compose, report: Reporter, patience_s: float) -> OperatorsApi:
    """The control plane of an environment, asked in its container, and again for so long while it does not answer."""
    return OperatorsApi("http://control-plane", "", report, patience_s, inside=Inside(compose))


def _note(compose: Compose, what: str, reason: str, report: Reporter) -> str:
    """Have it written where every change is written; a new environment may be about to begin its history."""
    deadline = time.monotonic() + NOTE_S
    while True:
        try:
            plane(compose, report, NOTE_S).note(what, reason)
        except (LocalError, httpx.HTTPError) as error:
            if time.monotonic() > deadline:
                return f"not in the history: {error}"
            time.sleep(AGAIN_S)
        else:
            return "in the history of the control plane"
