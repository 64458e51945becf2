"""The checker of chaos runs notices every broken promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.account import Account, Allowed, accounted
from tests.chaos.calls import Sent

GOOD = Sent("e-1", "http://gate", "/mcp", 10.0, 10.1, "good", "i1", "1.0.0", "e-1")
LOST = replace(GOOD, end="lost", said="ReadError", version="", echoed="")
RUN = {"e-1": ["begun", "done"]}
DIED = Allowed(from_s=10.05, until_s=10.5, nothing=False)


def account(
    *sent: Sent,
    intruded: tuple[Sent, ...] = (),
    steps: dict[str, list[str]] | None = None,
    allowed: Allowed | None = None,
) -> Account:
    return accounted(sent, intruded, RUN if steps is None else steps, allowed or Allowed(), ("1.0.0",))


def test_a_call_that_was_answered_and_ran_once_is_in_order() -> None:
    assert account(GOOD) == Account(1, 0, 0.0, ())


@pytest.mark.parametrize(
    ("sent", "steps", "said"),
    [
        (GOOD, {"e-1": ["begun", "done", "begun", "done"]}, "ran 2 times"),
        (LOST, {"e-1": ["begun", "begun"]}, "ran 2 times"),
        (GOOD, {}, "was answered and stands in the ledger as ()"),
        (GOOD, {"e-1": ["begun"]}, "was answered and stands in the ledger as"),
        (replace(GOOD, echoed="e-2"), RUN, "was answered with 'e-2'"),
        (replace(GOOD, version="6.6.6"), RUN, "was answered by version '6.6.6'"),
        (LOST, {}, "failed at"),
        (replace(LOST, end="refused", said="503"), {}, "503"),
    ],
)
def test_each_broken_promise_is_named(sent: Sent, steps: dict[str, list[str]], said: str) -> None:
    broken = account(sent, steps=steps).broken
    assert len(broken) >= 1
    assert any("e-1" in one and said in one for one in broken), broken


def test_two_ends_of_one_call_are_named() -> None:
    assert "a call has two ends" in account(GOOD, GOOD).broken


def test_a_call_in_flight_on_what_died_may_fail_and_none_begun_later_or_ended_before() -> None:
    assert not account(LOST, steps={}, allowed=DIED).broken
    assert account(replace(LOST, began_s=11.0, ended_s=11.1), steps={}, allowed=DIED).broken
    assert account(replace(LOST, began_s=9.0, ended_s=9.5), steps={}, allowed=DIED).broken


def test_calls_of_a_version_that_may_fail_fail() -> None:
    bad = replace(LOST, end="refused", version="1.1.0")
    assert not account(bad, steps={}, allowed=Allowed(versions=("1.1.0",))).broken
    assert account(replace(bad, version="1.0.0"), steps={}, allowed=Allowed(versions=("1.1.0",))).broken


@pytest.mark.parametrize(
    ("intruder", "steps"),
    [
        (GOOD, {}),
        (replace(LOST, end="refused", said="401"), {"e-1": ["begun"]}),
        (replace(LOST, end="refused", said="200 {}"), {}),
    ],
)
def test_a_call_without_a_key_that_ran_or_was_not_refused_is_named(intruder: Sent, steps: dict[str, list[str]]) -> None:
    assert account(intruded=(intruder,), steps=steps).broken


def test_a_call_without_a_key_that_was_refused_is_in_order() -> None:
    assert not account(intruded=(replace(LOST, end="refused", said="401 no key"),), steps={}).broken
