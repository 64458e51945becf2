"""Lines through what was measured are tried on a size that they were not drawn through."""

from __future__ import annotations

from tests.capacity.model import Curve, document, lines

STRAIGHT = Curve("memory, MiB", "services", [(1, 12.0), (50, 110.0), (100, 210.0), (200, 410.0)])
BENT = Curve("time, ms", "tools", [(1, 1.0), (10, 100.0), (100, 20_000.0), (1000, 1_000_000.0)])


def test_the_size_before_the_last_is_foretold_and_not_drawn_through() -> None:
    assert STRAIGHT.held_out == (100, 210.0)
    spoilt = Curve("memory, MiB", "services", [(1, 12.0), (50, 110.0), (100, 999.0), (200, 410.0)])
    assert spoilt.line == STRAIGHT.line
    assert not spoilt.holds


def test_a_straight_line_holds_and_a_curve_does_not() -> None:
    assert STRAIGHT.holds
    assert STRAIGHT.missed < 0.01
    assert not BENT.holds
    said = list(lines([STRAIGHT, BENT]))
    assert [one[:4] for one in said[::2]] == ["  ok", "FAIL"]


def test_what_two_measurings_of_one_size_differ_by_is_no_failure() -> None:
    noisy = Curve("writes", "clients", [(1, 2.0), (10, 3.0), (100, 5.0), (1000, 2.5)], least=3.0)
    assert noisy.missed > 0.2
    assert noisy.holds


def test_the_page_says_what_a_line_says_of_a_thousand_machines_only_where_it_holds() -> None:
    page = document([STRAIGHT, Curve("time, ms", "services", BENT.points)], "2 cores", "2026-11-27")
    large = page.split("## A thousand machines")[1]
    assert "| memory, MiB | 1,000 services |" in large
    assert "time, ms" not in large
    assert "${" not in page
