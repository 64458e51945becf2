"""Rows of a chaos run, for a terminal and for docs/reliability.md."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.fault import Fault

_SHOWN = 3


@dataclass(frozen=True)
class Row:
    """What came of a fault, or of two at once.

    Args:
        name: Which.
        seed: Chose victims.
        pair: Whether it was two.
        calls: Made meanwhile.
        failed: Of them.
        gap_s: The longest time without a call answered well.
        recovered_s: From mending until all was well.
        bound_s: The most that may take.
        changes: Changes of policy accepted meanwhile.
        broken: Promises that were not kept.
        skipped: Why the fault could not be made here, "" when it was.
        recovered: Whether all was well again at the end.
    """

    name: str
    seed: int
    pair: bool = False
    calls: int = 0
    failed: int = 0
    gap_s: float = 0.0
    recovered_s: float = 0.0
    bound_s: float = 0.0
    changes: int = 0
    broken: tuple[str, ...] = ()
    skipped: str = ""
    recovered: bool = False


def line(row: Row) -> str:
    """A row for the terminal."""
    if row.skipped:
        return f"  -  {row.name}: not made here: {row.skipped}"
    head = (
        f"{'FAIL' if row.broken else '  ok'} {row.name}: {row.calls} calls, {row.failed} failed, longest gap "
        f"{row.gap_s:.1f} s, well again after {row.recovered_s:.1f} s (bound {row.bound_s:.0f}), {row.changes} changes"
    )
    more = [f"\n       {said}" for said in row.broken[:_SHOWN]]
    if len(row.broken) > _SHOWN:
        more.append(f"\n       and {len(row.broken) - _SHOWN} more")
    return head + "".join(more)


def document(rows: Sequence[Row], faults: Sequence[Fault[Any]], template: Path) -> str:
    """A page of what came of faults.

    Args:
        rows: Of all seeds.
        faults: All that there are, in the table's order.
        template: What stands around the rows.
    """
    seeds = sorted({row.seed for row in rows})
    single = [row for row in rows if not row.pair]
    alone = [
        _told(fault.name, fault.costs, [row for row in single if row.name == fault.name])
        for fault in faults
        if any(row.name == fault.name for row in single)
    ]
    together = [row for row in rows if row.pair]
    names = list(dict.fromkeys(row.name for row in together))
    pairs = [_told(name, "what each may cost", [row for row in together if row.name == name]) for name in names]
    made = [row for row in rows if not row.skipped]
    return string.Template(template.read_text()).substitute(
        seeds=", ".join(map(str, seeds)),
        asked=" ".join(map(str, seeds)),
        rows=len(made),
        calls=f"{sum(row.calls for row in made):,}",
        changes=f"{sum(row.changes for row in made):,}",
        broken=sum(len(row.broken) for row in made),
        single="\n".join(alone),
        pairs="\n".join(pairs),
    )


def _told(name: str, costs: str, rows: Sequence[Row]) -> str:
    made = [row for row in rows if not row.skipped]
    if not made:
        return f"| {name} | {costs} | not made: {rows[0].skipped} | | | |"
    return (
        f"| {name} | {costs} | {sum(row.calls for row in made):,} | {sum(row.failed for row in made)} "
        f"| {max(row.gap_s for row in made):.1f} s | {max(row.recovered_s for row in made):.1f} s "
        f"(≤ {made[0].bound_s:.0f} s) | {sum(len(row.broken) for row in made)} |"
    )
