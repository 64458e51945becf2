"""Options that many commands share."""

from __future__ import annotations

from typing import Annotated, Any, cast
from urllib.parse import quote

import typer

from compose.local.errors import BadInput

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the API's answer.")]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; stands in the record.")]
Rows = list[dict[str, Any]]
NO_REASON = "by command line"


def rows_of(answer: dict[str, object], field: str) -> Rows:
    """A list of objects in the API's answer."""
    return cast("Rows", answer[field])


def reason_params(reason: str, *, dry_run: bool) -> dict[str, str]:
    """What a DELETE carries."""
    return {"reason": reason} | ({"dry_run": "true"} if dry_run else {})


def part(text: str) -> str:
    """An id as one part of a path; the dots too, since the HTTP client would resolve a bare `..`."""
    if not text:
        raise BadInput("an empty name is nobody's; name a service, client, key or gate")
    return quote(text, safe="").replace(".", "%2E")
