"""``tekup rollout …``: new versions on their way, over the HTTP API."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

import typer

from compose.local.errors import BadInput, NotRunning
from compose.local.exits import Exit
from control_plane.cli import show
from control_plane.cli.client import Api, ApiFailed
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, part
from control_plane.cli.rollout_screen import reviewed, screen
from control_plane.cli.rollout_told import POLL_S, Shown, begin, done

PATIENCE_S = 60.0
CLEAR = "\x1b[H\x1b[2J"

rollout = typer.Typer(no_args_is_help=True, help="Bring a new version of a service to its clients, judged on the way.")
Service = Annotated[str, typer.Argument(help="The service.")]
WaitFlag = Annotated[bool, typer.Option("--wait/--no-wait", help="See it through contract and probes, or not.")]


@rollout.command("start")
def start(
    service: Service,
    version: Annotated[str, typer.Argument(help="The version that should become stable.")],
    strategy: Annotated[str, typer.Option(help="canary, blue-green or immediate.")] = "",
    step: Annotated[
        list[str] | None,
        typer.Option("--step", metavar="PCT[:SECONDS]|mirror", help="A step and its shortest stay; repeat."),
    ] = None,
    tool: Annotated[list[str] | None, typer.Option("--tool", help="Only tools of this glob; repeat.")] = None,
    cohort: Annotated[str, typer.Option(help="Only clients of this cohort.")] = "",
    split: Annotated[str, typer.Option(help="request, or client: a client stays on its side.")] = "",
    analysis: Annotated[bool, typer.Option("--analysis/--no-analysis", help="Wait for a verdict in --step.")] = True,
    approval: Annotated[bool, typer.Option("--approval", help="Ask before the version gets everything.")] = False,
    waive: Annotated[list[str] | None, typer.Option(help="A breach of the contract that does not count.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="End the rollout that is under way.")] = False,
    wait: WaitFlag = True,
    dry_run: DryRunFlag = False,
    reason: Reason = NO_REASON,
    json: JsonFlag = False,
) -> None:
    """Start a rollout. What is not said here is as the service's delivery says.

    Waits up to a minute until contract and probes are through; ends with 1 if they refuse the version, with 4 if they
    take longer.

    Example: tekup rollout start search 1.3.0 --step 1:30 --step 10:120 -r "faster"
    """
    whom = {"tools": tool or [], "cohort": cohort}
    if (tool or cohort) and not step:
        raise BadInput("--tool and --cohort say whom a --step is for; give at least one, such as --step 5:60")
    wanted = {
        "strategy": strategy or None,
        "steps": [_step(text) | whom | {"analysis": analysis} for text in step] if step else None,
        "split": split or None,
        "approval": approval or None,
    }
    body: show.Json = {
        "version": version,
        "reason": reason,
        "waive": waive or [],
        "replace": replace,
        "dry_run": dry_run,
    }
    body |= {name: value for name, value in wanted.items() if value is not None}
    begin(Api.here(), _path(service), "", body, waits=wait and not dry_run, json_wanted=json)


def _step(text: str) -> dict[str, object]:
    what, _, stay = text.partition(":")
    try:
        bake = {"bake_s": int(stay)} if stay else {}
        weight: dict[str, object] = {"mirror": True} if what == "mirror" else {"weight_pct": _share(what)}
    except ValueError as error:
        raise BadInput(f"{text!r} is no step; for example 5:60 (5 % for at least 60 s), or mirror:60") from error
    return weight | bake


def _share(text: str) -> float:
    share = float(text.removesuffix("%"))
    if not math.isfinite(share):  # as JSON cannot carry
        raise ValueError(text)
    return share


def _verb(name: str, text: str, example: str) -> None:
    def command(
        service: Service, dry_run: DryRunFlag = False, reason: Reason = NO_REASON, json: JsonFlag = False
    ) -> None:
        _steer(service, name, {"reason": reason, "dry_run": dry_run}, json_wanted=json)

    command.__doc__ = f"{text}\n\n    Example: tekup rollout {example}"
    rollout.command(name)(command)


_verb("pause", "Hold a rollout where it is; it is still rolled back if it fails.", 'pause search -r "release freeze"')
_verb("resume", "Go on after a pause.", 'resume search -r "freeze is over"')


@rollout.command("retry")
def retry(
    service: Service,
    wait: WaitFlag = True,
    dry_run: DryRunFlag = False,
    reason: Reason = NO_REASON,
    json: JsonFlag = False,
) -> None:
    """Start the last rollout again, as it was; waits as `start` does.

    Example: tekup rollout retry search -r "the database was down"
    """
    body: show.Json = {"reason": reason, "dry_run": dry_run}
    begin(Api.here(), _path(service), "/retry", body, waits=wait and not dry_run, json_wanted=json)


@rollout.command("promote")
def promote(
    service: Service,
    full: Annotated[bool, typer.Option("--full", help="Give the new version everything now.")] = False,
    dry_run: DryRunFlag = False,
    reason: Reason = NO_REASON,
    json: JsonFlag = False,
) -> None:
    """Agree to what a rollout asks, or end its present step.

    Example: tekup rollout promote search --reason "looked at the traces"
    """
    _steer(service, "promote", {"reason": reason, "full": full, "dry_run": dry_run}, json_wanted=json)


def _way_back(name: str, text: str, example: str) -> None:
    def command(
        service: Service,
        drain: Annotated[bool, typer.Option("--drain", help="Let the new version keep its handles.")] = False,
        dry_run: DryRunFlag = False,
        reason: Reason = NO_REASON,
        json: JsonFlag = False,
    ) -> None:
        _steer(service, name, {"reason": reason, "drain": drain, "dry_run": dry_run}, json_wanted=json)

    command.__doc__ = f"{text}\n\n    Example: tekup rollout {example}"
    rollout.command(name)(command)


_way_back("abort", "Give the stable version everything at once.", 'abort search --reason "wrong results"')
_way_back(
    "undo",
    "Flip back to the version before the last rollout, in one step.",
    'undo search --reason "customers complain"',
)


def _steer(service: str, verb: str, body: show.Json, *, json_wanted: bool) -> None:
    answer = Api.here().ask("POST", f"{_path(service)}/{verb}", body)
    done(answer, json_wanted=json_wanted)


@rollout.command("list")
def list_all(json: JsonFlag = False) -> None:
    """The last rollout of every service.

    Example: tekup rollout list
    """
    answer = Api.here().ask("GET", "/v1/rollouts")
    _listed(answer, json_wanted=json, empty="No rollout yet; start one: tekup rollout start SERVICE VERSION")


@rollout.command("history")
def history(service: Service, json: JsonFlag = False) -> None:
    """All rollouts of a service, the newest first.

    Example: tekup rollout history search
    """
    answer = Api.here().ask("GET", f"{_path(service)}s")
    _listed(answer, json_wanted=json, empty=f"No rollout of {service} yet.")


def _listed(answer: show.Json, *, json_wanted: bool, empty: str) -> None:
    if json_wanted:
        show.as_json(answer)
        return
    rows = [
        (f"{one['service']} #{one['number']}", f"{one['stable']} -> {one['canary']}", one["phase"], one["said"])
        for one in cast("list[Shown]", answer["rollouts"])
    ]
    show.table(("ROLLOUT", "VERSIONS", "PHASE", "WHY"), rows, empty)


@rollout.command("explain")
def explain(service: Service, json: JsonFlag = False) -> None:
    """Say in one sentence why a rollout is where it is.

    Example: tekup rollout explain search
    """
    answer = cast("Shown", Api.here().ask("GET", _path(service)))
    if json:
        show.as_json({name: answer[name] for name in ("service", "canary", "phase", "health", "said", "until_s")})
    else:
        show.sentence(str(answer["said"]))


@rollout.command("lint")
def lint(service: Service, json: JsonFlag = False) -> None:
    """Look over how a rollout of a service would go.

    Example: tekup rollout lint search
    """
    answer = Api.here().ask("POST", f"{_path(service)}/lint", {})
    if json:
        show.as_json(answer)
        return
    found = cast("list[str]", answer["warnings"])
    for text in found:
        show.sentence(f"- {text}")
    if not found:
        typer.echo("Nothing to be said against it.")


@rollout.command("review")
def review(
    service: Service,
    stable: Annotated[str, typer.Argument(help="The version to compare with.")],
    canary: Annotated[str, typer.Argument(help="The version to judge.")],
    since: Annotated[float, typer.Option(help="Begin so many minutes ago.", min=0.1)] = 30,
    minutes: Annotated[float | None, typer.Option("--for", help="Minutes to look at; to now without.")] = None,
    tool: Annotated[list[str] | None, typer.Option("--tool", help="A tool to judge by itself; repeat.")] = None,
    json: JsonFlag = False,
) -> None:
    """Say what the analysis would have said in the past; nothing is changed.

    Example: tekup rollout review search 1.2.0 1.3.0 --since 60 --for 20
    """
    body: show.Json = {"stable": stable, "canary": canary, "since_s": since * 60, "tools": tool or []}
    body |= {"for_s": minutes * 60} if minutes else {}
    answer = cast("Shown", Api.here().ask("POST", f"{_path(service)}/review", body))
    if json:
        show.as_json(answer)
        return
    typer.echo("\n".join(reviewed(answer)))


@rollout.command("status")
def status(
    service: Service,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew until it ends.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it ends; exit 1 if it was not promoted.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.", min=1)] = 3600,
    json: JsonFlag = False,
) -> None:
    """Show a rollout: where it is, why, its steps and checks.

    Example: tekup rollout status search --wait --timeout 900
    """
    draws = watch and not json
    last = _followed(service, _Watching(api=Api.here(), draws=draws, waits=wait or watch, timeout_s=timeout))
    if json:
        show.as_json(last)
    elif not (watch and sys.stdout.isatty()):
        typer.echo(screen(last))
    if wait and not last["ended"]:
        raise typer.Exit(Exit.TIMEOUT)
    if wait and last["phase"] != "succeeded":
        raise typer.Exit(Exit.FAILED)


@dataclass(frozen=True)
class _Watching:
    api: Api
    draws: bool
    waits: bool
    timeout_s: float


def _followed(service: str, how: _Watching, clock: Callable[[], float] = time.monotonic) -> Shown:
    until_s, drawn, last_s = clock() + how.timeout_s, "", clock()
    while True:
        try:
            shown = cast("Shown", how.api.ask("GET", _path(service)))
        except (ApiFailed, NotRunning):
            # Another replica takes over, or it is started anew: the rollout goes on, and so does who waits for it.
            if not how.waits or not drawn or clock() >= min(until_s, last_s + PATIENCE_S):
                raise
            time.sleep(POLL_S)
            continue
        last_s = clock()
        if how.draws:
            _draw(shown, drawn)
        drawn = _line(shown)
        if not how.waits or shown["ended"] or clock() >= until_s:
            return shown
        time.sleep(POLL_S)


def _draw(shown: Shown, drawn: str) -> None:
    """The whole screen anew; where nobody sees a screen, a line for each change."""
    if sys.stdout.isatty():
        typer.echo(CLEAR + screen(shown))
    elif _line(shown) != drawn:
        show.sentence(_line(shown))


def _line(shown: Shown) -> str:
    return f"{shown['phase'].replace('_', ' ')}: {shown['said']}"


def _path(service: str) -> str:
    return f"/v1/services/{part(service)}/rollout"
