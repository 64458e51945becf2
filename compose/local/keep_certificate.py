"""Keeps the gate's certificate: a process beside the gate, `python -m compose.local.keep_certificate GATE …`.

From files: whenever they change, the new pair is judged and put in place, or refused and the last good one stays.
From the development authority: a new leaf when a third of the old one's life is left. Nothing is restarted.
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from .authority import LEAF_LIFE, is_of, issue
from .certificates import Pair, Shelf, judge, read_pair
from .errors import BadCertificate
from .log import log

EVERY_S = 1.0
Source = Callable[[Pair | None, datetime], Pair]
"""From what is in place and the time to what should be; raises `BadCertificate`."""


def from_files(certificate: Path, key: Path) -> Source:
    """The pair that two files hold now."""
    return lambda _in_place, _now: read_pair(certificate, key)


def from_authority(folder: Path, life: timedelta = LEAF_LIFE) -> Source:
    """The leaf in place while it has time left, else a new one.

    Args:
        folder: the authority's.
        life: of a new leaf.
    """

    def wanted(in_place: Pair | None, now: datetime) -> Pair:
        if in_place and _is_fresh(in_place.leaf(), now) and is_of(folder, in_place.leaf()):
            return in_place
        return issue(folder, now, life)

    return wanted


def _is_fresh(leaf: x509.Certificate, now: datetime) -> bool:
    left = leaf.not_valid_after_utc - now
    return left > (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 3


def turn(source: Source, shelf: Shelf, now: datetime) -> str:
    """Look once, and put in place what is new and good.

    Args:
        source: what should be in place.
        shelf: the gate's.
        now: the time.

    Returns:
        Why the last good one stays, "" if it is the source's.
    """
    in_place, problem = shelf.in_place(), ""
    try:
        pair = source(in_place, now)
        leaf = judge(pair, now)
        if pair != in_place:
            shelf.put(pair, leaf)
    except BadCertificate as error:
        problem = str(error)
    shelf.note(problem)
    return problem


def _told_turn(source: Source, shelf: Shelf) -> None:
    """A turn that logs what it changed."""
    before, problem = shelf.in_place(), shelf.problem()
    now = turn(source, shelf, datetime.now(UTC))
    if now != problem:
        log("certificate refused, the last good one stays" if now else "source good again", problem=now)
    if (pair := shelf.in_place()) and pair != before:
        log("certificate in place", name=pair.name, until=pair.leaf().not_valid_after_utc.isoformat())


def main() -> None:
    """Keep the certificate of one gate until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gate", type=Path)
    parser.add_argument("--authority", type=Path, help="folder of the development authority")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    given = parser.parse_args()
    keep(given.gate, from_authority(given.authority) if given.authority else from_files(given.certificate, given.key))


def keep(gate: Path, source: Source) -> None:
    """Keep the certificate of one gate, for ever.

    Args:
        gate: its folder.
        source: what should be in place.
    """
    shelf = Shelf(gate)
    while True:
        try:
            _told_turn(source, shelf)
        except OSError as error:  # a full disk passes; the certificate in place is good for days
            log("certificate not kept", problem=str(error))
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
