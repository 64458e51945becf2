"""``tekup operators``: who may ask the operators' API for what, and their tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.local.errors import BadInput
from control_plane.cli import show
from control_plane.cli.asking import Yes, ask_first
from control_plane.cli.client import Api
from control_plane.cli.keys import Days, Expires, day, end_of, seconds_of
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, part, reason_params, rows_of
from control_plane.roles import Role

operators = typer.Typer(no_args_is_help=True, help="Who may look at, steer and change the platform.")

Who = Annotated[str, typer.Argument(metavar="NAME", help="The operator's name.")]
Bound = Annotated[list[str] | None, typer.Option("--service", help="Bind them to a service; repeat.")]


@operators.command("list")
def operators_list(json: JsonFlag = False) -> None:
    """List operators, what each may do, and their tokens; secrets are not kept, so they are not shown.

    Example: tekup operators list
    """
    answer = Api.here().ask("GET", "/v1/operators")
    if json:
        show.as_json(answer)
        return
    rows: list[tuple[str, ...]] = []
    for one in rows_of(answer, "operators"):
        about = (one["name"], one["role"], "\n".join(one["services"]) or "-")
        tokens = one["tokens"] or [
            {"id": "file" if one["built_in"] else "-", "state": "-", "expires": 0, "last_used": 0}
        ]
        rows += [
            (*about, token["id"], token["state"], day(token["expires"]), day(token["last_used"])) for token in tokens
        ]
    show.table(("NAME", "ROLE", "SERVICES", "TOKEN", "STATE", "EXPIRES", "LAST USED"), rows, "")


@operators.command("who")
def operators_who(json: JsonFlag = False) -> None:
    """Say whose token this directory uses, and what it is good for.

    Example: tekup operators who
    """
    answer = Api.here().ask("GET", "/v1/who")
    if json:
        show.as_json(answer)
        return
    services = answer["services"]
    bound = f", bound to {', '.join(services)}" if isinstance(services, list) and services else ""
    show.sentence(f"{answer['name']}: {answer['role']}{bound}")


@operators.command("add")
def operators_add(
    name: Annotated[str, typer.Argument(help="Small letters, digits, dashes; stands in each record.")],
    role: Annotated[Role, typer.Option(help="viewer looks, operator steers, admin changes everything.")],
    service: Bound = None,
    days: Days = None,
    expires: Expires = "",
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Add an operator. Their token is printed this once and kept nowhere.

    It goes into a file (0600) that MCP_OPERATOR_TOKEN_FILE names. Without --days or --expires it never ends.

    Example: tekup operators add ada --role operator --service search --days 90 --reason "on call"
    """
    body: show.Json = {"name": name, "role": role, "services": service or [], "expires": end_of(days, expires) or 0}
    answer = Api.here().ask("POST", "/v1/operators", body | {"reason": reason, "dry_run": dry_run})
    _made(answer, name, json_wanted=json)


@operators.command("set")
def operators_set(
    name: Who,
    role: Annotated[Role | None, typer.Option(help="Another role.")] = None,
    service: Bound = None,
    unbound: Annotated[bool, typer.Option("--unbound", help="Bound to no service.")] = False,
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Give an operator another role, or other services; their tokens stay good.

    Example: tekup operators set ada --role admin --unbound --reason "leads the team now"
    """
    if unbound and service:
        raise BadInput("--unbound and --service contradict each other; say one of them")
    body: show.Json = {"role": role} if role else {}
    body |= {"services": service or []} if unbound or service else {}
    if not body:
        raise BadInput(f"nothing is named to change of operator {name}; see `tekup operators set --help`")
    answer = Api.here().ask("PATCH", f"/v1/operators/{part(name)}", body | {"reason": reason, "dry_run": dry_run})
    show.done(answer, f"operator {name}", json_wanted=json)


@operators.command("rotate")
def operators_rotate(
    name: Who,
    overlap: Annotated[str, typer.Option(help="How long the old ones go on: 12h, 7d; 0d revokes them.")] = "1d",
    days: Days = None,
    expires: Expires = "",
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Give an operator a new token, printed this once; those there are end after the overlap.

    Example: tekup operators rotate ada --overlap 1d --days 90 --reason "quarterly"
    """
    body: show.Json = {"overlap_s": seconds_of(overlap), "expires": end_of(days, expires) or 0}
    answer = Api.here().ask("POST", f"/v1/operators/{part(name)}/rotate", body | {"reason": reason, "dry_run": dry_run})
    _made(answer, name, json_wanted=json)


@operators.command("revoke")
def operators_revoke(
    name: Who, reason: Reason = NO_REASON, yes: Yes = False, dry_run: DryRunFlag = False, json: JsonFlag = False
) -> None:
    """Revoke every token of an operator, for good; each replica refuses them from then on.

    Example: tekup operators revoke ada --reason "laptop lost"
    """
    path = f"/v1/operators/{part(name)}"
    ask_first("DELETE", path, f"Revoke every token of {name}", silent=yes or dry_run or json, reason=reason)
    answer = Api.here().ask("DELETE", path, params=reason_params(reason, dry_run=dry_run))
    show.done(answer, f"tokens of {name} revoked", json_wanted=json)


def _made(answer: show.Json, name: str, *, json_wanted: bool) -> None:
    if not json_wanted and not answer["dry_run"]:
        typer.echo(f"{answer['token']}")  # alone on standard output, so that a script can take it
    show.done(answer, f"token {answer['id'] or '(new)'} of {name}", json_wanted=json_wanted, aside=True)
