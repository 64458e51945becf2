"""What is new between two readings of the metrics source."""

import pytest

from control_plane.readings import Counts, Durations, news
from control_plane.sequential import Block, Count

EDGES = (0.1, 0.25, 0.5)


def counts(stable: tuple[int, int], canary: tuple[int, int]) -> Counts:
    return Counts(Count(*stable), Count(*canary))


def test_without_a_reading_before_counts_are_from_zero() -> None:
    now = counts((1, 10), (2, 5))
    assert news(None, now).calls == Block(now.stable, now.canary)


def test_counts_are_what_came_since_the_reading_before() -> None:
    new = news(counts((1, 10), (2, 5)), counts((1, 30), (3, 9)))
    assert new.calls == Block(Count(0, 20), Count(1, 4))
    assert not new.problem


def test_a_bad_call_seen_before_it_is_counted_as_a_call_waits_for_it() -> None:
    early = news(counts((0, 10), (5, 5)), counts((0, 10), (8, 8)))
    torn = news(counts((0, 10), (5, 6)), counts((0, 10), (8, 8)))
    assert early.calls.canary == Count(3, 3)
    assert torn.calls.canary == Count(2, 2)
    assert news(torn.before, counts((0, 10), (8, 9))).calls.canary == Count(1, 1)


@pytest.mark.parametrize("now", [counts((0, 10), (2, 5)), counts((1, 9), (2, 5)), counts((1, 10), (2, 3))])
def test_a_counter_that_went_back_gives_no_news_and_a_fresh_start(now: Counts) -> None:
    new = news(counts((1, 10), (2, 5)), now)
    assert "went back" in new.problem
    assert new.calls == Block()
    assert news(new.before, now).problem == ""


def test_slow_is_above_the_first_edge_that_held_95_percent_of_stables_calls_before() -> None:
    before = Durations(EDGES, (80, 96, 100, 100), (0, 0, 0, 0))
    new = news(before, Durations(EDGES, (80, 96, 100, 200), (1, 4, 5, 10)))
    assert new.edge_s == 0.25
    assert new.calls == Block(Count(100, 100), Count(6, 10))


@pytest.mark.parametrize(
    ("stable", "edge"),
    [((95, 100, 100, 100), 0), ((94, 94, 100, 100), 2), ((0, 0, 10, 100), 2), ((0, 0, 0, 0), None)],
)
def test_the_edge_is_the_next_above_p95_or_the_last(stable: tuple[int, ...], edge: int | None) -> None:
    assert Durations(EDGES, stable, (0, 0, 0, 0)).edge_above_p95() == edge


def test_until_stable_has_been_timed_nobody_is_slow() -> None:
    first = Durations(EDGES, (80, 96, 100, 100), (0, 0, 0, 10))
    assert news(None, first).calls == Block()
    untimed = Durations(EDGES, (0, 0, 0, 0), (0, 0, 0, 0))
    assert news(untimed, first).calls == Block()


def test_a_histogram_that_went_back_or_changed_its_edges_gives_no_news() -> None:
    before = Durations(EDGES, (80, 96, 100, 100), (1, 1, 1, 1))
    assert "went back" in news(before, Durations(EDGES, (80, 96, 100, 100), (0, 1, 1, 1))).problem
    assert "another form" in news(before, Durations((0.1, 0.25, 1), (80, 96, 100, 100), (1, 1, 1, 1))).problem
    assert "another form" in news(before, counts((0, 0), (0, 0))).problem


@pytest.mark.parametrize(
    ("edges", "stable", "said"),
    [
        ((), (1,), "edges of a histogram must rise"),
        ((0.5, 0.1), (1, 1, 1), "edges of a histogram must rise"),
        ((float("nan"), 0.1), (1, 1, 1), "edges of a histogram must rise"),
        ((0.1, 0.5), (1, 1), "a histogram of 2 edges has one count more, not 2"),
        ((0.1, 0.5), (2, 1, 3), "2 bad of 1 calls cannot be"),
        ((0.1, 0.5), (-1, 1, 3), "cannot be"),
    ],
)
def test_histograms_that_cannot_be_are_refused(edges: tuple[float, ...], stable: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Durations(edges, stable, stable)
