"""Comparing calls with their copies, and reading both from instances."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import Unavailable
from control_plane.model import Instance
from control_plane.sequential import Count
from control_plane.shadow import Comparison, Side, compare
from control_plane.told import COPIES, shadowed
from tests.support.gateways import FakeGateway

pytestmark = pytest.mark.feature("C7")


def call(trace: str, digest: str = "d", error: str = "", seconds: float = 1.0, tool: str = "search_text") -> Side:
    return Side(trace, tool, digest, error, seconds, copy=False)


def copy(trace: str, digest: str = "d", error: str = "", seconds: float = 1.0, tool: str = "search_text") -> Side:
    return Side(trace, tool, digest, error, seconds, copy=True)


def test_calls_and_copies_are_matched_by_their_id() -> None:
    found = compare([call("1"), call("2", "a"), call("3")], [copy("2", "b"), copy("1"), copy("4")])
    assert (found.matched, found.differing) == (1, 1)
    assert (found.counts.stable, found.counts.canary) == (Count(0, 2), Count(1, 2))


def test_the_first_difference_of_each_tool_is_told() -> None:
    calls = [call("1", "a"), call("2", "a"), call("3", "a", tool="search_files")]
    copies = [copy("1", "b"), copy("2", "c"), copy("3", error="deadline", tool="search_files")]
    told = {tool: str(difference) for tool, difference in compare(calls, copies).examples.items()}
    assert told == {
        "search_text": "search_text: result a against result b on the mirror (call 1)",
        "search_files": "search_files: result a against deadline on the mirror (call 3)",
    }


def test_failures_of_one_kind_are_alike_whatever_they_say() -> None:
    found = compare([call("1", "x", "tool_error")], [copy("1", "y", "tool_error")])
    assert (found.matched, found.main_errors, found.mirror_errors) == (1, 1, 1)
    assert compare([call("1", "x", "tool_error")], [copy("1", "x", "error")]).differing == 1


def test_a_failure_of_the_call_alone_is_not_the_mirrors() -> None:
    found = compare([call("1", error="error"), call("2")], [copy("1"), copy("2", error="error")])
    assert (found.counts.stable, found.counts.canary) == (Count(1, 2), Count(1, 2))
    assert (found.main_errors, found.mirror_errors) == (1, 1)


def test_the_mirrors_pace_is_that_of_the_pairs() -> None:
    found = compare(
        [call("1", seconds=1), call("2", seconds=3), call("3", seconds=99)], [copy("1"), copy("2", seconds=1)]
    )
    assert found.latency_ratio == 0.5
    assert Comparison().latency_ratio is None


def test_no_pair_counts_twice_and_what_came_late_still_counts() -> None:
    first = compare([call("1"), call("2")], [copy("1")])
    again = compare([call("1"), call("2")], [copy("1"), copy("2", "x")], first)
    assert (again.matched, again.differing) == (1, 1)
    # The one side of call 1 is forgotten, then both.
    later = compare([call("2"), call("3")], [copy("1"), copy("2", "x"), copy("3")], again)
    assert (later.matched, later.differing) == (2, 1)
    assert compare([], [], later).counted == frozenset()


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from("ab"), st.sampled_from("ab")), max_size=30),
    st.integers(0, 30),
)
def test_looking_in_between_changes_nothing(rows: list[tuple[int, str, str]], cut: int) -> None:
    unique = {str(number): (ours, theirs) for number, ours, theirs in rows}
    calls = [call(trace, ours) for trace, (ours, _) in unique.items()]
    copies = [copy(trace, theirs) for trace, (_, theirs) in unique.items()]
    once = compare(calls, copies)
    twice = compare(calls, copies, compare(calls[:cut], copies[:cut]))
    assert once.counts == twice.counts
    assert once.counted == twice.counted


def test_what_each_instance_tells_is_gathered_and_who_tells_nothing_is_named() -> None:
    side = {"trace": "1", "tool": "t", "digest": "d", "error": "", "seconds": 0.5, "copy": False}
    told: dict[str, dict[str, Any]] = {
        "search_1_000000": {"sides": [side]},
        "search_1_000002": {"sides": {"x": 1}},
        "search_1_000003": {},
    }

    def tell(target: str, method: str) -> Mapping[str, Any]:
        assert method == COPIES
        if target not in told:
            raise Unavailable(f"{target} is not there")
        return told[target]

    async def ask() -> tuple[tuple[Side, ...], tuple[str, ...]]:
        instances = [Instance("search", "1", f"{number:06x}", "127.0.0.1", 1) for number in range(4)]
        return await shadowed(FakeGateway(tells=tell), instances)

    found, problems = asyncio.run(ask())
    assert found == (Side("1", "t", "d", "", 0.5, copy=False),)
    assert problems == (
        "search_1_000001 is not there",
        "search_1_000002 does not tell of copied calls in a form that is known here",
        "search_1_000003 does not tell of copied calls in a form that is known here",
    )
