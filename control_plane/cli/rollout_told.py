"""What people are told of a verb on a rollout, and how a start is seen through its preparation."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, cast

import typer

from compose.local.errors import NotRunning
from compose.local.exits import Exit
from control_plane.cli import show
from control_plane.cli.client import Api, ApiFailed

POLL_S = 1.0
PREPARED_S = 60.0
PREPARING = "preparing"
Shown = dict[str, Any]


def begin(api: Api, path: str, verb: str, body: show.Json, *, waits: bool, json_wanted: bool) -> None:
    """Start a rollout, and see it through its preparation.

    Args:
        api: Whom to ask.
        path: The rollout's.
        verb: What is asked for there: "" to start, "/retry" to start again.
        body: The wish.
        waits: Wait until it has left its preparation, `PREPARED_S` at most.
        json_wanted: Print the answer instead of sentences.

    Raises:
        typer.Exit: With 1 if it was refused by contract or probes, 4 if that takes longer.
    """
    answer = api.ask("POST", path + verb, body)
    shown = cast("Shown", answer["rollout"])
    answer["rollout"] = shown = _through(api, path, shown) if waits else shown
    done(answer, json_wanted=json_wanted)
    if not waits:
        return
    if not json_wanted and not shown["ended"]:
        still = "it is still being prepared; " if shown["phase"] == PREPARING else ""
        show.sentence(f"{still}`tekup rollout status {shown['service']} --watch` follows it")
    if shown["ended"] and shown["phase"] != "succeeded":
        raise typer.Exit(Exit.FAILED)
    if shown["phase"] == PREPARING:
        raise typer.Exit(Exit.TIMEOUT)


def _through(api: Api, path: str, shown: Shown, clock: Callable[[], float] = time.monotonic) -> Shown:
    """The rollout when it has left its preparation, or after `PREPARED_S`."""
    until_s = clock() + PREPARED_S
    while shown["phase"] == PREPARING and clock() < until_s:
        time.sleep(POLL_S)
        # It was started; whether it can be read just now is another matter.
        with contextlib.suppress(ApiFailed, NotRunning):
            shown = cast("Shown", api.ask("GET", path))
    return shown


def done(answer: show.Json, *, json_wanted: bool) -> None:
    """Say what a verb has made of a rollout.

    Args:
        answer: The API's.
        json_wanted: Print it instead.

    Raises:
        typer.Exit: With 4 if it is not in force on every gate.
    """
    shown = cast("Shown", answer["rollout"])
    title = f"rollout {shown['service']} {shown['stable']} -> {shown['canary']}"
    if json_wanted:
        show.as_json(answer)
    elif answer["dry_run"]:
        _told_dry(answer, shown, title)
    else:
        already = "" if answer["changed"] else "so already: "
        lagging = "" if answer["in_force"] else show.ending(answer)
        show.sentence(f"{title}: {already}{shown['said']}{lagging}")
    if not answer["in_force"]:
        raise typer.Exit(Exit.TIMEOUT)


def _told_dry(answer: show.Json, shown: Shown, title: str) -> None:
    if answer["changes"]:
        show.plan(answer)
    would = "it would be" if answer["changed"] else "it is already"
    phase = str(shown["phase"]).replace("_", " ")
    show.sentence(f"{title}: dry run, nothing was written; {would} {phase} ({shown['said']})")
    if answer["changed"] and phase == PREPARING and shown["steps"]:
        steps = "; ".join(step["said"] for step in shown["steps"])
        show.sentence(f"after contract and probes {shown['canary']} would get {steps}; then everything")
