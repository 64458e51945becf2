"""Two regions: what one says of itself, what is copied from the home region, and what a round of a region leads to.

One region, the home, writes policy. The other follows: it holds a copy of all that a revision is made of, and writes
nothing. Which is which is an operator's word, and each taking over begins a later epoch, which gates and the other
region go by. Pure: no store, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, assert_never

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control_plane.errors import Refused
from control_plane.kept import (
    ASKED_PREFIX,
    AUDIT_HEAD_KEY,
    AUDIT_PREFIX,
    ENDED_PREFIX,
    HISTORY_PREFIX,
    PARTS_PREFIX,
    REVISION_KEY,
    ROLLOUTS_PREFIX,
    SCHEMA_KEY,
    SNAPSHOT_PARTS_PREFIX,
    SNAPSHOT_PREFIX,
    STATE_PREFIX,
    history_key,
)
from control_plane.model import ONE_LINE, Document, Revision, Table
from control_plane.signed import table_sum

REGION_KEY = f"{STATE_PREFIX}region"
LEFT_PREFIX = f"{STATE_PREFIX}region-left/"
RECORDS = (
    HISTORY_PREFIX,
    PARTS_PREFIX,
    SNAPSHOT_PREFIX,
    SNAPSHOT_PARTS_PREFIX,
    ENDED_PREFIX,
    AUDIT_PREFIX,
    ASKED_PREFIX,
)
"""What may lie there before the revision that it belongs to: it means nothing by itself."""
COPIED = (*(table.prefix for table in Table), ROLLOUTS_PREFIX, *RECORDS)
"""What a revision of the home region consists of; instances, gates and what is known of them are each region's own."""
SINGLE = (REVISION_KEY, AUDIT_HEAD_KEY, SCHEMA_KEY)

Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$", max_length=256)]
Documents = Mapping[str, bytes]


class Part(StrEnum):
    """What a region is at the moment."""

    ALONE = "alone"
    HOME = "home"
    HANDING = "handing over"
    FOLLOWER = "follower"

    @property
    def writes(self) -> bool:
        """Whether its control plane writes policy."""
        return self in (Part.ALONE, Part.HOME)


class Region(Document):
    """What a region is, as its own Consul holds it; one that was never told anything is alone.

    Attributes:
        part: What it is.
        peer: The other region's operators' API.
        author: Who said so.
        reason: Why.
        at: When, in seconds since the epoch.
    """

    part: Part = Part.ALONE
    peer: Url
    author: str
    reason: Annotated[str, StringConstraints(pattern=ONE_LINE)]
    at: float

    @property
    def elsewhere(self) -> str:
        """Why nothing is written here; "" if it is."""
        match self.part:
            case Part.ALONE | Part.HOME:
                return ""
            case Part.HANDING:
                return f"this region is handing over to {self.peer}: make the change there in some seconds"
            case Part.FOLLOWER:
                return (
                    f"this region follows {self.peer}, which alone writes: make the change there or, where that region"
                    " is lost, take over with `tekup region take-over`"
                )
            case _:
                assert_never(self.part)


class Side(BaseModel):
    """What one region tells the other of itself; of a later version it may tell more.

    Attributes:
        part: What it is.
        epoch: Of its revision, 0 where it has none.
        number: Of the same.
        stamp: Stays the same as long as nothing that is copied changes.
        index: Of this reading.
        keys: Everything that is copied, by name; None: nothing has changed since the stamp that was asked with.
        values: What was written there after the index that was asked with.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    part: Part
    epoch: Annotated[int, Field(ge=0)]
    number: Annotated[int, Field(ge=0)]
    stamp: str = ""
    index: int = 0
    keys: tuple[str, ...] | None = None
    values: dict[str, str] = Field(default_factory=dict)

    @property
    def place(self) -> tuple[int, int]:
        """Where its revision stands among all."""
        return self.epoch, self.number


class Step(StrEnum):
    """What a region has to do next."""

    STAY = "stay"
    COPY = "copy"
    YIELD = "yield"
    TAKE_OVER = "take over"


def step(part: Part, place: tuple[int, int], other: Side) -> Step:
    """What a region does about the other.

    A home that meets another of its own epoch or a later one writes no more: it was taken over while it was away.

    Args:
        part: What it is.
        place: Where its revision stands.
        other: What the other says of itself.

    Raises:
        Refused: It follows, and so does the other, or the other knows of no region.
    """
    claims = other.part in (Part.HOME, Part.HANDING)
    match part:
        case Part.ALONE:
            return Step.STAY
        case Part.HOME | Part.HANDING:
            return Step.YIELD if claims and other.epoch >= place[0] else Step.STAY
        case Part.FOLLOWER:
            if not claims:
                raise Refused(
                    f"the region that this one follows is {other.part} itself, so none writes: say which is to, with"
                    " `tekup region take-over` there"
                )
            level = other.part is Part.HANDING and other.keys is None and other.place == place
            return Step.TAKE_OVER if level else Step.COPY
        case _:
            assert_never(part)


def copied(key: str) -> bool:
    """Whether a key of the store belongs to what is copied."""
    return key in SINGLE or key.startswith(COPIED)


def wanted(here: Documents, side: Side) -> dict[str, bytes]:
    """Everything that is to lie here, as the home has it.

    Raises:
        KeyError: It told of a key that is not here, and not what lies under it: all of it has to be asked for.
    """
    return {key: side.values[key].encode() if key in side.values else here[key] for key in side.keys or ()}


@dataclass(frozen=True)
class Plan:
    """How a region comes to hold what it has to.

    Attributes:
        left: What another lineage has left here and the home never had, by the key it is kept under.
        ahead: What may lie here before the revision that it belongs to: None deletes.
        together: The policy, and what must not be ahead or behind of it.
        revision: The one that is reached.
    """

    revision: Revision
    left: Mapping[str, bytes] = field(default_factory=dict)
    ahead: Mapping[str, bytes | None] = field(default_factory=dict)
    together: Mapping[str, bytes | None] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether all is as it has to be."""
        return not self.ahead and not self.together


def plan(here: Documents, there: Documents) -> Plan:
    """What to write so that a region holds what the home does.

    Args:
        here: All that lies here and is copied.
        there: What the home holds.

    Raises:
        Refused: The home's tables do not fit its revision now, or it holds none.
    """
    if REVISION_KEY not in there:
        raise Refused("the home region's Consul holds no policy; nothing was copied")
    revision = Revision.parse(there[REVISION_KEY], "the home region's revision")
    if odd := _odd(there, revision):
        raise Refused(
            f"the home region's {', '.join(odd)} do not fit its revision {revision.number}: a change is on its way, or"
            " another hand has changed them; `tekup state drift` there tells"
        )
    differing: dict[str, bytes | None] = {
        key: there.get(key) for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)
    }
    lost = (key for key in differing if key in here and _left(key, there))
    ahead = {key: value for key, value in differing.items() if key.startswith(RECORDS)}
    return Plan(
        revision,
        left={LEFT_PREFIX + key.removeprefix(STATE_PREFIX): here[key] for key in lost},
        ahead=ahead,
        together={key: value for key, value in differing.items() if key not in ahead},
    )


def _odd(there: Documents, revision: Revision) -> list[str]:
    none = table_sum({})
    return [
        table.value for table in Table if table_sum(_under(there, table.prefix)) != revision.tables.get(table, none)
    ]


def _under(documents: Documents, prefix: str) -> dict[str, bytes]:
    return {key.removeprefix(prefix): value for key, value in documents.items() if key.startswith(prefix)}


def _left(key: str, there: Documents) -> bool:
    """Whether what differs is a record of another lineage, and not one that the home has compacted."""
    for prefix, by in ((HISTORY_PREFIX, HISTORY_PREFIX), (PARTS_PREFIX, HISTORY_PREFIX), (AUDIT_PREFIX, AUDIT_PREFIX)):
        if key.startswith(prefix):
            return _number(key, prefix) >= _oldest(there, by)
    return False


def _number(key: str, prefix: str) -> str:
    """The digits of a record's number, whatever its epoch: history is compacted by number."""
    name = key.removeprefix(prefix).partition("/")[0]
    return name.rpartition("-")[2]


def _oldest(there: Documents, prefix: str) -> str:
    return min((_number(key, prefix) for key in there if key.startswith(prefix)), default="")


def refuse_other_lineage(here: Documents, there: Documents, running: tuple[int, int]) -> None:
    """Refuse to put another region's policy over this one's where no gate here would take it up.

    Args:
        here: What lies here.
        there: What the home holds.
        running: Epoch and number of the newest revision that a gate here runs.

    Raises:
        Refused: The home's epoch is not later, and what lies here is no part of its history.
    """
    theirs = Revision.parse(there[REVISION_KEY], "the home region's revision")
    own = Revision.parse(here[REVISION_KEY], REVISION_KEY) if REVISION_KEY in here else None
    epoch = max(own.epoch if own else 0, running[0])
    if theirs.epoch > epoch:
        return
    record = history_key(own.epoch, own.number) if own else ""
    known = (
        own is None or there.get(record) == here.get(record) or f"{own.number:010d}" < _oldest(there, HISTORY_PREFIX)
    )
    if theirs.epoch == epoch and known and theirs.place >= max(running, own.place if own else (0, 0)):
        return
    raise Refused(
        f"the home region is at epoch {theirs.epoch} and this one was at {epoch} with a policy of its own, which its"
        " gates would hold on to: begin a later epoch at the home, with `tekup region take-over` there"
    )


def named(keys: Iterable[str], most: int = 5) -> str:
    """A few names, and how many more there are."""
    found = sorted(keys)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
