"""The page of gateways beside one another says what is lost as plainly as what is won."""

from __future__ import annotations

from dataclasses import replace

from tests.bench.gateways.measure import Calls, Changed, Death
from tests.bench.gateways.page import Found, Measured, document, lines, plot, verdicts
from tests.bench.gateways.standing import BARE, CONTEXTFORGE, OURS

ERA = "2026-07-28"


def calls(rate: float, p50_ms: float, cpu_ms: float = 1.0, failed: int = 0) -> Calls:
    return Calls((rate,), (p50_ms,), (2 * p50_ms,), (3 * p50_ms,), failed, cpu_ms)


def measured(name: str, rate: float, p50_ms: float) -> Measured:
    return Measured(
        name=name,
        era=ERA,
        on="nothing besides",
        calls={clients: calls(rate, p50_ms) for clients in (1, 8, 64)},
        memory_mib=(10.0, 20.0),
        beside_mib=0.0,
        session_kib=None,
        death=Death(1000, 2, 0.5) if name == OURS else None,
        changed=Changed(2000, 0) if name == BARE else None,
        listed=calls(100, 5.0),
    )


RUN = Found(
    measured=[measured(OURS, 900, 1.1), measured(BARE, 1000, 1.0), measured(CONTEXTFORGE, 30, 30)],
    bridges=[("bridges, a child, 1 clients: ours", "p50 1.4 ms")],
    missing={"ToolHive vMCP": "vmcp is not available"},
    seconds=4,
    rounds=3,
    machine="2 cores",
    date="2026-11-27",
)


def test_what_was_wanted_stands_beside_what_came_of_it() -> None:
    said = "\n".join(verdicts(RUN))
    assert "calls/s 0.90x (wanted 0.9x or more), p50 1.10x" in said
    assert "calls/s 30.0x (wanted 10x or more), p95 0.037x" in said


def test_whoever_is_better_is_named_and_by_how_much() -> None:
    page = document(RUN)
    lost = page.split("## Where others are better")[1]
    assert f"{ERA}, {BARE}: 1,000 calls/s against 900 with 1 client" in lost
    assert CONTEXTFORGE not in lost
    assert "2 of 1,000, 0.5 s" in page
    assert "0 of 2,000" in page
    assert "${" not in page


def test_who_speaks_the_older_version_alone_is_compared_with_our_newer_too() -> None:
    older = [replace(one, era="2025-06-18") for one in RUN.measured if one.name == CONTEXTFORGE]
    said = "\n".join(verdicts(replace(RUN, measured=[RUN.measured[0], *older])))
    assert "ours over ContextForge by 2025-06-18, which is all it speaks: calls/s 30.0x" in said


def test_bridges_and_what_was_left_out_are_on_the_page_and_on_the_terminal() -> None:
    for shown in (document(RUN), "\n".join(lines(RUN))):
        assert "p50 1.4 ms" in shown
        assert "ToolHive vMCP: vmcp is not available" in shown


def test_calls_that_failed_are_told() -> None:
    first = RUN.measured[0]
    failing = replace(first, calls={**first.calls, 8: calls(900, 1.1, failed=7)})
    assert "900, 7 failed" in document(replace(RUN, measured=[failing]))


def test_the_terminal_and_the_picture_have_every_gateway() -> None:
    for shown in ("\n".join(lines(RUN)), plot(RUN)):
        assert all(one.name in shown for one in RUN.measured)
