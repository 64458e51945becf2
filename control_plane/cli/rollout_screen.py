"""A rollout as people see it, in 80 columns. Pure: from the API's answer to text."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from typing import Any

from compose.local.show import WIDTH

SIGNS = {"done": "✔", "now": "●", "ahead": "·"}
VERDICTS = {"pass": "✔", "fail": "✖", "inconclusive": "…", "error": "?"}
QUIET = ("pass", "inconclusive")
MOST_EVENTS = 6
MOST_TOOLS = 6
Shown = dict[str, Any]


def screen(shown: Shown) -> str:
    """The whole screen.

    Args:
        shown: A rollout as the API gives it.
    """
    return "\n".join(_lines(shown))


def _lines(shown: Shown) -> Iterator[str]:
    yield f"{shown['service']} {shown['stable']} -> {shown['canary']}  #{shown['number']}, {shown['strategy']}"
    yield f"{shown['health']}: {shown['phase'].replace('_', ' ')}{_until(shown)}"
    yield from _wrapped(shown["said"], "  ", "  ")
    yield f"Traffic: {shown['traffic']}"
    yield from _wrapped(f"Started by {shown['author']}: {shown['reason']}", "", "  ")
    if shown["steps"]:
        yield ""
        yield "Steps"
        for number, step in enumerate(shown["steps"], 1):
            yield f"  {SIGNS[step['state']]} {number}. {step['said']}"
    if shown["findings"]:
        yield ""
        yield "Checks"
        yield from _checks(shown["findings"])
    yield ""
    yield "Last events"
    first = shown["began"]
    for event in shown["events"][-MOST_EVENTS:]:
        yield from _wrapped(f"{_clock(event['at'] - first):>6}  {event['said']}", "  ", " " * 10)


def reviewed(shown: Shown) -> Iterator[str]:
    """A review: the verdict, when it would have failed, and the checks.

    Args:
        shown: A review as the API gives it.
    """
    yield from _wrapped(f"{shown['verdict']} after {shown['looks']} looks: {shown['said']}", "", "  ")
    if shown["failed"] is not None:
        yield time.strftime("It would have failed at %Y-%m-%d %H:%M:%SZ.", time.gmtime(shown["failed"]))
    yield ""
    yield "Checks"
    yield from _checks(shown["findings"])


def _checks(findings: list[Shown]) -> Iterator[str]:
    """Every check of all calls, and of single tools those that speak against the new version; the others counted."""
    quiet = [one for one in findings if ":" in one["name"] and one["verdict"] in QUIET]
    told = [one for one in findings if one not in quiet]
    if not told:
        quiet.sort(key=lambda one: -one["calls"])
        told, quiet = quiet[:MOST_TOOLS], quiet[MOST_TOOLS:]
    for finding in told:
        aside = " (dry run)" if finding["dry_run"] else ""
        yield from _wrapped(f"{VERDICTS[finding['verdict']]} {finding['sentence']}{aside}", "  ", "    ")
    if quiet:
        good = sum(one["verdict"] == "pass" for one in quiet)
        sign = VERDICTS["pass" if good == len(quiet) else "inconclusive"]
        yield f"  {sign} checks of single tools: {good} pass, {len(quiet) - good} without calls enough"


def _until(shown: Shown) -> str:
    return "" if shown["until_s"] is None else f", for {_clock(shown['until_s'])} at most"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}h{whole % 3600 // 60:02d}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
