"""Judges runs of the suite: what differs, what is not met, and which of that has its explanation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.conformance.suite import Place, Report, Status

HERE = Path(__file__).parent
EXPLAINED = HERE / "explained.yml"
LEGACY = HERE / "legacy.yml"
GOOD = frozenset({Status.SUCCESS, Status.SKIPPED, Status.INFO})
WELL_FORMED = "wire-schema-valid"
"""Made of whatever is sent, an error included."""
_LONGEST = 300


class Explanation(BaseModel):
    """Checks that must end as they do, and why.

    Attributes:
        paths: Where.
        scenario: Its name; `*` stands for any characters.
        checks: Their ids; the same.
        because: The reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    paths: tuple[str, ...] = Field(min_length=1)
    scenario: str
    checks: tuple[str, ...] = Field(min_length=1)
    because: str = Field(min_length=20)


class Explained(BaseModel):
    """All of `explained.yml`.

    Attributes:
        through_the_gate: How the everything-server scores differently there than when asked directly.
        over_stdio: The same, of one over stdio behind a bridge.
        not_met: What our own services do not meet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    through_the_gate: tuple[Explanation, ...]
    over_stdio: tuple[Explanation, ...]
    not_met: tuple[Explanation, ...]


def explained() -> Explained:
    """What `explained.yml` says."""
    return Explained.model_validate(yaml.safe_load(EXPLAINED.read_text()))


def expected_of_legacy() -> frozenset[str]:
    """The entries of `legacy.yml`, which the suite itself reads too: `scenario:check`."""
    return frozenset(yaml.safe_load(LEGACY.read_text())["server"])


def differences(direct: Report, other: Report) -> dict[Place, str]:
    """The checks that end differently in two runs.

    Args:
        direct: The run that shows how it should be.
        other: The run to judge.

    Returns:
        For each of them, what became of it here and there.
    """
    found: dict[Place, str] = {}
    for place in sorted(direct.verdicts.keys() | other.verdicts.keys()):
        before, after = direct.at(place), other.at(place)
        if before.status != after.status:
            message = after.message or before.message
            found[place] = f"{before.status} directly, {after.status} here. {message[:_LONGEST]}".strip()
    return found


def not_met(report: Report, scenarios: Collection[str]) -> dict[Place, str]:
    """The checks of these scenarios that did not end well, and the scenarios in which nothing was proved.

    Args:
        report: The run to judge.
        scenarios: Which scenarios count.

    Returns:
        For each of them, what became of it.
    """
    found = {
        place: f"{verdict.status}. {verdict.message[:_LONGEST]}"
        for place, verdict in sorted(report.verdicts.items())
        if place.scenario in scenarios and verdict.status not in GOOD
    }
    told = {place.scenario for place in found}
    proved = {
        place.scenario
        for place, verdict in report.verdicts.items()
        if verdict.status is Status.SUCCESS and place.check != WELL_FORMED
    }
    for scenario in sorted(set(scenarios) - proved - told):
        found[Place(scenario, "any success")] = f"{Status.ABSENT}. It was not run, or all of it was skipped"
    return found


def problems(found: Mapping[Place, str], explanations: Iterable[Explanation], path: str) -> list[str]:
    """What is left when the explained is taken away, and explanations of what no longer is.

    Args:
        found: Differences, or what is not met.
        explanations: All there are.
        path: Where it was found.

    Returns:
        One sentence per problem; none if all is as explained.
    """
    here = [one for one in explanations if path in one.paths]
    patterns = [(one.scenario, check) for one in here for check in one.checks]
    left = [
        f"{path}: {place}: {what}"
        for place, what in found.items()
        if not any(_names(*pattern, place) for pattern in patterns)
    ]
    stale = [
        f"{path}: {scenario}: {check}: is explained, but is no longer so; take it out of {EXPLAINED.name}"
        for scenario, check in patterns
        if not any(_names(scenario, check, place) for place in found)
    ]
    return left + stale


def _names(scenario: str, check: str, place: Place) -> bool:
    return fnmatchcase(place.scenario, scenario) and fnmatchcase(place.check, check)
