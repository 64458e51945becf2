"""Runs the conformance suite against a URL and reads every check it made."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tests.support.programs import program

SUITE_S = 180.0
_FOLDER = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


class Status(StrEnum):
    """What became of a check."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    WARNING = "WARNING"
    SKIPPED = "SKIPPED"
    INFO = "INFO"
    ABSENT = "ABSENT"
    """Not the suite's word: it did not come to this check."""


class Place(NamedTuple):
    """One check of one run; the suite makes some several times under one id."""

    scenario: str
    check: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.scenario}: {self.check}" + (f" (no. {self.nth})" if self.nth > 1 else "")


class Verdict(BaseModel):
    """What the suite wrote about a check."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    status: Status
    message: str = Field(default="", validation_alias="errorMessage")


_ABSENT = Verdict(id="", status=Status.ABSENT)
_VERDICTS = TypeAdapter(list[Verdict])


@dataclass(frozen=True)
class Report:
    """A run of the suite.

    Attributes:
        code: Its exit code: 0 if every required scenario passed.
        said: What it printed.
        verdicts: All checks it made.
    """

    code: int
    said: str
    verdicts: Mapping[Place, Verdict]

    def at(self, place: Place) -> Verdict:
        """What became of a check; `ABSENT` if it was not made."""
        return self.verdicts.get(place, _ABSENT)

    @property
    def scenarios(self) -> frozenset[str]:
        """The scenarios that were run."""
        return frozenset(place.scenario for place in self.verdicts)

    @property
    def counts(self) -> Counter[str]:
        """How many checks ended how."""
        return Counter(verdict.status.value for verdict in self.verdicts.values())


def run_suite(url: str, folder: Path, *options: str) -> Report:
    """Run the suite against a server.

    Args:
        url: The server's MCP endpoint.
        folder: An empty folder for what it writes.
        options: `--requirements REVISION` or another choice of scenarios.
    """
    done = subprocess.run(
        [program("conformance"), "server", "--url", url, "--output-dir", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=SUITE_S,
        check=False,
    )
    return Report(done.returncode, done.stdout + done.stderr, read_verdicts(folder))


def read_verdicts(folder: Path) -> dict[Place, Verdict]:
    """The checks a run has written, each at its place."""
    verdicts: dict[Place, Verdict] = {}
    for file in sorted(folder.glob("*/checks.json")):
        named = _FOLDER.fullmatch(file.parent.name)
        assert named, f"the suite wrote {file.parent.name}, which names no scenario"
        made: Counter[str] = Counter()
        for verdict in _VERDICTS.validate_python(json.loads(file.read_text())):
            made[verdict.id] += 1
            verdicts[Place(named[1], verdict.id, made[verdict.id])] = verdict
    return verdicts
