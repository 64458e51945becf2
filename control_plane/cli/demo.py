"""``tekup demo``: a version that breaks under load is rolled back by itself, for everybody to see."""

from __future__ import annotations

import contextlib
import json as json_text
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from compose.local.errors import BadInput, WaitedTooLong
from compose.local.exits import Exit
from compose.local.layout import Layout
from compose.local.link import Link
from compose.local.progress import reporter
from compose.local.ready import wait_until_scaled
from compose.local.served import Target
from compose.local.status import Wish
from compose.local.up import Up, bring_up
from control_plane.cli import show
from control_plane.cli.client import Api
from control_plane.cli.options import JsonFlag
from control_plane.cli.rollout_screen import screen
from control_plane.cli.rollout_told import POLL_S, Shown

if TYPE_CHECKING:
    from compose.local.demo_load import Counted

SERVICE, VERSION = "search", "demo"
TOOL, ARGUMENTS = "search_files", {"query": "welcome", "limit": 1}
BROKEN = [{"tool": "search_*", "rate": 0.5, "error": "this version is broken, for the demo"}]
STEPS: list[show.Json] = [{"weight_pct": 10, "bake_s": 10}, {"weight_pct": 50, "bake_s": 60}]
UP_S = 180.0
FIRST_CALLS = 20
"""Calls that the new version answers well before it breaks: what is broken from the start gets none at all."""
CLEAR = "\x1b[H\x1b[2J"
PATH = f"/v1/services/{SERVICE}/rollout"


@dataclass(frozen=True)
class Ended:
    """How it went."""

    rollout: Shown
    counted: Counted
    broken_s: float
    """From the moment the version broke until it got no call any more."""


def demo(
    timeout: Annotated[float, typer.Option(min=30, help="Seconds the rollout may take.")] = 240,
    json: JsonFlag = False,
) -> None:
    """Watch a bad version of search being rolled back by itself, under load.

    Brings the environment in this directory up, with Prometheus, unless it runs; starts a second version of search,
    gives it a tenth of some calls, and breaks it. What it made is taken away again; the rollout stays in the history.

    Example: tekup demo
    """
    layout = Layout(Path.cwd())
    with reporter() as report:
        running = bring_up(layout, UP_S, report, {"MCP_WITH": "prometheus"})
    if not running.extras.get("prometheus"):
        raise BadInput("rollouts are judged by Prometheus, which does not run here: `tekup down`, then `tekup demo`")
    place = where(running.parts.url("MCP_CONTROL_PLANE_PORT"), layout)
    if not json:
        typer.echo(place)
    ended = _played(layout, running, timeout, "" if json else place)
    if json:
        show.as_json(_data(ended))
    else:
        _tell(ended)
    if ended.rollout["phase"] != "rolled_back":
        raise typer.Exit(Exit.FAILED)


def where(operators: str, layout: Layout) -> str:
    """Where the same is seen in the console, and how one gets in.

    Args:
        operators: the address of the operators' API.
        layout: the environment.
    """
    token = layout.operator_token.relative_to(layout.directory)
    return f"In the console: {operators}/console/services/{SERVICE}/rollout\n  its token: cat {token}"


def _played(layout: Layout, running: Up, timeout_s: float, place: str) -> Ended:
    from compose.local.demo_load import Ask, loaded  # noqa: PLC0415 (the SDK takes 0.6 s to import)

    api, drill = Api.here(), layout.drills / f"{SERVICE}-{VERSION}.json"
    target = Target(running.gateway, running.key, layout.workspace, "")
    ask = Ask(SERVICE, TOOL, {**ARGUMENTS, "path": str(layout.workspace)})
    with _second_version(layout), _taken_away(drill), loaded(target, ask) as counted:
        api.ask("POST", PATH, {"version": VERSION, "steps": STEPS, "reason": "tekup demo", "replace": True})
        until_s, broke_s = time.monotonic() + timeout_s, 0.0
        while True:
            shown = cast("Shown", api.ask("GET", PATH))
            if place:
                _draw(shown, counted, place, broken=bool(broke_s))
            if shown["ended"] or shown["phase"] == "keeping_warm":
                return Ended(shown, counted, time.monotonic() - broke_s if broke_s else 0.0)
            if time.monotonic() >= until_s:
                api.ask("POST", f"{PATH}/abort", {"reason": "the demo took too long"})
                raise WaitedTooLong(f"the rollout has not ended after {timeout_s:.0f} s: {shown['said']}")
            if not broke_s and counted.of(VERSION)[0] >= FIRST_CALLS:
                drill.write_text(json_text.dumps(BROKEN))
                broke_s = time.monotonic()
            time.sleep(POLL_S)


@contextlib.contextmanager
def _second_version(layout: Layout) -> Iterator[None]:
    """An instance of the version, while the block runs."""

    def scaled(count: int) -> None:
        with reporter() as report:
            taken_up = Link(layout).scale(Wish(service=SERVICE, version=VERSION, count=count))
            wait_until_scaled(layout, taken_up, report, UP_S)

    scaled(1)
    try:
        yield
    finally:
        scaled(0)


@contextlib.contextmanager
def _taken_away(drill: Path) -> Iterator[None]:
    drill.unlink(missing_ok=True)
    try:
        yield
    finally:
        drill.unlink(missing_ok=True)


def _draw(shown: Shown, counted: Counted, place: str, *, broken: bool) -> None:
    if not sys.stdout.isatty():
        return
    state = "broken by the demo" if broken else "well"
    typer.echo(f"{CLEAR}{screen(shown)}\n\nCalls of the demo: {counted.total}; the version {VERSION} is {state}")
    for name, version in (("stable", str(shown["stable"])), ("new", VERSION)):
        calls, failed = counted.of(version)
        typer.echo(f"  {name:<6} {version:<12} {calls:>6} answered, {failed} of them with an error")
    typer.echo(f"\n{place}")


def _tell(ended: Ended) -> None:
    if not sys.stdout.isatty():
        typer.echo(screen(ended.rollout))
    (calls, failed), total = ended.counted.of(VERSION), ended.counted.total
    typer.echo("")
    show.sentence(
        f"{total} calls; {calls} of them went to the bad version, and {failed} failed."
        + (f" {ended.broken_s:.0f} s after it broke it got none any more." if ended.broken_s else "")
    )
    show.sentence(f"Again: `tekup rollout explain {SERVICE}`, `tekup rollout history {SERVICE}`.")


def _data(ended: Ended) -> show.Json:
    calls, failed = ended.counted.of(VERSION)
    return {
        "phase": ended.rollout["phase"],
        "said": ended.rollout["said"],
        "calls": ended.counted.total,
        "calls_of_the_bad_version": calls,
        "failed": failed,
        "failed_otherwise": sum(n for (_, ok), n in ended.counted.calls.items() if not ok) - failed,
        "broken_s": round(ended.broken_s, 1),
    }
