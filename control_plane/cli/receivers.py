"""``tekup receivers``: who is told of which alerts."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from compose.local.exits import Exit
from control_plane.cli import show
from control_plane.cli.asking import Yes, ask_first
from control_plane.cli.client import Api
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, part, reason_params, rows_of
from control_plane.receivers import Severity, Way
from control_plane.resources import render

receivers = typer.Typer(no_args_is_help=True, help="Who is told of which alerts, beside the platform's own receivers.")

TIMEOUT_S = 60.0
Name = Annotated[str, typer.Argument(metavar="RECEIVER", help="The receiver's name.")]
SecretFile = "Name of a file in Alertmanager's folder of secrets"


@receivers.command("list")
def receivers_list(json: JsonFlag = False) -> None:
    """List receivers, what each is told of, and whether Alertmanager has it.

    Example: tekup receivers list
    """
    answer = Api.here().ask("GET", "/v1/receivers")
    if json:
        show.as_json(answer)
        return
    rows = [(one["name"], one["by"], told_of(one), where(one), health) for one, health in _each(answer)]
    header = ("RECEIVER", "BY", "ALERTS", "WHERE", "ALERTMANAGER")
    show.table(header, rows, "No receivers yet; add one: tekup receivers set --help")


def _each(answer: show.Json) -> list[tuple[dict[str, Any], str]]:
    return [(one["receiver"], one["health"]) for one in rows_of(answer, "receivers")]


def told_of(one: dict[str, Any]) -> str:
    """Which alerts a receiver is told of, in a few words."""
    severities, services = " ".join(one["severities"]) or "all", " ".join(one["services"])
    return f"{severities} of {services}" if services else severities


def where(one: dict[str, Any]) -> str:
    """Where a receiver is told, in a few words."""
    return str(one["to"] or one["url"] or f"in file {one['url_secret']}")


@receivers.command("show")
def receivers_show(name: Name, json: JsonFlag = False) -> None:
    """Print a receiver as YAML that `tekup apply` takes.

    Example: tekup receivers show night
    """
    answer = Api.here().ask("GET", f"/v1/receivers/{part(name)}")
    if json:
        show.as_json(answer)
        return
    typer.echo(render([{"kind": "Receiver", **cast("dict[str, Any]", answer["receiver"])}]), nl=False)
    show.sentence(f"# {answer['health']}")


@receivers.command("set")
def receivers_set(
    name: Name,
    by: Annotated[Way, typer.Argument(metavar="webhook|slack|email", help="How they are told.")],
    severity: Annotated[list[Severity] | None, typer.Option(help="Of these alone; again for more.")] = None,
    service: Annotated[list[str] | None, typer.Option(help="Of these services alone; again for more.")] = None,
    url: Annotated[str, typer.Option(help="Webhook or Slack: where, for all to see.")] = "",
    url_secret: Annotated[str, typer.Option(help=f"{SecretFile} that holds the URL.")] = "",
    token_secret: Annotated[str, typer.Option(help=f"{SecretFile}: a webhook's bearer.")] = "",
    channel: Annotated[str, typer.Option(help="Slack: another channel than the webhook's.")] = "",
    to: Annotated[str, typer.Option(help="Email: whom it goes to.")] = "",
    sender: Annotated[str, typer.Option(help="Email: whom it comes from.")] = "",
    smarthost: Annotated[str, typer.Option(help="Email: the mail server, host:port.")] = "",
    user: Annotated[str, typer.Option(help="Email: who logs in there.")] = "",
    password_secret: Annotated[str, typer.Option(help=f"{SecretFile}: the password.")] = "",
    require_tls: Annotated[bool, typer.Option("--tls/--no-tls", help="Email: by TLS alone.")] = True,
    resolved: Annotated[bool, typer.Option("--resolved/--no-resolved", help="Tell when it is over.")] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of one that differs.")] = False,
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Add a receiver of alerts; returns when Alertmanager has it. Secrets lie in files beside Alertmanager.

    Example: tekup receivers set night webhook --url http://pager:8080/ --severity critical
    """
    fields: dict[str, object] = {
        "url": url,
        "url_secret": url_secret,
        "token_secret": token_secret,
        "channel": channel,
        "to": to,
        "sender": sender,
        "smarthost": smarthost,
        "user": user,
        "password_secret": password_secret,
    }
    body: show.Json = {field: text for field, text in fields.items() if text}
    body |= {"by": by.value, "severities": [one.value for one in severity or ()], "services": service or []}
    body |= {"send_resolved": resolved, "replace": replace, "reason": reason, "dry_run": dry_run}
    body |= {} if require_tls else {"require_tls": False}
    answer = Api.here().ask("PUT", f"/v1/receivers/{part(name)}", body, timeout_s=TIMEOUT_S)
    show.done(answer, f"receiver {name}", json_wanted=json)
    if answer["health"] not in ("", "live"):
        if not json:
            show.sentence(f"not live: {answer['health']}", aside=True)
        raise typer.Exit(Exit.TIMEOUT)


@receivers.command("test")
def receivers_test(name: Name, reason: Reason = NO_REASON, dry_run: DryRunFlag = False, json: JsonFlag = False) -> None:
    """Send a receiver a message that nobody else gets; ends with 1 if it did not arrive.

    Example: tekup receivers test night --reason "is the pager on?"
    """
    body: show.Json = {"reason": reason, "dry_run": dry_run}
    answer = Api.here().ask("POST", f"/v1/receivers/{part(name)}/test", body, timeout_s=TIMEOUT_S)
    if json:
        show.as_json(answer)
    elif dry_run:
        typer.echo("a message would be sent")
    else:
        show.sentence(f"receiver {name} took the message" if answer["delivered"] else f"{answer['why']}")
    if not answer["delivered"] and not dry_run:
        raise typer.Exit(Exit.FAILED)


@receivers.command("remove")
def receivers_remove(
    name: Name, reason: Reason = NO_REASON, yes: Yes = False, dry_run: DryRunFlag = False, json: JsonFlag = False
) -> None:
    """Remove a receiver; a rollback brings it back.

    Example: tekup receivers remove night --reason "the team has moved"
    """
    path = f"/v1/receivers/{part(name)}"
    ask_first("DELETE", path, f"Remove receiver {name}", silent=yes or dry_run or json, reason=reason)
    answer = Api.here().ask("DELETE", path, params=reason_params(reason, dry_run=dry_run))
    show.done(answer, f"receiver {name} removed", json_wanted=json)
