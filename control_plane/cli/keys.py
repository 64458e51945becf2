"""``tekup keys``: API keys of clients, over the HTTP API."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from compose.local.errors import BadInput
from control_plane.cli import show
from control_plane.cli.asking import Yes, ask_first
from control_plane.cli.client import Api
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, part, reason_params, rows_of

keys = typer.Typer(no_args_is_help=True, help="API keys of clients.")

MOST_DAYS = 36_500
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
KEY_COLUMNS = ("KEY", "LABEL", "STATE", "EXPIRES", "LAST USED", "ON")

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id: tk_<id>_…")]
Days = Annotated[float | None, typer.Option(help="Expires after so many days; 0 = never.", min=0, max=MOST_DAYS)]
Expires = Annotated[str, typer.Option(metavar="DATE", help="Expires then: 2027-01-31 or 2027-01-31T12:00Z.")]


def key_id(key: str) -> str:
    """The id in a key's text, for those who paste a whole key; else what was given."""
    return key.split("_")[1] if key.startswith("tk_") and key.count("_") > 1 else key


def seconds_of(text: str) -> int:
    """A length of time: `90s`, `30m`, `12h`, `7d`, `2w`.

    Raises:
        BadInput: It is none, or longer than a key may last.
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if found and (length_s := int(found[1]) * UNITS_S[found[2]]) <= MOST_DAYS * UNITS_S["d"]:
        return length_s
    raise BadInput(f"{text!r} is no length of time; for example 30m, 12h, 7d or 2w")


def moment_of(text: str) -> int:
    """A moment, in seconds since the epoch; without a zone it is UTC.

    Raises:
        BadInput: It is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is no date; for example 2027-01-31 or 2027-01-31T12:00Z") from error
    return math.ceil((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def end_of(days: float | None, expires: str) -> int | None:
    """When a key or token ends, in seconds since the epoch, 0 = never; None where nothing is said."""
    if days is not None and expires:
        raise BadInput("--days and --expires both say when it ends; say one of them")
    if expires:
        return moment_of(expires)
    return None if days is None else (math.ceil(time.time() + days * UNITS_S["d"]) if days else 0)


def key_rows(answer: show.Json) -> list[tuple[str, ...]]:
    """Keys as rows of a table, those that are good first."""
    order = ("good", "expired", "revoked")
    found = sorted(rows_of(answer, "keys"), key=lambda one: (order.index(one["state"]), one["created"]))
    return [
        (
            one["id"],
            one["label"] or "-",
            one["state"],
            day(one["expires"]),
            day(one["last_used"]),
            ", ".join(one["used_on"]) or "-",
        )
        for one in found
    ]


def key_sentences(answer: show.Json) -> None:
    """What has to be said below keys: what their owners should know, and what is not known of their uses."""
    for one in rows_of(answer, "keys"):
        for note in one["notes"]:
            show.sentence(note)
    if not answer["keys"]:
        return
    since = answer["used_since"]
    if isinstance(since, int) and since:
        show.sentence(f"Uses are written down since {day(since)}; ON names gates that say so since they started.")
    for line in answer["silent"] if isinstance(answer["silent"], list) else ():
        show.sentence(f"{line}; uses there are not counted")


@keys.command("create")
def keys_create(
    client: Annotated[str, typer.Argument(help="Whose key.")],
    label: Annotated[str, typer.Option(help="Free text.")] = "",
    days: Days = None,
    expires: Expires = "",
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Make a key. It is printed this once and kept nowhere; without --days or --expires it never ends.

    Example: tekup keys create ci --days 90 --reason "quarterly rotation"
    """
    body: show.Json = {"label": label, "expires": end_of(days, expires) or 0, "reason": reason, "dry_run": dry_run}
    answer = Api.here().ask("POST", f"/v1/clients/{part(client)}/keys", body)
    if not json and not dry_run:
        typer.echo(f"{answer['key']}")  # alone on standard output, so that a script can take it
    show.done(answer, f"key {answer['id'] or '(new)'} of {client}", json_wanted=json, aside=True)


@keys.command("list")
def keys_list(
    client: Annotated[str | None, typer.Argument(help="Whose keys; those of all without.")] = None,
    json: JsonFlag = False,
) -> None:
    """List keys, when each was last used and on which gates; secrets are not kept, so they are not shown.

    Example: tekup keys list ci
    """
    path = "/v1/keys" if client is None else f"/v1/clients/{part(client)}/keys"
    answer = Api.here().ask("GET", path)
    if json:
        show.as_json(answer)
        return
    rows = key_rows(answer)
    if client is None:
        whose = {one["id"]: one["client"] for one in rows_of(answer, "keys")}
        rows = [(row[0], whose[row[0]], *row[1:]) for row in rows]
    columns = KEY_COLUMNS if client is not None else (KEY_COLUMNS[0], "CLIENT", *KEY_COLUMNS[1:])
    show.table(columns, rows, f"No key; make one: tekup keys create {client or 'CLIENT'}")
    key_sentences(answer)


def day(seconds: int) -> str:
    """A moment for people; a dash for none."""
    return time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(seconds)) if seconds else "-"


@keys.command("rotate")
def keys_rotate(
    name: Annotated[str, typer.Argument(metavar="CLIENT|KEY", help="A key, or a client that has one good key.")],
    overlap: Annotated[str, typer.Option(help="How long both are good: 12h, 7d; 0d revokes the old one.")] = "7d",
    days: Days = None,
    expires: Expires = "",
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Make a new key in the place of one, which goes on for the overlap. The new one is printed this once.

    Example: tekup keys rotate ci --overlap 7d --reason "quarterly rotation"
    """
    body: show.Json = {
        "overlap_s": seconds_of(overlap),
        "expires": end_of(days, expires),
        "reason": reason,
        "dry_run": dry_run,
    }
    answer = Api.here().ask("POST", f"/v1/keys/{part(key_id(name))}/rotate", body)
    if not json and not dry_run:
        typer.echo(f"{answer['key']}")
    show.done(answer, f"key {answer['id'] or '(new)'} of {answer['client']}", json_wanted=json, aside=True)
    if not json:
        for line in _rotated(answer):
            show.sentence(line, aside=True)


def _rotated(answer: show.Json) -> list[str]:
    old, ends, ended = answer["old"], answer["old_expires"], answer["old_ended"]
    would = "would be" if answer["dry_run"] else "is"
    if not isinstance(ends, int) or not isinstance(ended, int) or not ends:
        return [f"key {old} {would} revoked, for good"]
    if answer["dry_run"]:
        return [f"key {old} would be good until {day(ends)}"]
    before = f"--at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(ended))}" if ended else "--never"
    undo = f"to undo it: tekup keys expire {old} {before}, and tekup keys revoke {answer['id']}"
    return [f"key {old} is good until {day(ends)}", undo]


@keys.command("expire")
def keys_expire(
    key: KeyId,
    within: Annotated[str, typer.Option("--in", help="So long from now: 12h, 1d.")] = "",
    at: Annotated[str, typer.Option("--at", metavar="DATE", help="Then: 2027-01-31 or 2027-01-31T12:00Z.")] = "",
    never: Annotated[bool, typer.Option("--never", help="Not at all.")] = False,
    reason: Reason = NO_REASON,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Give a key that is good another end.

    Example: tekup keys expire tk_4f2a81c09d_… --in 1d --reason "contractor leaves"
    """
    if sum(map(bool, (within, at, never))) != 1:
        raise BadInput("say when the key ends, once: --in 1d, --at DATE or --never")
    expires = 0 if never else moment_of(at) if at else math.ceil(time.time()) + seconds_of(within)
    if within and not seconds_of(within):
        raise BadInput(f"to end it at once, revoke it: tekup keys revoke {key_id(key)}")
    body: show.Json = {"expires": expires, "reason": reason, "dry_run": dry_run}
    answer = Api.here().ask("PATCH", f"/v1/keys/{part(key_id(key))}", body)
    ends = f"ends {day(expires)}" if expires else "never ends"
    show.done(answer, f"key {key_id(key)} {ends}", json_wanted=json)


@keys.command("revoke")
def keys_revoke(
    key: KeyId,
    reason: Reason = NO_REASON,
    yes: Yes = False,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Revoke a key for good; returns when every gate refuses it.

    Example: tekup keys revoke tk_4f2a81c09d_… --reason "laptop lost"
    """
    path = f"/v1/keys/{part(key_id(key))}"
    ask_first("DELETE", path, f"Revoke key {key_id(key)} for good", silent=yes or dry_run or json, reason=reason)
    answer = Api.here().ask("DELETE", path, params=reason_params(reason, dry_run=dry_run))
    show.done(answer, f"key {key_id(key)} revoked", json_wanted=json)


@keys.command("reseal")
def keys_reseal(reason: Reason = NO_REASON, dry_run: DryRunFlag = False, json: JsonFlag = False) -> None:
    """Seal the hashes of all keys in Consul by the current sealing key; with MCP_API_KEY_ENCRYPTION off, unseal them.

    The leader does the first by itself. Example: tekup keys reseal --dry-run
    """
    answer = Api.here().ask("POST", "/v1/reseal", {"reason": reason, "dry_run": dry_run})
    show.done(answer, "hashes of keys", json_wanted=json)
    for line in answer["left"] if isinstance(answer["left"], list) and not json else ():
        show.sentence(str(line))
