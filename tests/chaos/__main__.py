"""`make chaos`: every fault alone, and some in pairs, under load; every call accounted for."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.account import Account, Allowed, accounted
from tests.chaos.container_faults import FAULTS as OF_CONTAINERS
from tests.chaos.containers import containers
from tests.chaos.fault import NEVER, CannotBreak, Fault
from tests.chaos.faults import FAULTS as OF_PROCESSES
from tests.chaos.ground import Ground
from tests.chaos.platform import platform
from tests.chaos.report import Row, document, line
from tests.support.trouble import after_s

RESULTS = Path("chaos-results")
BEFORE_S = 90.0
Faults = tuple[Fault[Any], ...]
PATIENCE = 3
"""So many times its bound a recovery is waited for, so that a slow one is measured and not only missed."""


@dataclass(frozen=True)
class World:
    """Where faults happen.

    Args:
        faults: Those there are.
        ground: Brings all parts up, in an empty folder; the seed chooses victims.
        page: The name of the page under docs that tells of them.
    """

    faults: Sequence[Fault[Any]]
    ground: Callable[[Path, int], AbstractContextManager[Ground]]
    page: str

    @property
    def template(self) -> Path:
        """What stands around the page's rows."""
        return Path(__file__).with_name(f"{self.page}.tmpl")


PROCESSES = World(OF_PROCESSES, platform, "reliability.md")
CONTAINERS = World(OF_CONTAINERS, containers, "reliability-containers.md")


def main() -> int:
    """Run what is asked for; 1 if a promise was broken."""
    asked = _parser().parse_args()
    world = CONTAINERS if asked.containers else PROCESSES
    chosen = [fault for fault in world.faults if not asked.only or any(word in fault.name for word in asked.only)]
    if not chosen:
        print(f"no fault's name holds any of {asked.only}; --list shows them", file=sys.stderr)
        return 2
    if asked.list:
        print("\n".join(fault.name for fault in chosen))
        return 0
    rows: list[Row] = []
    RESULTS.mkdir(exist_ok=True)
    for seed in asked.seeds:
        pairs = _pairs(chosen, seed, asked.pairs)
        print(f"seed {seed}: {len(chosen)} faults, {len(pairs)} pairs", flush=True)
        plan = [(fault,) for fault in chosen] + pairs
        for row in _run(world, plan, seed, Path(asked.keep) if asked.keep else None):
            rows.append(row)
            (RESULTS / "rows.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if asked.docs:
        Path("docs", world.page).write_text(document(rows, world.faults, world.template))
    broken = sum(len(row.broken) for row in rows)
    print(f"{len(rows)} rows, {sum(row.calls for row in rows)} calls, {broken} promises broken")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="faults whose name holds one of these")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], metavar="N", help="choose victims and pairs; 1")
    parser.add_argument("--pairs", type=int, default=6, metavar="N", help="so many random pairs for each seed; 6")
    parser.add_argument("--containers", action="store_true", help="production in containers, not processes")
    parser.add_argument("--docs", action="store_true", help="write docs/reliability*.md from the results")
    parser.add_argument("--list", action="store_true", help="list the faults and end")
    parser.add_argument("--keep", metavar="FOLDER", help="an empty folder for all logs, which stays")
    return parser


def _pairs(chosen: Sequence[Fault[Any]], seed: int, count: int) -> list[Faults]:
    fit = list(itertools.combinations([fault for fault in chosen if not fault.alone], 2))
    return random.Random(seed).sample(fit, min(count, len(fit)))


def _run(world: World, plan: Sequence[Faults], seed: int, keep: Path | None) -> Iterator[Row]:
    """All rows on one platform, or on a new one after a row that did not end well."""
    left = deque(enumerate(plan))
    while left:
        with _folder(keep and keep / str(seed), left[0][0]) as folder, world.ground(folder, seed) as on:
            while left:
                number, faults = left.popleft()
                row = _row(on, faults, f"{seed}-{number}", seed)
                print(line(row), flush=True)
                yield row
                if not row.recovered:
                    break


@contextlib.contextmanager
def _folder(keep: Path | None, number: int) -> Iterator[Path]:
    if keep is not None:
        (keep / str(number)).mkdir(parents=True)
        yield keep / str(number)
    else:
        with tempfile.TemporaryDirectory(prefix="tekup-chaos-") as made:
            yield Path(made)


def _row(on: Ground, faults: Faults, name: str, seed: int) -> Row:
    """One row of the table."""
    titles = " and ".join(fault.name for fault in faults)
    bound_s = max(fault.recovers_s for fault in faults)
    with on.row(name):
        try:
            on.well(BEFORE_S)
            from_s = time.monotonic()
            with contextlib.ExitStack() as mend:
                for fault in faults:
                    fault.breaks(on, mend)
                broke_s = time.monotonic()
                after_s(max(fault.lasts_s for fault in faults))
            mended_s = time.monotonic()
            on.well(PATIENCE * bound_s)
            recovered_s = time.monotonic() - mended_s
        except CannotBreak as error:
            return Row(titles, seed, len(faults) > 1, skipped=str(error), recovered=True)
        except pytest.fail.Exception as error:
            return Row(titles, seed, len(faults) > 1, broken=(f"not well again: {error.msg}",))
    account = _account(on, faults, name, from_s, broke_s)
    broken = (*account.broken, *on.pen.broken())
    if recovered_s > bound_s:
        broken = (*broken, f"well again after {recovered_s:.1f} s, not {bound_s:.0f} s")
    return Row(titles, seed, len(faults) > 1, account.calls, account.failed, account.gap_s, recovered_s, bound_s,
               len(on.pen.accepted), broken, recovered=True)  # fmt: skip


def _account(on: Ground, faults: Faults, name: str, from_s: float, broke_s: float) -> Account:
    longest = max(fault.fails_s for fault in faults)
    versions = [version for fault in faults for version in fault.versions]
    allowed = Allowed(from_s, broke_s + longest, versions, nothing=longest == NEVER)
    return accounted(on.calls.sent, on.calls.intruded, on.steps(f"{name}-"), allowed, on.versions)


if __name__ == "__main__":
    sys.exit(main())
