"""``tekup region``: two regions, of which one writes policy and the other follows."""

from __future__ import annotations

import re
import time
from typing import Annotated

import typer

from compose.local.errors import BadInput
from compose.local.exits import Exit
from control_plane.cli import show
from control_plane.cli.asking import Yes, ask_plainly
from control_plane.cli.client import Api
from control_plane.cli.options import DryRunFlag, JsonFlag, Reason, reason_params, rows_of
from control_plane.cli.region_front import front

region = typer.Typer(no_args_is_help=True, help="Two regions: which writes policy, and which follows.")

VERB_S = 60.0
URL = re.compile(r"https?://[^\s/?#]+")
Why = Annotated[str, typer.Option("--reason", "-r", help="Why; stands in the record.", show_default=False)]


@region.command("show")
def region_show(json: JsonFlag = False) -> None:
    """Say which region this is, how far it is behind, and whether the other answers.

    Example: tekup region show
    """
    _told(Api.here().ask("GET", "/v1/region"), json_wanted=json)


@region.command("follow")
def region_follow(
    address: Annotated[str, typer.Argument(help="The home region's operators' API: https://…")],
    reason: Why,
    over: Annotated[
        bool, typer.Option("--replace", help="Put its policy over clients that only this one has.")
    ] = False,
    dry_run: DryRunFlag = False,
    yes: Yes = False,
    json: JsonFlag = False,
) -> None:
    """Follow another region: serve with its policy, and write none.

    Example: tekup region follow https://home.example:3010 --reason "second region"
    """
    body: show.Json = {"peer": address, "over": over}
    question = f"Put the policy of {address} over this region's, clients that only this one has included"
    ask_plainly(question, silent=yes or json or dry_run or not over)
    _change("follow", body, reason, dry_run=dry_run, json_wanted=json)


@region.command("take-over")
def region_take_over(
    reason: Why,
    peer: Annotated[str, typer.Option(help="The other region's operators' API, where it is not known yet.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Although the home region answers.")] = False,
    dry_run: DryRunFlag = False,
    yes: Yes = False,
    json: JsonFlag = False,
) -> None:
    """Be the home region: write policy from now on, in a later epoch.

    The region that was home until then writes no more once it meets this one, and follows. What this one had not got
    of it stays there, in `tekup region left`.

    Example: tekup region take-over --reason "west is lost"
    """
    body: show.Json = {"peer": peer or None, "force": force}
    question = "Leave behind at the home region what this one has not got yet"
    ask_plainly(question, silent=yes or json or dry_run or not force)
    _change("take-over", body, reason, dry_run=dry_run, json_wanted=json)


@region.command("hand-over")
def region_hand_over(reason: Why, dry_run: DryRunFlag = False, json: JsonFlag = False) -> None:
    """Have the other region take over, once it has got every change that was made here.

    Example: tekup region hand-over --reason "west is back"
    """
    _change("hand-over", {}, reason, dry_run=dry_run, json_wanted=json)


@region.command("leave")
def region_leave(reason: Why, dry_run: DryRunFlag = False, yes: Yes = False, json: JsonFlag = False) -> None:
    """Be a region by itself again, which writes its own policy whatever the other does.

    Example: tekup region leave --reason "the second region is given up"
    """
    ask_plainly("Write policy here from now on, beside the other region", silent=yes or json or dry_run)
    _change("leave", {}, reason, dry_run=dry_run, json_wanted=json)


@region.command("left")
def region_left(
    forget: Annotated[bool, typer.Option("--forget", help="They were looked at: forget them.")] = False,
    reason: Reason = "looked at",
    yes: Yes = False,
    json: JsonFlag = False,
) -> None:
    """List changes that were made here and that the home region never had.

    They are in force nowhere. What is still wanted is to be made again at the home; --json shows each document.

    Example: tekup region left
    """
    if forget:
        ask_plainly("Forget what the home region never had", silent=yes or json)
        gone = Api.here().ask("DELETE", "/v1/region/left", params=reason_params(reason, dry_run=False))
        show.as_json(gone) if json else show.sentence(f"{gone['records']} records are forgotten")
        return
    answer = Api.here().ask("GET", "/v1/region/left")
    if json:
        show.as_json(answer)
        return
    rows = [
        (
            f"{one['epoch']}/{one['revision']}",
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one["at"])),
            one["author"],
            one["verb"],
            "\n".join(change["key"] for change in one["changes"]) or "-",
        )
        for one in rows_of(answer, "records")
    ]
    show.table(("REVISION", "AT (UTC)", "WHO", "WHAT", "CHANGED"), rows, "the home region has had every change")


@region.command("front")
def region_front(
    first: Annotated[str, typer.Argument(help="Where clients call the first region's gates: https://…")],
    second: Annotated[str, typer.Argument(help="And the second's.")],
    ca: Annotated[str, typer.Option(help="File of whom to trust for their certificates.")] = "",
) -> None:
    """Print what a Traefik before both regions is configured with, for its file provider.

    Calls go to the first region, and to the second while the first does not answer.

    Example: tekup region front https://west.example:3000 https://east.example:3000
    """
    for url in (first, second):
        if not URL.fullmatch(url):
            raise BadInput(f"{url!r} is no address of gates; say https://<host>:<port>")
    typer.echo(front((first, second), ca), nl=False)


def _change(verb: str, body: show.Json, reason: str, *, dry_run: bool, json_wanted: bool) -> None:
    given = {**body, "reason": reason, "dry_run": dry_run}
    answer = Api.here().ask("POST", f"/v1/region/{verb}", given, timeout_s=VERB_S)
    if dry_run and not json_wanted:
        show.sentence("dry run, nothing was changed" if answer["changed"] else "so already")
    _told(answer, json_wanted=json_wanted)
    if answer["waiting_for"] and not dry_run:
        raise typer.Exit(Exit.TIMEOUT)


def _told(answer: show.Json, *, json_wanted: bool) -> None:
    if json_wanted:
        show.as_json(answer)
        return
    show.sentence(f"{answer['part']}, epoch {answer['epoch']}, revision {answer['revision']}")
    if answer["peer"]:
        there = (
            f"{answer['peer_part']}, epoch {answer['peer_epoch']}, revision {answer['peer_revision']}"
            if answer["reachable"]
            else "does not answer"
        )
        show.sentence(f"the other, {answer['peer']}: {there}")
        show.sentence(f"since {_utc(answer)}, by {answer['author']}: {answer['reason']}")
    if answer["part"] == "follower":
        lacking = "unknown" if answer["behind_revisions"] is None else answer["behind_revisions"]
        seconds = "unknown" if answer["behind_s"] is None else f"{answer['behind_s']:.1f} s"
        show.sentence(f"behind: {seconds}, revisions: {lacking}")
    if answer["left"]:
        show.sentence(f"{answer['left']} changes made here never reached the home; see `tekup region left`")
    if answer["problem"]:
        show.sentence(f"problem: {answer['problem']}")
    gates = answer["waiting_for"]
    if isinstance(gates, list) and gates:
        show.sentence(f"NOT in force on {', '.join(map(str, gates))}; `tekup gates list` says why")


def _utc(answer: show.Json) -> str:
    since = answer["since"]
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(since if isinstance(since, int | float) else 0))
