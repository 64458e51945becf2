"""``tekup audit``: who changed, or was refused, what; and whether that is as it was written."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from compose.local.errors import BadInput
from compose.local.exits import Exit
from control_plane.audit import Verdict, canonical, parse_lines, verified
from control_plane.cli import show
from control_plane.cli.client import Api
from control_plane.cli.options import JsonFlag, rows_of
from control_plane.cli.state import moment_short
from control_plane.errors import Refused

audit = typer.Typer(no_args_is_help=True, help="Who changed, or was refused, what.")

PAGE = 1000
TIMEOUT_S = 120.0


@audit.command("list")
def audit_list(
    limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE, help="How many, newest first.")] = 20,
    before: Annotated[int | None, typer.Option("--before", help="Only records below this one.")] = None,
    json: JsonFlag = False,
) -> None:
    """List the last records; `tekup history N` shows before and after of a change that made revision N.

    Example: tekup audit list --limit 50
    """
    params = {"limit": str(limit)} | ({} if before is None else {"before": str(before)})
    answer = Api.here().ask("GET", "/v1/audit", params=params)
    if json:
        show.as_json(answer)
        return
    rows = [
        (
            str(one["number"]),
            moment_short(one["at"]),
            one["who"] or "nobody",
            one["what"] or one["target"],
            _result(one),
            one["said"] or one["why"],
        )
        for one in rows_of(answer, "records")
    ]
    show.table(("NO", "UTC", "WHO", "WHAT", "RESULT", "WHY"), rows, "No record there.")


def _result(one: dict[str, Any]) -> str:
    if one["result"] == "done":
        return f"revision {one['after']}" if one["after"] else "done"
    return f"{one['result']} {one['status']}" if one["status"] >= 400 else str(one["result"])


@audit.command("export")
def audit_export(
    file: Annotated[Path | None, typer.Argument(help="Where to; standard output without.")] = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Only records above this one.")] = 0,
) -> None:
    """Write all records that are kept as JSON lines, oldest first; `tekup audit verify FILE` looks them over.

    Example: tekup audit export audit.jsonl
    """
    lines = _lines(Api.here(), after)
    if file is None:
        for line in lines:
            sys.stdout.write(line)
        return
    try:
        with file.open("w", encoding="utf-8") as out:
            count = sum(1 for line in lines if out.write(line))
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}") from error
    typer.echo(f"{count} records in {file}")


def _lines(api: Api, after: int) -> Iterator[str]:
    while True:
        params = {"after": str(after), "limit": str(PAGE)}
        records = rows_of(api.ask("GET", "/v1/audit", params=params, timeout_s=TIMEOUT_S), "records")
        if not records:
            return
        yield from (canonical(one).decode() + "\n" for one in records)
        after = records[-1]["number"]


@audit.command("verify")
def audit_verify(
    file: Annotated[Path | None, typer.Argument(help="What was exported; what lies in Consul without.")] = None,
    head: Annotated[str, typer.Option("--hash", help="The last record's hash, noted before; it has to be there.")] = "",
    json: JsonFlag = False,
) -> None:
    """Look the chain of records over, and name the first that is not as it was written. Ends with 1 if there is one.

    In Consul the records of revisions are held against it as well. Who can write to Consul could make a chain anew:
    note the hash that is printed elsewhere, and name it by --hash.

    Example: tekup audit verify
    """
    found = _of_file(file) if file else _of_consul()
    if found["good"] and head and not _holds(head, file):
        found |= {"good": False, "problem": f"no record has the hash {head}: the chain was made anew, or cut short"}
    if json:
        show.as_json(found)
    elif found["good"]:
        show.sentence(f"{found['records']} records, {found['first']} to {found['last']}, are as they were written")
        typer.echo(f"hash {found['hash']}")
    else:
        show.sentence(f"the audit trail was changed: {found['problem']}")
    if not found["good"]:
        raise typer.Exit(Exit.FAILED)


def _of_consul() -> dict[str, Any]:
    return cast("dict[str, Any]", Api.here().ask("GET", "/v1/audit/verify", timeout_s=TIMEOUT_S))


def _of_file(file: Path) -> dict[str, Any]:
    found: Verdict = verified(_read(file))
    return {
        "good": not found.problem,
        "records": found.records,
        "first": found.first,
        "last": found.last,
        "hash": found.hash,
        "tampered": found.tampered,
        "problem": found.problem,
    }


def _read(file: Path) -> list[bytes]:
    try:
        return parse_lines(file.read_bytes().splitlines(), str(file))
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}; write it with `tekup audit export`") from error
    except Refused as error:
        raise BadInput(str(error)) from error


def _holds(wanted: str, file: Path | None) -> bool:
    """Whether a record of that hash is there: the next one, or the end of the chain, names it."""
    lines = _read(file) if file else [line.strip().encode() for line in _lines(Api.here(), 0)]
    hashes = {verified([lines[-1]]).hash} if lines else set()
    return wanted in hashes | {json_text.loads(line)["prev"] for line in lines}
