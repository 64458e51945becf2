"""What goes into a verb and what comes out, whatever it changes."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.model import Change, Revision, Table


@dataclass(frozen=True)
class Outcome:
    """What became of a verb.

    Attributes:
        revision: The revision that holds the wish; of a dry run, the present one.
        changed: Whether anything had to be written; a wish that was already true changes nothing.
        waiting_for: Gates that have not reported the revision in time; empty means in force.
        in_force_s: Seconds from the write to the last gate's report.
        changes: What was, or of a dry run would be, written.
        dry_run: Whether nothing was written, whatever `changed` says.
    """

    revision: Revision
    changed: bool
    waiting_for: tuple[str, ...]
    in_force_s: float
    changes: tuple[Change, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True)
class Wish:
    """Who wants a change and why; stands in its record.

    Attributes:
        author: Who.
        reason: Why.
        expected_number: The revision it was decided on; None: whichever it is.
        dry_run: Say what would change, and write nothing.
        match: Refuse it unless the document under this table and key has this tag.
        services: Refuse it where it changes anything of others than these; none = whatever it changes.
    """

    author: str
    reason: str
    expected_number: int | None = None
    dry_run: bool = False
    services: tuple[str, ...] = ()
    match: tuple[Table, str, str] | None = None
