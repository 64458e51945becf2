"""The audit trail: every change and every refused one, in a chain of hashes that tells where it was broken. Pure part.

A record is canonical JSON (keys sorted, no blanks) and carries the sha256 of the record before it. Of a change it names
the revision and the sha256 of that revision's record in the history, where before and after stand: so nothing is kept
twice, and what is changed there by another hand is found as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from control_plane.errors import Refused
from control_plane.model import Document, HistoryRecord

MOST_SAID = 500
START = "0" * 64
"""What the first record of all has for the hash of the one before."""
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Result = Literal["done", "unchanged", "refused", "failed"]


class Draft(Document):
    """What a record says.

    Attributes:
        at: Seconds since the epoch.
        who: The operator's name, or `control-plane`.
        what: The verb.
        target: Method and path of the call, "" for what the platform did by itself.
        why: The reason given.
        epoch: Of the revision, 0 where there is none.
        before: The revision before.
        after: The revision that holds the change, as before where nothing was changed.
        result: What became of it; `failed`: nobody knows.
        status: The answer's HTTP status, 0 where nobody asked by HTTP.
        said: Why it was refused.
        record: sha256 of the revision's record as Consul holds it, "" where there is none.
        trace: The trace of the call, "" where nothing is traced.
    """

    at: float
    who: str
    what: str
    target: str = ""
    why: str = ""
    epoch: int = 0
    before: int = 0
    after: int = 0
    result: Result = "done"
    status: int = 0
    said: str = ""
    record: str = ""
    trace: str = ""


class AuditRecord(Draft):
    """A record of the chain.

    Attributes:
        number: From 1, without gaps.
        prev: sha256 of the record before it.
    """

    number: Annotated[int, Field(ge=1)]
    prev: Hash

    @classmethod
    def after_one(cls, draft: Draft, number: int, prev: str) -> AuditRecord:
        """A draft as the next of the chain."""
        return cls(**draft.model_dump(), number=number, prev=prev)

    def line(self) -> bytes:
        """Canonical JSON: what is stored, hashed and exported."""
        return canonical(self.model_dump(mode="json"))


class Head(Document):
    """Where the chain ends, and where what is kept of it begins.

    Attributes:
        number: The last record's.
        hash: The last record's.
        epoch: Of the last revision that was taken in.
        revision: Its number, -1 before the first.
        first: The oldest record that is kept.
        anchor: The hash of the record before that.
    """

    number: int = 0
    hash: Hash = START
    epoch: int = 0
    revision: int = -1
    first: int = 1
    anchor: Hash = START


@dataclass(frozen=True)
class Verdict:
    """What came of looking a chain over.

    Attributes:
        records: How many were looked at.
        first: The first one's number.
        last: The last one's number.
        hash: The last one's hash; to compare with what was noted elsewhere.
        tampered: The first record that is not as it was written, 0 if there is none.
        problem: What is wrong, in a sentence; "" if nothing is.
    """

    records: int
    first: int
    last: int
    hash: str
    tampered: int = 0
    problem: str = ""


def canonical(value: Mapping[str, object]) -> bytes:
    """JSON with sorted keys and no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_of(line: bytes) -> str:
    """What the next record says of one."""
    return hashlib.sha256(line).hexdigest()


def of_revision(record: HistoryRecord, raw: bytes) -> Draft:
    """A change as the audit has it.

    Args:
        record: Its record in the history.
        raw: The same as the store holds it.
    """
    return Draft(
        at=record.at,
        who=record.author,
        what=record.verb,
        why=record.reason,
        epoch=record.epoch,
        before=max(0, record.number - 1),
        after=record.number,
        record=hash_of(raw),
        trace=record.trace,
    )


def verified(lines: Sequence[bytes], head: Head | None = None) -> Verdict:
    """Look a chain over.

    Args:
        lines: Its records in order, as they were stored or exported.
        head: What is said of its ends; None: it may begin and end anywhere.

    Returns:
        What came of it, naming the first record that is not as it was written.
    """
    hashes = [hash_of(line) for line in lines]
    records: list[AuditRecord | None] = [_read(line) for line in lines]
    first = head.first if head else next((one.number for one in records if one), 1)
    bad, problem = _first_bad(records, hashes, head, first)
    last = first + len(lines) - 1
    return Verdict(len(lines), first, last, hashes[-1] if hashes else START, bad, problem)


def _first_bad(
    records: Sequence[AuditRecord | None], hashes: Sequence[str], head: Head | None, first: int
) -> tuple[int, str]:
    expected = head.anchor if head else ""
    for place, one in enumerate(records):
        number = first + place
        if one is None:
            return number, f"record {number} is none any more"
        if one.number != number:
            return number, f"record {number} is missing"
        if expected and one.prev != expected:
            # Either of the two may be the changed one: whom the next one vouches for is as it was.
            sound = place and _vouched(place, records, hashes, head)
            bad = number - 1 if sound else number
            return bad, f"record {bad} is not what was written: record {bad + 1} knows it otherwise" if sound else (
                f"record {bad} does not follow from the one before it"
            )
        expected = hashes[place]
    if head and first + len(records) - 1 < head.number:
        missing = first + len(records)
        return missing, f"record {missing} is missing"
    if head and records and expected != head.hash:
        return head.number, f"record {head.number} is not what was written: the end of the chain knows it otherwise"
    return 0, ""


def _vouched(place: int, records: Sequence[AuditRecord | None], hashes: Sequence[str], head: Head | None) -> bool:
    if place + 1 < len(records):
        following = records[place + 1]
        return following is not None and following.prev == hashes[place]
    return head is None or head.hash == hashes[place]


def _read(line: bytes) -> AuditRecord | None:
    try:
        record = AuditRecord.model_validate_json(line)
    except ValidationError:
        return None
    return record if record.line() == line else None


def parse_lines(text: Iterable[bytes], where: str) -> list[bytes]:
    """The records of a file of JSON lines, empty lines left out.

    Raises:
        Refused: A line is no JSON object at all, naming it.
    """
    found = []
    for number, line in enumerate(text, 1):
        stripped = line.strip()
        if not stripped:
            continue
        if not stripped.startswith(b"{"):
            raise Refused(f"{where}, line {number}: no record; write the file with `tekup audit export`")
        found.append(stripped)
    return found
