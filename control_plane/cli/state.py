"""``tekup plan | apply | diff | export | history | rollback | drift | schema | state``: the state as a whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from compose.local.errors import BadInput
from compose.local.exits import Exit
from control_plane.cli import show
from control_plane.cli.asking import Yes, ask_first, ask_plainly
from control_plane.cli.client import Api
from control_plane.cli.options import NO_REASON, DryRunFlag, JsonFlag, Reason, rows_of
from control_plane.errors import Refused
from control_plane.resources import KINDS, as_value, parse_files, render, schema

Source = Annotated[
    str, typer.Option("--file", "-f", help="A directory of YAML files, one file, or - for standard input.")
]
Prune = Annotated[bool, typer.Option("--prune", help="Remove what the set leaves out of the kinds it holds.")]
Why = Annotated[str, typer.Option("--reason", "-r", help="Why; stands in the record.")]
Expect = Annotated[int | None, typer.Option("--expect", help="Refuse unless this is the present revision.")]

TIMEOUT_S = 120.0
SUFFIXES = (".yml", ".yaml")
EXPORTED = {name: f"{kind.table.value}.yml" for name, kind in KINDS.items()}

state = typer.Typer(no_args_is_help=True, help="The state that Consul holds.")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(state, name="state")
    for verb in (plan, apply, diff, export, history, rollback, drift):
        app.command()(verb)
    app.command("schema")(show_schema)


def _set(source: str) -> list[dict[str, Any]]:
    """The resources of a directory, a file or standard input, checked one by one."""
    try:
        return [as_value(one.kind, one.document) for one in parse_files(_texts(source))]
    except Refused as error:
        raise BadInput(f"{error}") from error


def _texts(source: str) -> dict[str, str]:
    if source == "-":
        return {"standard input": sys.stdin.read()}
    root = Path(source)
    files = _files(root) if root.is_dir() else [root]
    if not files:
        raise BadInput(f"{root} holds no .yml or .yaml file; fill it with `tekup export {root}`")
    try:
        return {str(file.relative_to(root)) if file != root else str(file): file.read_text("utf-8") for file in files}
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{source} cannot be read: {why}; name a directory or file of YAML text") from error


def _files(root: Path) -> list[Path]:
    found = (file for file in root.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(root).parts))


def plan(source: Source, prune: Prune = False, json: JsonFlag = False) -> None:
    """Show what `tekup apply` would do.

    Exits with 0 if nothing would change, with 7 if something would.

    Example: tekup plan -f desired/
    """
    _compare("plan", source, show.as_json if json else show.plan, prune=prune)


def diff(source: Source, prune: Prune = False, json: JsonFlag = False) -> None:
    """Show how the present and a set differ, as a unified diff.

    The set need not be fit to be applied. Exits as `tekup plan` does.

    Example: tekup diff -f desired/
    """
    _compare("diff", source, show.as_json if json else show.unified, prune=prune)


def _compare(how: str, source: Source, shown: Callable[[show.Json], None], *, prune: bool) -> None:
    wish: show.Json = {"resources": _set(source), "prune": prune}
    answer = Api.here().ask("POST", f"/v1/state/{how}", wish, timeout_s=TIMEOUT_S)
    shown(answer)
    _end_by(answer)


def _end_by(answer: show.Json) -> None:
    if answer["changes"]:
        raise typer.Exit(Exit.CHANGES)


def apply(
    source: Source,
    reason: Why,
    prune: Prune = False,
    yes: Yes = False,
    dry_run: DryRunFlag = False,
    expect: Expect = None,
    json: JsonFlag = False,
) -> None:
    """Make the state what a set of YAML documents says.

    It is one revision; the command returns when every gate has it in force.
    The set is checked as a whole before anything is written, and speaks for the kinds it holds.

    Example: tekup apply -f desired/ --reason "more for search"
    """
    body: show.Json = {"resources": _set(source), "prune": prune, "reason": reason, "dry_run": dry_run}
    silent = yes or dry_run or json or not prune
    ask_first("POST", "/v1/state/apply", "Apply it, and remove what the set leaves out", silent=silent, body=body)
    answer = Api.here().ask("POST", "/v1/state/apply", body | {"expected_revision": expect}, timeout_s=TIMEOUT_S)
    if not (json or dry_run):
        show.plan(answer)
    show.done(answer, "state applied", json_wanted=json)


def export(
    directory: Annotated[Path | None, typer.Argument(help="Where to; standard output without.")] = None,
    revision: Annotated[int | None, typer.Option("--revision", help="As it was at that revision.")] = None,
    json: JsonFlag = False,
) -> None:
    """Write the state as YAML that `tekup apply` takes.

    A file per kind: services.yml, clients.yml, delivery.yml, rules.yml. Keys are no part of it.

    Example: tekup export desired/
    """
    params = {} if revision is None else {"revision": str(revision)}
    answer = Api.here().ask("GET", "/v1/state/resources", params=params, timeout_s=TIMEOUT_S)
    resources = rows_of(answer, "resources")
    if json:
        show.as_json(answer)
    elif directory is None:
        typer.echo(render(resources), nl=False)
    else:
        written = _write_all(directory, resources)
        typer.echo(f"revision {answer['revision']}: {len(resources)} resources in {', '.join(written) or 'no file'}")


def _write_all(directory: Path, resources: list[dict[str, Any]]) -> list[str]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        others = [str(file.relative_to(directory)) for file in _files(directory) if file.name not in EXPORTED.values()]
        if others:
            raise BadInput(
                f"{directory} holds {', '.join(others[:3])}, which would stand beside what is exported; name an empty"
                " directory"
            )
        return [str(directory / name) for kind, name in EXPORTED.items() if _write(directory / name, kind, resources)]
    except OSError as error:
        raise BadInput(f"{directory} cannot be written: {error}") from error


def _write(path: Path, kind: str, resources: list[dict[str, Any]]) -> bool:
    mine = [one for one in resources if one["kind"] == kind]
    if not mine:
        path.unlink(missing_ok=True)
        return False
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(render(mine), "utf-8")
    partial.replace(path)
    return True


def history(
    number: Annotated[int | None, typer.Argument(metavar="[N]", help="One revision, with its diff.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, newest first.")] = 20,
    before: Annotated[int | None, typer.Option("--before", help="Only revisions below this one.")] = None,
    json: JsonFlag = False,
) -> None:
    """List the last revisions, or show one with its diff.

    Example: tekup history 17
    """
    if number is not None:
        _one_record(number, json_wanted=json)
        return
    params = {"limit": str(limit)} | ({} if before is None else {"before": str(before)})
    answer = Api.here().ask("GET", "/v1/state/history", params=params, timeout_s=TIMEOUT_S)
    if json:
        show.as_json(answer)
        return
    rows = [
        (
            str(one["revision"]),
            moment_short(one["at"]),
            one["author"],
            one["verb"],
            str(one["documents"]),
            one["reason"],
        )
        for one in rows_of(answer, "records")
    ]
    show.table(("REV", "UTC", "WHO", "VERB", "DOCS", "REASON"), rows, "No revision there.")


def _one_record(number: int, *, json_wanted: bool) -> None:
    answer = Api.here().ask("GET", f"/v1/state/history/{number}", timeout_s=TIMEOUT_S)
    if json_wanted:
        show.as_json(answer)
        return
    typer.echo(f"revision {answer['revision']} of epoch {answer['epoch']}, {_when(cast('float', answer['at']))}")
    typer.echo(f"{answer['verb']} by {answer['author']}: {answer['reason']}")
    show.unified(answer)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(at))


def moment_short(at: float) -> str:
    """Day and minute of this year, the day alone of an earlier one: a table has 80 columns."""
    this_year = time.gmtime(at).tm_year == time.gmtime().tm_year
    return time.strftime("%m-%d %H:%M" if this_year else "%Y-%m-%d", time.gmtime(at))


def rollback(
    to: Annotated[int, typer.Option("--to", min=0, metavar="N", help="The revision to go back to.")],
    reason: Why,
    yes: Yes = False,
    dry_run: DryRunFlag = False,
    expect: Expect = None,
    json: JsonFlag = False,
) -> None:
    """Go back to an earlier revision.

    It makes a new revision with the services, clients and deliveries of then.
    Keys and revocations stay as they are: a client that was removed since comes back without its keys.

    Example: tekup rollback --to 17 --reason "the new limits were wrong"
    """
    body: show.Json = {"to": to, "reason": reason, "expected_revision": expect, "dry_run": dry_run}
    silent = yes or dry_run or json
    ask_first("POST", "/v1/state/rollback", f"Go back to revision {to}", silent=silent, body=body)
    answer = Api.here().ask("POST", "/v1/state/rollback", body, timeout_s=TIMEOUT_S)
    then = f"revision {to}"
    if not (json or dry_run):
        show.plan(answer, lacks_it=then)
    for name in cast("list[str]", answer["settled"]) if not json else []:
        show.sentence(
            f"= Service {name} was at a step of a rollout in {then}: without it all calls go to the stable version of"
            f" then; `tekup rollout start {name} VERSION` begins anew"
        )
    show.done(answer, f"state as of {then}", json_wanted=json, lacks_it=then)


def drift(json: JsonFlag = False) -> None:
    """Show what another hand has changed, and gates that run otherwise.

    Exits with 0 if there is nothing, with 7 if there is something.
    `tekup state repair` accepts what lies in Consul, `tekup state restore` puts back what the last revision says.

    Example: tekup drift
    """
    answer = Api.here().ask("GET", "/v1/state/drift", timeout_s=TIMEOUT_S)
    tables, gates = (cast("list[str]", answer[name]) for name in ("tables", "gates"))
    if json:
        show.as_json(answer)
    elif tables or gates:
        show.drift(answer, tables, gates)
    else:
        typer.echo(f"no drift: Consul and every gate are as revision {answer['revision']} says")
    if tables or gates:
        raise typer.Exit(Exit.CHANGES)


def show_schema(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}; all without.")] = "",
) -> None:
    """Print the JSON Schema of resources, for editors and checks.

    Example: tekup schema Service > service.schema.json
    """
    try:
        show.as_json(schema(kind))
    except Refused as error:
        raise BadInput(str(error)) from error


@state.command("init")
def state_init(
    force: Annotated[bool, typer.Option("--force", help="Begin anew although a gate runs a policy.")] = False,
    reason: Reason = NO_REASON,
    json: JsonFlag = False,
) -> None:
    """Begin with an empty policy where Consul holds none.

    Where a gate still runs one, Consul has lost its data: restore it rather. --force begins anew all the same, and
    drops all weights, clients and keys.

    Example: tekup state init --force --reason "Consul's disk is gone, there is no backup"
    """
    answer = Api.here().ask("POST", "/v1/init", {"reason": reason, "force": force})
    if json:
        show.as_json(answer)
    else:
        done = "initialised" if answer["initialised"] else "was there already"
        typer.echo(f"state {done}: epoch {answer['epoch']}, revision {answer['revision']}")


@state.command("repair")
def state_repair(reason: Why, yes: Yes = False, json: JsonFlag = False) -> None:
    """Accept what lies in Consul: edited there by hand, or restored from an older backup.

    An older state gets a new epoch, so that the gates go back to it. Revoked keys stay revoked.

    Example: tekup state repair --reason "client removed by hand during the outage"
    """
    ask_plainly("Accept all of it as it lies in Consul (`tekup drift` shows it)", silent=yes or json)
    answer = Api.here().ask("POST", "/v1/repair", {"reason": reason})
    show.done(answer, "state as it lies in Consul", json_wanted=json)


@state.command("restore")
def state_restore(reason: Why, yes: Yes = False, json: JsonFlag = False) -> None:
    """Put back services, clients and deliveries as the last revision says, over what another hand has changed.

    `tekup drift` shows what that is. Keys are not kept in history: of those nothing is put back.

    Example: tekup state restore --reason "edited by mistake"
    """
    ask_plainly("Put back what the last revision says (`tekup drift` shows it)", silent=yes or json)
    answer = Api.here().ask("POST", "/v1/state/restore", {"reason": reason}, timeout_s=TIMEOUT_S)
    show.done(answer, "state as the last revision says", json_wanted=json)


@state.command("upgrade")
def state_upgrade(reason: Why, dry_run: DryRunFlag = False, json: JsonFlag = False) -> None:
    """Bring what lies in Consul to the form of this version, once every replica is of it.

    Until then the versions before and after work side by side, and going back is putting the old one there again.
    From here the way back is a backup.

    Example: tekup state upgrade --dry-run --reason "what would it do?"
    """
    answer = Api.here().ask("POST", "/v1/state/upgrade", {"reason": reason, "dry_run": dry_run}, timeout_s=TIMEOUT_S)
    if json:
        show.as_json(answer)
        return
    if answer["before"] == answer["after"]:
        typer.echo(f"the state has form {answer['after']} already; nothing to do")
        return
    typer.echo(f"the state {'would have' if dry_run else 'has'} form {answer['after']}, after {answer['before']}")
    for step in cast("list[str]", answer["steps"]):
        show.sentence(step)
