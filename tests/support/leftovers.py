"""Containers, networks and volumes that a test run made and left: found by their names, or, on an engine that is
ours alone, by not having been there before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.engine import Engine

LABEL = "tekup.test"
"""Carried by whatever a test makes without Compose; its value is the run's prefix."""
LISTED = {
    "container": ("ps", "--all", "--no-trunc", "--format", "{{.ID}}\t{{.Names}}\t{{.Labels}}"),
    "network": ("network", "ls", "--no-trunc", "--format", "{{.ID}}\t{{.Name}}\t{{.Labels}}"),
    "volume": ("volume", "ls", "--format", "{{.Name}}\t{{.Name}}\t{{.Labels}}"),
}
REMOVE = {"container": ("rm", "--force", "--volumes"), "network": ("network", "rm"), "volume": ("volume", "rm")}
OF_THE_ENGINE = {"bridge", "host", "none"}


@dataclass(frozen=True, order=True)
class Thing:
    """Something an engine keeps."""

    kind: str
    id: str
    name: str
    labels: str

    def __str__(self) -> str:
        """For messages."""
        return f"{self.kind} {self.name}"


def things(engine: Engine) -> set[Thing]:
    """Everything there is but what every engine has."""
    return {
        Thing(kind, *line.split("\t", 2))
        for kind, listing in LISTED.items()
        for line in engine.docker(*listing).splitlines()
        if kind != "network" or line.split("\t")[1] not in OF_THE_ENGINE
    }


def left(engine: Engine, prefix: str, before: set[Thing]) -> list[Thing]:
    """What a run has left, containers first.

    Args:
        engine: Where.
        prefix: What the run's names begin with: Compose projects, and the label's value.
        before: What was there when the run began.
    """
    known = {thing.id for thing in before}
    now = sorted(things(engine))
    return [thing for thing in now if thing.id not in known and (engine.ours or _of(thing, prefix))]


def _of(thing: Thing, prefix: str) -> bool:
    marks = (f"{LABEL}={prefix}", f"com.docker.compose.project={prefix}")
    return thing.name.startswith(prefix) or any(mark in thing.labels for mark in marks)


def removed(engine: Engine, found: list[Thing]) -> Iterator[str]:
    """Remove what was left, so that the next run starts clean; names each."""
    for thing in found:
        yield str(thing)
        engine.docker(*REMOVE[thing.kind], thing.id)
