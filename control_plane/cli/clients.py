"""``tekup clients``: who may call, and what, over the HTTP API."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping
from typing import Annotated, Any, cast

import typer

from compose.local.errors import BadInput
from compose.local.exits import Exit
from control_plane.cli import show
from control_plane.cli.asking import Yes, ask_first
from control_plane.cli.client import Api
from control_plane.cli.keys import KEY_COLUMNS, key_rows, key_sentences
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, part, reason_params, rows_of
from control_plane.clients import CLASSES, LISTS, May, globs_of, may, said
from control_plane.errors import Refused
from control_plane.model import Access, ClientPolicy, Limit

clients = typer.Typer(no_args_is_help=True, help="Who may call, and what.")

ClientId = Annotated[str, typer.Argument(help="Its id.")]
Globs = Annotated[list[str] | None, typer.Option("--allow", help="Glob on tool, prompt and resource names; repeat.")]
Roots = Annotated[list[str] | None, typer.Option("--root", help="Folder that narrows the services' own; repeat.")]
Hosts = Annotated[list[str] | None, typer.Option("--host", help="Private host whose pages it may open; repeat.")]
OAuth = Annotated[list[str] | None, typer.Option("--oauth", help="Bearers that count as it: ISSUER or ISSUER#CLIENT.")]
Annotations = Annotated[Access | None, typer.Option("--access", help="Of the tools it may use, those annotated so.")]
Cohort = Annotated[str | None, typer.Option("--cohort", help="Group for canaries; '' for none.")]
Classes = Annotated[list[str] | None, typer.Option("--class", help=f"Tools of a class: {', '.join(CLASSES)}; repeat.")]
EMPTY: Mapping[str, str] = {"allow": "nothing", "roots": "all folders of the services", "hosts": "-", "oauth": "-"}


@clients.command("add")
def clients_add(
    client: Annotated[str, typer.Argument(help="Its id: small letters, digits, dashes.")],
    allow: Globs = None,
    access: Annotations = None,
    cohort: Cohort = None,
    root: Roots = None,
    host: Hosts = None,
    oauth: OAuth = None,
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Add a client; without --allow it may use everything.

    Example: tekup clients add ci --allow 'search_*' --reason "read-only CI"
    """
    named = {"allow": allow, "access": access, "cohort": cohort, "roots": root, "hosts": host, "oauth": oauth}
    fields = {name: value for name, value in named.items() if value is not None}
    body: show.Json = {"id": client, **fields, "reason": reason, "dry_run": dry_run}
    show.done(Api.here().ask("POST", "/v1/clients", body), f"client {client}", json_wanted=json)


@clients.command("list")
def clients_list(json: JsonFlag = False) -> None:
    """List clients, what they may use, and how many keys let them in.

    Example: tekup clients list --json
    """
    answer = Api.here().ask("GET", "/v1/clients")
    if json:
        show.as_json(answer)
        return
    keys = cast("dict[str, dict[str, int]]", answer["keys"])
    rows = [
        (
            one["id"],
            ", ".join(one["allow"]) or EMPTY["allow"],
            one["access"],
            one["cohort"] or "-",
            ", ".join(limit["name"] for limit in one["limits"]) or "-",
            str(keys[one["id"]]["good"]),
        )
        for one in rows_of(answer, "clients")
    ]
    columns = ("CLIENT", "MAY USE", "ACCESS", "COHORT", "LIMITS", "KEYS")
    show.table(columns, rows, "No client yet; add one: tekup clients add NAME")


@clients.command("show")
def clients_show(client: ClientId, json: JsonFlag = False) -> None:
    """Show everything of a client: rights, limits, keys and when each was last used.

    Example: tekup clients show ci
    """
    answer = Api.here().ask("GET", f"/v1/clients/{part(client)}")
    if json:
        show.as_json(answer)
        return
    one = cast("dict[str, Any]", answer["client"])
    fields = [("may use", one["allow"]), ("access", [one["access"]]), ("cohort", [one["cohort"] or "-"])]
    fields += [(name, one[name]) for name in LISTS if name != "allow"]
    lines = [(name, "\n".join(values) or EMPTY["allow" if name == "may use" else name]) for name, values in fields]
    show.table(("CLIENT", client), lines, "")
    if one["limits"]:
        typer.echo("")
    limits = [_limit_row(Limit(**limit)) for limit in one["limits"]]
    show.table(("LIMIT", "OF", "PER S", "BURST", "AT ONCE"), limits, "No limit; set one: tekup clients limit " + client)
    if rows_of(answer, "keys"):
        typer.echo("")
    show.table(KEY_COLUMNS, key_rows(answer), f"No key; make one: tekup keys create {client}")
    key_sentences(answer)


def _limit_row(limit: Limit) -> tuple[str, ...]:
    burst = str(limit.burst or (max(1, int(limit.per_s)) if limit.per_s else "-"))
    rate, at_once = f"{limit.per_s:g}" if limit.per_s else "-", str(limit.concurrent or "-")
    return limit.name, ", ".join(limit.tools) or "everything it sends", rate, burst, at_once


@clients.command("set")
def clients_set(
    client: ClientId,
    allow: Globs = None,
    add_allow: Annotated[list[str] | None, typer.Option(help="Further glob; repeat.")] = None,
    remove_allow: Annotated[list[str] | None, typer.Option(help="Glob to take out; repeat.")] = None,
    no_allow: Annotated[bool, typer.Option("--no-allow", help="It may use nothing.")] = False,
    access: Annotations = None,
    cohort: Cohort = None,
    root: Roots = None,
    add_root: Annotated[list[str] | None, typer.Option(help="Further folder; repeat.")] = None,
    remove_root: Annotated[list[str] | None, typer.Option(help="Folder to take out; repeat.")] = None,
    no_roots: Annotated[bool, typer.Option("--no-roots", help="All folders of the services.")] = False,
    host: Hosts = None,
    add_host: Annotated[list[str] | None, typer.Option(help="Further host; repeat.")] = None,
    remove_host: Annotated[list[str] | None, typer.Option(help="Host to take out; repeat.")] = None,
    no_hosts: Annotated[bool, typer.Option("--no-hosts", help="No private host.")] = False,
    oauth: OAuth = None,
    add_oauth: Annotated[list[str] | None, typer.Option(help="Further bearers; repeat.")] = None,
    remove_oauth: Annotated[list[str] | None, typer.Option(help="Bearers to take out; repeat.")] = None,
    no_oauth: Annotated[bool, typer.Option("--no-oauth", help="No bearers count as it.")] = False,
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Change what is named of a client, and leave the rest. --allow, --root, --host and --oauth replace their list.

    Example: tekup clients set ci --add-allow 'filesystem_read_*' --access read-only
    """
    whole = {
        "allow": _replaced("allow", allow, empty=no_allow),
        "roots": _replaced("roots", root, empty=no_roots),
        "hosts": _replaced("hosts", host, empty=no_hosts),
        "oauth": _replaced("oauth", oauth, empty=no_oauth),
        "access": access,
        "cohort": cohort,
    }
    merge = {name: value for name, value in whole.items() if value is not None}
    add = dict(zip(LISTS, (add_allow or [], add_root or [], add_host or [], add_oauth or []), strict=True))
    gone = (remove_allow or [], remove_root or [], remove_host or [], remove_oauth or [])
    remove = dict(zip(LISTS, gone, strict=True))
    if not merge and not any((*add.values(), *remove.values())):
        raise BadInput(f"nothing is named to change of client {client}; see `tekup clients set --help`")
    body: show.Json = {"merge": merge, "add": add, "remove": remove, "reason": reason, "dry_run": dry_run}
    show.done(Api.here().ask("PATCH", f"/v1/clients/{part(client)}", body), f"client {client}", json_wanted=json)


def _replaced(name: str, values: list[str] | None, *, empty: bool) -> list[str] | None:
    if empty and values:
        raise BadInput(f"--no-{name} empties the list that another option fills; say one of them")
    return [] if empty else values


@clients.command("limit")
def clients_limit(
    client: ClientId,
    name: Annotated[str, typer.Argument(help="The limit's name; refusals and metrics show it.")],
    tools: Annotated[list[str] | None, typer.Option("--tools", help="Glob on names; repeat. None: every call.")] = None,
    classes: Classes = None,
    per_s: Annotated[float, typer.Option(help="Calls per second on average; 0 = any.", min=0)] = 0,
    burst: Annotated[int, typer.Option(help="At one moment; 0 = a second's worth.", min=0)] = 0,
    concurrent: Annotated[int, typer.Option(help="Under way at one time; 0 = any.", min=0)] = 0,
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Set a limit of a client, whole; one of that name is replaced.

    Example: tekup clients limit ci search --class search --per-s 5 --burst 10
    """
    try:
        globs = [*(tools or ()), *globs_of(classes or ())]
    except Refused as error:
        raise BadInput(str(error)) from error
    wish: show.Json = {"tools": globs, "per_s": per_s, "burst": burst, "concurrent": concurrent}
    path = f"/v1/clients/{part(client)}/limits/{part(name)}"
    answer = Api.here().ask("PUT", path, {**wish, "reason": reason, "dry_run": dry_run})
    show.done(answer, f"limit {name} of {client}", json_wanted=json)


@clients.command("unlimit")
def clients_unlimit(
    client: ClientId,
    name: Annotated[str, typer.Argument(help="The limit's name.")],
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Take a limit of a client away.

    Example: tekup clients unlimit ci search --reason "nightly run moved"
    """
    path = f"/v1/clients/{part(client)}/limits/{part(name)}"
    answer = Api.here().ask("DELETE", path, params=reason_params(reason, dry_run=dry_run))
    show.done(answer, f"limit {name} of {client} taken away", json_wanted=json)


@clients.command("can")
def clients_can(
    client: ClientId,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Of tools, prompts or resources.")],
    json: JsonFlag = False,
) -> None:
    """Say whether a client may use a name, by which glob, and within which limits. Ends with 1 if one is denied.

    Example: tekup clients can ci search_grep filesystem://notes/a.txt
    """
    answer = Api.here().ask("GET", f"/v1/clients/{part(client)}")
    policy = ClientPolicy.parse(json_text.dumps(answer["client"]), f"client {client}")
    found = [may(policy, name) for name in names]
    if json:
        show.as_json([_may_value(one) for one in found])
    for one in found if not json else ():
        show.sentence(_may_said(policy, one))
    if not all(one.allowed for one in found):
        raise typer.Exit(Exit.FAILED)


def _may_said(policy: ClientPolicy, one: May) -> str:
    if not one.allowed:
        return f"{one.name}: no; none of {', '.join(policy.allow) or 'no glob at all'} covers it"
    needs = f"; {one.needs}" if one.needs else ""
    limits = ", ".join(f"{limit.name} ({said(limit)})" for limit in one.limits)
    return f"{one.name}: yes, by {one.glob}{needs}; {f'counts against {limits}' if limits else 'no limit'}"


def _may_value(one: May) -> dict[str, object]:
    return {
        "name": one.name,
        "allowed": one.allowed,
        "glob": one.glob,
        "needs": one.needs,
        "limits": [limit.name for limit in one.limits],
    }


@clients.command("remove")
def clients_remove(
    client: ClientId,
    reason: Reason = NO_REASON,
    yes: Yes = False,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Remove a client and revoke its keys; returns when every gate refuses them.

    Example: tekup clients remove ci --reason "pipeline retired"
    """
    path = f"/v1/clients/{part(client)}"
    silent = yes or dry_run or json
    ask_first("DELETE", path, f"Remove {client} and revoke its keys", silent=silent, reason=reason)
    answer = Api.here().ask("DELETE", path, params=reason_params(reason, dry_run=dry_run))
    show.done(answer, f"client {client} removed", json_wanted=json)
