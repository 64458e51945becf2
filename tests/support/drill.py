"""Disaster drills: how long it took until all was well again, against the bound, told together at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator

_SEEN: list[tuple[str, float, float]] = []


def recovered(what: str, took_s: float, bound_s: float) -> None:
    """Note that something was well again.

    Args:
        what: What was lost.
        took_s: How long it took, in seconds.
        bound_s: The most it may take.

    Raises:
        AssertionError: It took longer.
    """
    _SEEN.append((what, took_s, bound_s))
    assert took_s < bound_s, f"{what}: {took_s:.1f} s, at most {bound_s:.0f} s"


def told() -> Iterator[str]:
    """A line for each."""
    for what, took_s, bound_s in _SEEN:
        yield f"{what:<60} {took_s:>7.1f} s   at most {bound_s:.0f} s"
