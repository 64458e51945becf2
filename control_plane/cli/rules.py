"""``tekup rules | silence``: operators' own alert rules, and quiet for a while."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import yaml

from compose.local.errors import BadInput
from compose.local.exits import Exit
from control_plane.alert_rules import RuleGroup
from control_plane.alertmanager import matcher_said
from control_plane.cli import show
from control_plane.cli.asking import Yes, ask_first
from control_plane.cli.client import Api
from control_plane.cli.keys import seconds_of
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, part, reason_params, rows_of
from control_plane.errors import Refused
from control_plane.resources import parse_files, render

rules = typer.Typer(no_args_is_help=True, help="Alert rules of your own, beside the platform's.")
silence = typer.Typer(no_args_is_help=True, help="Quiet about alerts, for a while.")

KIND = "AlertRules"
TIMEOUT_S = 60.0
SHOWN_DIGITS = 8
"""Of a silence's id; how it begins is enough to name it."""
Group = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")]
File = Annotated[Path, typer.Option("--file", "-f", help=f"A YAML document `kind: {KIND}`; see `tekup schema {KIND}`.")]


@rules.command("list")
def rules_list(json: JsonFlag = False) -> None:
    """List groups of alert rules, and whether every Prometheus has loaded them.

    Example: tekup rules list
    """
    answer = Api.here().ask("GET", "/v1/rules")
    if json:
        show.as_json(answer)
        return
    rows = [
        (one["group"]["name"], ", ".join(rule["alert"] for rule in one["group"]["rules"]), _health(one["loaded"]))
        for one in rows_of(answer, "groups")
    ]
    show.table(("GROUP", "ALERTS", "PROMETHEUS"), rows, "No rules yet; add some: tekup rules add -f FILE")


def _health(loaded: list[dict[str, Any]]) -> str:
    if not loaded:
        return "nobody is asked"
    odd = [one for one in loaded if one["health"] != "live"]
    return "; ".join(_lack(one) for one in odd) or "live"


def _lack(one: dict[str, Any]) -> str:
    return f"{one['health']} at {one['prometheus']}" + (f": {one['why']}" if one["why"] else "")


@rules.command("show")
def rules_show(group: Group, json: JsonFlag = False) -> None:
    """Print a group as YAML that `tekup rules add` and `tekup apply` take.

    Example: tekup rules show night > night.yml
    """
    answer = Api.here().ask("GET", f"/v1/rules/{part(group)}")
    if json:
        show.as_json(answer)
        return
    typer.echo(render([{"kind": KIND, **cast("dict[str, Any]", answer["group"])}]), nl=False)
    show.sentence(f"# {_health(cast('list[dict[str, Any]]', answer['loaded']))}")


@rules.command("test")
def rules_test(
    file: File,
    hours: Annotated[float, typer.Option(min=0.1, max=336, help="How far to look back.")] = 24,
    json: JsonFlag = False,
) -> None:
    """Check a group, run its unit tests, and say how often it would have fired; nothing is written.

    Ends with 1 if it would not be taken.

    Example: tekup rules test -f night.yml --hours 48
    """
    group = _group(file)
    body: show.Json = {**_fields(group), "name": group.name, "hours": hours}
    answer = Api.here().ask("POST", "/v1/rules/test", body, timeout_s=TIMEOUT_S)
    if json:
        show.as_json(answer)
    elif not answer["good"]:
        typer.echo(f"{group.name} is refused:\n{answer['problem']}")
    else:
        passed = f", {len(group.tests)} tests passed" if group.tests else ", and has no tests"
        show.sentence(f"{group.name} is sound{passed}")
        for one in rows_of(answer, "fired"):
            minutes = f", {one['firing_s'] / 60:.0f} minutes altogether" if one["times"] else ""
            show.sentence(
                f"{one['alert']} would have fired {_times(one['times'])} in the last {hours:g} hours{minutes}"
            )
        if answer["unknown"]:
            show.sentence(f"what would have fired is not known: {answer['unknown']}")
    if not answer["good"]:
        raise typer.Exit(Exit.FAILED)


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


@rules.command("add")
def rules_add(
    file: File,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of one that differs.")] = False,
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Add a group of alert rules, once it is checked and its tests pass; returns when every Prometheus has it.

    Example: tekup rules add -f night.yml --reason "searches are slow at night"
    """
    group = _group(file)
    body: show.Json = {**_fields(group), "replace": replace, "reason": reason, "dry_run": dry_run}
    answer = Api.here().ask("PUT", f"/v1/rules/{part(group.name)}", body, timeout_s=TIMEOUT_S)
    show.done(answer, f"alert rules {group.name}", json_wanted=json)
    lacking = rows_of(answer, "lacking")
    for one in lacking if not json else ():
        show.sentence(f"not live: {_lack(one)}", aside=True)
    if lacking:
        raise typer.Exit(Exit.TIMEOUT)


@rules.command("remove")
def rules_remove(
    group: Group,
    reason: Reason = NO_REASON,
    yes: Yes = False,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Remove a group of alert rules; a rollback brings it back.

    Example: tekup rules remove night --reason "mended"
    """
    path = f"/v1/rules/{part(group)}"
    ask_first("DELETE", path, f"Remove alert rules {group}", silent=yes or dry_run or json, reason=reason)
    answer = Api.here().ask("DELETE", path, params=reason_params(reason, dry_run=dry_run))
    show.done(answer, f"alert rules {group} removed", json_wanted=json)


def _group(file: Path) -> RuleGroup:
    try:
        found = [one.document for one in parse_files({str(file): file.read_text("utf-8")})]
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    except (Refused, yaml.YAMLError) as error:
        raise BadInput(str(error)) from error
    groups = [one for one in found if isinstance(one, RuleGroup)]
    if len(groups) != 1 or len(found) != 1:
        raise BadInput(f"{file} holds {len(found)} documents; it has to hold one, `kind: {KIND}`")
    return groups[0]


def _fields(group: RuleGroup) -> show.Json:
    return group.model_dump(mode="json", exclude={"name"})


@silence.command("list")
def silence_list(json: JsonFlag = False) -> None:
    """List silences that are not over.

    Example: tekup silence list
    """
    answer = Api.here().ask("GET", "/v1/silences")
    if json:
        show.as_json(answer)
        return
    rows = [
        (
            one["id"][:SHOWN_DIGITS],
            " ".join(map(matcher_said, one["matchers"])),
            _until(one["ends_s"]),
            one["author"],
            one["reason"],
        )
        for one in rows_of(answer, "silences")
    ]
    show.table(("SILENCE", "ALERTS", "UNTIL", "WHO", "WHY"), rows, "No silence; alerts are told.")


def _until(at: float) -> str:
    return time.strftime("%m-%d %H:%MZ", time.gmtime(at))


@silence.command("add")
def silence_add(
    matchers: Annotated[list[str], typer.Argument(metavar="LABEL=VALUE...", help="Also =~ != !~; all have to match.")],
    length: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")] = "2h",
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Silence alerts by their labels, for a while.

    Example: tekup silence add alertname=ToolSlow service=search --for 2h --reason "index is rebuilt"
    """
    found = [_matcher(text) for text in matchers]
    body: show.Json = {"matchers": found, "for_s": seconds_of(length), "reason": reason, "dry_run": dry_run}
    answer = Api.here().ask("POST", "/v1/silences", body)
    if json:
        show.as_json(answer)
    else:
        typer.echo("a silence would be made" if dry_run else f"{answer['id']}")


def _matcher(text: str) -> dict[str, object]:
    for sign in ("!~", "!=", "=~", "="):
        name, found, value = text.partition(sign)
        if found and name and not set(name) & set("=!~"):
            return {"name": name, "value": value, "isRegex": sign.endswith("~"), "isEqual": sign[0] == "="}
    raise BadInput(f"{text!r} is not LABEL=VALUE; for example service=search")


@silence.command("expire")
def silence_expire(
    name: Annotated[str, typer.Argument(metavar="SILENCE", help="Its id, or how it begins.")],
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """End a silence now.

    Example: tekup silence expire 2f1c0f2e --reason "rebuilt sooner"
    """
    answer = Api.here().ask("DELETE", f"/v1/silences/{part(name)}", params=reason_params(reason, dry_run=dry_run))
    if json:
        show.as_json(answer)
    else:
        typer.echo(f"silence {name} {'would be ' if dry_run else ''}ended")
