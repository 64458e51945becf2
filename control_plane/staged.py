"""A change larger than one transaction of the store, which comes into force as a whole all the same.

It is first written down in batches nobody reads, then declared by one document, and from then on it happens: whoever
leads writes the batches out, and the revision, the record and the end of the declaration last, in one transaction.
Gates hold on to what they have until the tables fit the revision again. A leader that dies in between leaves either
batches without a declaration, which mean nothing, or a declaration, which the next leader finishes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from control_plane.errors import Conflict, Refused
from control_plane.kept import REVISION_KEY
from control_plane.model import Document, Revision
from control_plane.ports import Entry, Fence, Listing, Store, Write

PENDING_PREFIX = "tekup/state/pending/"
DECLARED = "change"

# Consul takes 128 operations and 512 kB a transaction, values in base64; one operation is the fence's.
MOST_WRITES = 100
MOST_BYTES = 240_000


class Line(Document):
    """One write; None deletes."""

    key: str
    value: str | None


class Batch(Document):
    """Writes that go out together."""

    writes: tuple[Line, ...]


class Declared(Document):
    """A change that was decided and not yet carried out to its end.

    Attributes:
        epoch: Of the revision it builds on.
        number: Of the same.
        batches: How many batches hold it.
        sha256: Over all of them.
    """

    epoch: int
    number: int
    batches: Annotated[int, Field(ge=1)]
    sha256: str


@dataclass(frozen=True)
class Closing:
    """What ends a change, all or nothing: the revision, the record under its key, and what else belongs to it."""

    revision: Revision
    index: int
    record: Write
    beside: tuple[Write, ...] = ()

    @property
    def writes(self) -> list[Write]:
        """Guarded by what they replace."""
        return [Write(REVISION_KEY, self.revision.to_bytes(), self.index), self.record]


def cost(write: Write) -> int:
    """Bytes that a write takes in a batch, at most: text is escaped in it."""
    return len(write.key) + len(json.dumps((write.value or b"").decode())) + 40


def batched(writes: Iterable[Write]) -> list[list[Write]]:
    """Writes in as few lots as fit a transaction each, in their order."""
    lots: list[list[Write]] = []
    size = 0
    for write in writes:
        size += cost(write)
        if not lots or size > MOST_BYTES or len(lots[-1]) >= MOST_WRITES:
            lots.append([])
            size = cost(write)
        lots[-1].append(write)
    return lots


async def carry_out(store: Store, writes: Sequence[Write], base: Revision, closing: Closing, fence: Fence) -> None:
    """Write a change of any size.

    Args:
        store: Where to.
        writes: Documents and parts of the record, unguarded.
        base: The revision it builds on.
        closing: What makes it count.
        fence: Proves that we lead.

    Raises:
        Conflict: Somebody else wrote in the meantime; nothing counts.
        Fenced: We do not lead any more; whether it counts is for the next leader's log to say.
        Unavailable: The store did not answer; it may or may not come to count.
    """
    whole = [*writes, *closing.writes]
    if len(batched([*whole, *closing.beside])) == 1:
        await store.commit([*whole, *closing.beside], fence)
        return
    if closing.beside:
        raise Refused("the change is larger than a transaction, and something hangs on it that must be in the same one")
    # The closing lies in the last batch by itself: it is what has to be guarded when it goes out.
    raws = [_raw(lot) for lot in [*batched(writes), closing.writes]]
    for lot in batched(Write(f"{PENDING_PREFIX}{n:06d}", raw) for n, raw in enumerate(raws)):
        await store.commit(lot, fence)
    declared = Declared(epoch=base.epoch, number=base.number, batches=len(raws), sha256=_digest(raws))
    await store.commit([Write(PENDING_PREFIX + DECLARED, declared.to_bytes(), 0)], fence)
    await finish(store, fence)


async def finish(store: Store, fence: Fence) -> Revision | None:
    """Carry out what was declared; nothing if nothing was.

    Returns:
        The revision that it has led to.

    Raises:
        Conflict: It builds on another revision than the present, or is damaged; `state.repair` gives it up.
    """
    listing = await store.read(PENDING_PREFIX)
    entry = listing.entries.get(DECLARED)
    if entry is None:
        return None
    batches = _batches(listing, Declared.parse(entry.value, PENDING_PREFIX + DECLARED))
    held = (await store.read(REVISION_KEY)).entries.get("")
    _check_base(held, Declared.parse(entry.value, PENDING_PREFIX + DECLARED))
    for batch in batches[:-1]:
        await store.commit([_write(line) for line in batch.writes], fence)
    revision, record = (_write(line) for line in batches[-1].writes)
    ended = Write(PENDING_PREFIX + DECLARED, None, entry.index)
    guarded = Write(revision.key, revision.value, held.index if held else 0)
    await store.commit([guarded, record, ended], fence)
    await sweep(store, fence, listing)
    return Revision.parse(revision.value or b"", REVISION_KEY)


async def sweep(store: Store, fence: Fence, listing: Listing) -> None:
    """Delete batches that mean nothing any more."""
    for lot in batched(Write(PENDING_PREFIX + name, None) for name in sorted(listing.entries) if name != DECLARED):
        await store.commit(lot, fence)


async def give_up(store: Store, fence: Fence) -> None:
    """Forget a declared change that cannot be carried out; what it has written stays, and is for a repair to accept."""
    listing = await store.read(PENDING_PREFIX)
    if DECLARED in listing.entries:
        await store.commit([Write(PENDING_PREFIX + DECLARED, None)], fence)
    await sweep(store, fence, listing)


def _check_base(held: Entry | None, declared: Declared) -> None:
    place = Revision.parse(held.value, REVISION_KEY).place if held else (0, 0)
    if place != (declared.epoch, declared.number):
        raise Conflict(
            f"a change of many documents was begun on revision {declared.number} and Consul now holds {place[1]}; give"
            " it up and accept what lies there with `tekup state repair`"
        )


def _batches(listing: Listing, declared: Declared) -> list[Batch]:
    names = [f"{n:06d}" for n in range(declared.batches)]
    raws = [listing.entries[name].value for name in names if name in listing.entries]
    if len(raws) != declared.batches or _digest(raws) != declared.sha256:
        raise Conflict(
            f"a change of many documents under {PENDING_PREFIX} is damaged; give it up and accept what lies in Consul"
            " with `tekup state repair`"
        )
    try:
        return [Batch.parse(raw, PENDING_PREFIX + name) for name, raw in zip(names, raws, strict=True)]
    except Refused as error:
        raise Conflict(str(error)) from error


def _raw(lot: Iterable[Write]) -> bytes:
    lines = (Line(key=one.key, value=None if one.value is None else one.value.decode()) for one in lot)
    return Batch(writes=tuple(lines)).to_bytes()


def _write(line: Line) -> Write:
    return Write(line.key, None if line.value is None else line.value.encode())


def _digest(raws: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(raws)).hexdigest()
