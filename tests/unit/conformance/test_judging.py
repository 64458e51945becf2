"""A comparison that cannot fail proves nothing: what the judges say of runs made up here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.judging import Explanation, differences, expected_of_legacy, explained, not_met, problems
from tests.conformance.suite import Place, Report, Status, Verdict, read_verdicts

PATH = "/test/mcp"
BECAUSE = "it was so when this test was written"


def report(**statuses: str) -> Report:
    """A run of one scenario, `lists`."""
    verdicts = {Place("lists", name): Verdict(id=name, status=Status(status)) for name, status in statuses.items()}
    return Report(0, "", verdicts)


def explanation(check: str, *, scenario: str = "lists", path: str = PATH) -> Explanation:
    return Explanation(paths=(path,), scenario=scenario, checks=(check,), because=BECAUSE)


def test_runs_that_score_the_same_differ_in_nothing() -> None:
    assert differences(report(a="SUCCESS", b="FAILURE"), report(a="SUCCESS", b="FAILURE")) == {}


@pytest.mark.parametrize("status", ["FAILURE", "WARNING", "SKIPPED", "INFO"])
def test_a_check_that_ends_otherwise_is_named_with_its_scenario(status: str) -> None:
    found = differences(report(a="SUCCESS", b="SUCCESS"), report(a="SUCCESS", b=status))
    assert problems(found, (), PATH) == [f"{PATH}: lists: b: SUCCESS directly, {status} here."]


def test_a_check_that_is_not_made_on_one_side_is_a_difference() -> None:
    assert "SUCCESS directly, ABSENT here" in differences(report(a="SUCCESS"), report())[Place("lists", "a")]
    assert "ABSENT directly, FAILURE here" in differences(report(), report(a="FAILURE"))[Place("lists", "a")]


def test_an_explanation_covers_its_own_check_on_its_own_path_only() -> None:
    found = differences(report(a="SUCCESS", b="SUCCESS"), report(a="FAILURE", b="FAILURE"))
    assert problems(found, [explanation("a")], PATH) == [f"{PATH}: lists: b: SUCCESS directly, FAILURE here."]
    assert problems(found, [explanation("*")], PATH) == []
    assert len(problems(found, [explanation("*", path="/mcp")], PATH)) == 2


def test_an_explanation_of_what_is_no_longer_so_is_a_problem() -> None:
    told = problems({}, [explanation("a")], PATH)
    assert len(told) == 1
    assert told[0].startswith(f"{PATH}: lists: a: is explained, but is no longer so")


@pytest.mark.parametrize("status", ["FAILURE", "WARNING"])
def test_what_a_service_does_not_meet_is_told(status: str) -> None:
    assert list(not_met(report(a="SUCCESS", b=status), ["lists"])) == [Place("lists", "b")]


def test_a_scenario_in_which_nothing_was_proved_is_not_met() -> None:
    nothing = report(a="SKIPPED", **{"wire-schema-valid": "SUCCESS"})
    assert list(not_met(nothing, ["lists", "calls"])) == [Place("calls", "any success"), Place("lists", "any success")]


def test_verdicts_are_read_as_the_suite_writes_them_each_time_a_check_was_made(tmp_path: Path) -> None:
    folder = tmp_path / "server-tools-list-2026-11-25T17-45-43-956Z"
    folder.mkdir()
    made = [{"id": "a", "status": "SUCCESS"}, {"id": "a", "status": "FAILURE", "errorMessage": "why", "details": {}}]
    (folder / "checks.json").write_text(json.dumps(made))
    verdicts = read_verdicts(tmp_path)
    assert verdicts[Place("tools-list", "a")].status is Status.SUCCESS
    assert verdicts[Place("tools-list", "a", 2)] == Verdict(id="a", status=Status.FAILURE, errorMessage="why")


def test_what_is_expected_can_be_read() -> None:
    assert explained().through_the_gate
    assert all(":" in entry for entry in expected_of_legacy())
