"""What a region tells of itself out of its Consul, and how a copy of it is written into another's.

A copy is written so that nobody sees a half of it: records first, which mean nothing before their revision, then the
policy with its revision in one transaction, or by :mod:`control_plane.staged` where it is too large for one. To write
it again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from control_plane import staged
from control_plane.errors import Conflict, Refused
from control_plane.kept import REVISION_KEY, history_key
from control_plane.model import Revision
from control_plane.ports import Fence, Listing, Store, Write
from control_plane.region import COPIED, REGION_KEY, Part, Plan, Region, Side, copied

log = logging.getLogger(__name__)

ALL = "tekup/"


async def region_of(store: Store) -> tuple[Region | None, int]:
    """What this region is, None if it was never told, and the index that guards the next write of it.

    Raises:
        Refused: It makes no sense.
    """
    entry = (await store.read(REGION_KEY)).entries.get("")
    return (None, 0) if entry is None else (Region.parse(entry.value, REGION_KEY), entry.index)


async def place_of(store: Store) -> tuple[int, int]:
    """Where this region's revision stands, (0, 0) where there is none."""
    entry = (await store.read(REVISION_KEY)).entries.get("")
    return Revision.parse(entry.value, REVISION_KEY).place if entry else (0, 0)


def copied_of(listing: Listing) -> dict[str, bytes]:
    """What is copied, of a reading of everything."""
    return {ALL + name: entry.value for name, entry in listing.entries.items() if copied(ALL + name)}


async def tell(store: Store, *, stamp: str = "", after: int = 0, look: bool = False) -> Side:
    """What this region says of itself.

    Args:
        store: Its Consul.
        stamp: What was told before.
        after: The index of what was told before.
        look: Leave out what is copied.

    Raises:
        Refused: Something that is copied is no text.
    """
    region, _ = await region_of(store)
    part, place = region.part if region else Part.ALONE, await place_of(store)
    now = await _stamp(store)
    side = Side(part=part, epoch=place[0], number=place[1], stamp=now, index=after)
    if look or stamp == now:
        return side
    listing = await store.read(ALL)  # of one moment, all of it
    if listing.index < after:
        after = 0  # an older state was restored
    entries = {ALL + name: entry for name, entry in sorted(listing.entries.items()) if copied(ALL + name)}
    revision = entries.get(REVISION_KEY)
    place = Revision.parse(revision.value, REVISION_KEY).place if revision else (0, 0)
    values = {key: _text(key, entry.value) for key, entry in entries.items() if entry.index > after}
    return Side(
        part=part, epoch=place[0], number=place[1], stamp=now, index=listing.index, keys=tuple(entries), values=values
    )


def _text(key: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"{key} in Consul is no text; another hand has written it, and no region can follow") from error


async def _stamp(store: Store) -> str:
    # Asking for indexes costs little, whatever lies there.
    found = await asyncio.gather(*(store.index(prefix) for prefix in (*COPIED, "tekup/policy/")))
    return "-".join(map(str, found))


async def settle(store: Store, fence: Fence) -> None:
    """End a change of many documents that was begun here, or forget it where it builds on what is not here any more."""
    try:
        await staged.finish(store, fence)
    except Conflict as error:
        log.warning("region.change_given_up", extra={"why": str(error)})
        await staged.give_up(store, fence)


async def write(store: Store, wanted: Plan, here: Listing, fence: Fence) -> None:
    """Write a copy.

    Args:
        store: This region's Consul.
        wanted: What to write.
        here: The reading that it was decided on.
        fence: Proves that we were elected.

    Raises:
        Conflict: Somebody else wrote here in the meantime.
        Fenced: We are not the elected replica any more.
        Refused: The home's history does not hold its own revision.
    """
    together = dict(wanted.together)
    raw = together.pop(REVISION_KEY, None)
    await _plain(store, wanted.left, fence)
    if raw is None and not together:
        await _plain(store, wanted.ahead, fence)
        return
    ahead = dict(wanted.ahead)
    key = history_key(wanted.revision.epoch, wanted.revision.number)
    record = ahead.pop(key, None) if key in ahead else _here(here, key)
    if record is None:
        raise Refused(
            f"the home region's history does not hold its revision {wanted.revision.number}; nothing was copied"
        )
    held = here.entries.get(REVISION_KEY.removeprefix(ALL))
    base = Revision.parse(held.value, REVISION_KEY) if held else wanted.revision
    closing = staged.Closing(wanted.revision, held.index if held else 0, Write(key, record))
    everything = [*_writes(ahead), *_writes(together)]
    if len(staged.batched([*everything, *closing.writes])) > 1:
        await _plain(store, ahead, fence)
        everything = _writes(together)
    await staged.carry_out(store, everything, base, closing, fence)


def _here(here: Listing, key: str) -> bytes | None:
    """What lies under a key, of a reading of everything."""
    entry = here.entries.get(key.removeprefix(ALL))
    return entry.value if entry else None


async def _plain(store: Store, writes: Mapping[str, bytes | None] | Mapping[str, bytes], fence: Fence) -> None:
    for lot in staged.batched(_writes(writes)):
        await store.commit(lot, fence)


def _writes(found: Mapping[str, bytes | None] | Mapping[str, bytes]) -> list[Write]:
    return [Write(key, value) for key, value in found.items()]
