"""The regions at work: each replica looks at the other region, and the elected one copies, yields or takes over.

Invariants: what a region is changes only under the lock that policy is written under, fenced; so no change of policy
is written after it. What the home never had is kept aside before anything is put over it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from control_plane.book import Book, Edit, Held
from control_plane.errors import Conflict, Refused, TekupError, Unavailable
from control_plane.form import form_from, too_new
from control_plane.gates import Gates
from control_plane.kept import SCHEMA_KEY
from control_plane.leadership import Leadership
from control_plane.metrics import RegionMetrics, RegionSeen
from control_plane.model import HistoryRecord, Key, Revision, Table
from control_plane.neighbour import Neighbour
from control_plane.outcome import Wish
from control_plane.ports import Store, Write
from control_plane.region import (
    LEFT_PREFIX,
    REGION_KEY,
    Documents,
    Part,
    Plan,
    Region,
    Side,
    Step,
    named,
    plan,
    refuse_other_lineage,
    step,
    wanted,
)
from control_plane.region_copy import ALL, copied_of, place_of, region_of, settle, tell, write
from control_plane.sealed import Sealing, sealed_by
from control_plane.staged import batched

log = logging.getLogger(__name__)

EVERY_S = 1.0
LEVEL_S = 30.0
"""How long `follow` waits for the first copy, and `hand_over` for the other region to take over."""
BY_ITSELF = "control-plane"
LEFT_HISTORY = f"{LEFT_PREFIX}history/"


@dataclass(frozen=True)
class Shown:
    """What is known of the two regions.

    Attributes:
        part: What this one is.
        place: Where its revision stands.
        peer: The other's address, "" where there is none.
        told: Who said so, when and why; None where nobody did.
        other: What the other says of itself; None where it does not answer.
        behind_s: Seconds since this one was last known to hold what the home does; None where it does not follow.
        left: Records that the home never had.
        problem: Why it does not answer, or cannot be copied.
        changed: Whether a verb had to change anything.
        waiting_for: Gates that do not have it in force.
    """

    part: Part
    place: tuple[int, int]
    peer: str
    told: Region | None
    other: Side | None
    behind_s: float | None
    left: int
    problem: str
    changed: bool = False
    waiting_for: tuple[str, ...] = ()

    @property
    def behind(self) -> int | None:
        """Revisions that the home has and this one does not; None where that is not known."""
        if self.part is not Part.FOLLOWER or self.other is None:
            return None
        return max(0, self.other.number - self.place[1])


class Regions:
    """This region, and the other as it is seen from here.

    Args:
        store: This region's Consul.
        leadership: Who was elected here, and whether policy is written here.
        book: The policy.
        gates: This region's.
        writing: Held by whoever writes policy.
        written: Told of each revision that is written.
        sealing: Opens sealed hashes of keys.
        shown: The metrics.
        now: Seconds since the epoch.
        in_force_s: How long a verb waits for the gates.
    """

    def __init__(
        self,
        store: Store,
        leadership: Leadership,
        book: Book,
        gates: Gates,
        writing: asyncio.Lock,
        written: Callable[[Revision], None],
        sealing: Sealing | None,
        shown: RegionMetrics,
        now: Callable[[], float],
        in_force_s: float,
    ) -> None:
        self._store = store
        self._leadership = leadership
        self._book = book
        self._gates = gates
        self._writing = writing
        self._written = written
        self._sealing = sealing or Sealing()
        self._shown = shown
        self._now = now
        self._in_force_s = in_force_s
        self._seen: Side | None = None
        self._problem = ""
        self._level_s: float | None = None
        self._stamp, self._after = "", 0
        self._left = 0, 0
        self.neighbour = Neighbour()
        leadership.look_first = self._look_first

    async def tell(self, *, stamp: str, after: int, look: bool) -> Side:
        """What this region tells the other; see :func:`control_plane.region_copy.tell`."""
        return await tell(self._store, stamp=stamp, after=after, look=look)

    async def run(self) -> None:
        """Go by the other region, for ever."""
        while True:
            try:
                await self._round()
                problem = ""
            except TekupError as error:
                problem = str(error)
                self._stamp, self._after = "", 0
            if problem and problem != self._problem:
                log.warning("region.problem", extra={"why": problem})
            self._problem = problem
            with suppress(TekupError):
                await self._measure()
            await asyncio.sleep(EVERY_S)

    async def _look_first(self) -> None:
        """Before an election: one that was away learns what it is before it could write."""
        try:
            region, _ = await region_of(self._store)
        except Refused as error:  # whoever cannot tell what this region is must not write
            self._leadership.written_elsewhere(str(error))
            return
        self._leadership.written_elsewhere(region.elsewhere if region else "")
        if region is None or not region.part.writes:
            return
        try:
            other, place = await self.neighbour.look(region.peer), await place_of(self._store)
        except (Refused, Unavailable) as error:
            log.warning("region.not_asked", extra={"why": str(error)})
            return
        if step(region.part, place, other) is Step.YIELD:
            self._leadership.written_elsewhere(f"{region.peer} has taken over in epoch {other.epoch}")

    async def _round(self) -> None:
        region, _ = await region_of(self._store)
        if region is None:
            self._seen = None
            self._leadership.written_elsewhere("")
            return
        if not self._leadership.elected:
            self._stamp, self._after = "", 0
        if region.elsewhere or not self._leadership.elected:
            self._leadership.written_elsewhere(region.elsewhere)
        copying = region.part is Part.FOLLOWER and self._leadership.elected
        try:
            ask = self.neighbour.copy(region.peer, self._stamp, self._after) if copying else None
            self._seen = await (ask or self.neighbour.look(region.peer))
        except TekupError:
            self._seen = None
            raise
        place = await place_of(self._store)
        if region.part is not Part.FOLLOWER or self._seen.place == place:
            self._level_s = self._now()
        if self._leadership.elected:
            await self._go_on(region, place, self._seen)

    async def _go_on(self, region: Region, place: tuple[int, int], other: Side) -> None:
        match step(region.part, place, other):
            case Step.YIELD:
                await self._yield(region, other)
            case Step.COPY if other.keys is not None:
                await self._copy(other)
            case Step.TAKE_OVER:
                reason = "the home region handed over"
                await self._take_over(Wish(BY_ITSELF, reason), region.peer, other.epoch)
            case _:
                async with self._writing:  # a verb may have come in between
                    now, _ = await region_of(self._store)
                    self._leadership.written_elsewhere(now.elsewhere if now else "")

    async def _yield(self, region: Region, other: Side) -> None:
        reason = f"{region.peer} took over in epoch {other.epoch}"
        self._leadership.written_elsewhere(reason)
        async with self._writing:
            await self._become(Part.FOLLOWER, region.peer, Wish(BY_ITSELF, reason))
        log.warning("region.yielded", extra={"peer": region.peer, "epoch": other.epoch})

    async def _become(self, part: Part, peer: str, wish: Wish) -> None:
        """Under the lock: write down what this region is."""
        _, index = await region_of(self._store)
        told = self._told(part, peer, wish)
        await self._store.commit([Write(REGION_KEY, told.to_bytes(), index)], self._leadership.own_fence())
        self._leadership.written_elsewhere(told.elsewhere)
        self._stamp, self._after = "", 0

    def _told(self, part: Part, peer: str, wish: Wish) -> Region:
        return Region(part=part, peer=peer, author=wish.author, reason=wish.reason, at=self._now())

    async def _copy(self, other: Side) -> None:
        async with self._writing:
            region, _ = await region_of(self._store)
            if region is None or region.part is not Part.FOLLOWER:
                return  # a verb came in between
            fence = self._leadership.own_fence()
            await settle(self._store, fence)
            listing = await self._store.read(ALL)
            here = copied_of(listing)
            try:
                there = wanted(here, other)
            except KeyError:
                self._stamp, self._after = "", 0
                return
            found = self._checked(here, there)
            if not found.empty:
                await write(self._store, found, listing, fence)
                self._written(found.revision)
                log.info("region.copied", extra={"epoch": found.revision.epoch, "revision": found.revision.number,
                                                 "left": len(found.left)})  # fmt: skip
        self._stamp, self._after, self._level_s = other.stamp, other.index, self._now()

    def _checked(self, here: Documents, there: Documents) -> Plan:
        """What to write.

        Raises:
            Refused: It cannot be served here.
        """
        found = plan(here, there)
        refuse_other_lineage(here, there, self._gates.running)
        if SCHEMA_KEY in there and (problem := too_new(form_from(there[SCHEMA_KEY]))):
            raise Refused(f"home region: {problem}")
        ring, prefix = self._sealing.file.ring(), Table.KEYS.prefix
        keys = (Key.parse(raw, key) for key, raw in there.items() if key.startswith(prefix))
        if strange := {sealed_by(key) for key in keys} - {"", *ring.ciphers}:
            raise Refused(
                f"the home region's API keys lie sealed by {named(strange)}, which is not in the file that"
                " MCP_API_KEY_ENCRYPTION_KEY_FILE names here: bring the home's file to this region"
            )
        return found

    async def follow(self, peer: str, wish: Wish, *, over: bool = False) -> Shown:
        """Follow another region: from then on policy is written there alone.

        Args:
            peer: Its operators' API.
            wish: Who and why.
            over: Put its policy over the clients that are here and not there.

        Raises:
            Refused: It is not the home, or its policy cannot be served here; nothing was changed.
            Unavailable: It does not answer.
        """
        async with self._writing:
            self._leadership.own_fence()
            region, _ = await region_of(self._store)
            changed = region is None or region.part is not Part.FOLLOWER or region.peer != peer
            if changed:
                await self._refuse_to_follow(peer, over=over)
            if changed and not wish.dry_run:
                await self._become(Part.FOLLOWER, peer, wish)
                self._level_s = None
                log.warning("region.follows", extra={"peer": peer, "author": wish.author, "reason": wish.reason})
        if not wish.dry_run:
            await self._until(self._level, f"the first copy of {peer}")
        return await self._ended(changed=changed)

    async def _refuse_to_follow(self, peer: str, *, over: bool) -> None:
        other = await self.neighbour.copy(peer, "", 0)
        if other.part is not Part.HOME:
            raise Refused(
                f"the region at {peer} is {other.part}, not the home of two: say so there first, with `tekup region"
                " take-over --peer <this region's API>`"
            )
        here = copied_of(await self._store.read(ALL))
        there = wanted(here, other)
        self._checked(here, there)
        prefix = Table.CLIENTS.prefix
        gone = {key.removeprefix(prefix) for key in here.keys() - there.keys() if key.startswith(prefix)}
        if gone and not over:
            raise Refused(
                f"client {named(gone)} of this region would go, with all else that the home does not have; its history"
                " is kept aside. Take the home's policy instead with `--replace`"
            )

    async def take_over(self, wish: Wish, *, peer: str = "", force: bool = False) -> Shown:
        """Be the home: write policy from now on, in a later epoch than any that was seen.

        Args:
            wish: Who and why.
            peer: The other region's operators' API; "" the one that is known.
            force: Although the home answers; what it has not told yet is then left behind there.

        Raises:
            Refused: There is no other region, or the home answers; nothing was changed.
        """
        region, _ = await region_of(self._store)
        part, peer = region.part if region else Part.ALONE, peer or (region.peer if region else "")
        if not peer:
            raise Refused("this region knows of no other: name its operators' API with --peer")
        epoch, changed = 0, part is not Part.HOME or region is None or region.peer != peer
        if part is not Part.HOME:
            with suppress(Unavailable):
                other = await self.neighbour.look(peer)
                epoch = other.epoch
                if other.part is Part.HOME and not force:
                    raise Refused(
                        f"the home region at {peer} answers and writes: hand over there, with `tekup region hand-over`."
                        " Take over from it all the same with --force; what this region has not got yet is left behind"
                    )
        if changed and not wish.dry_run:
            await self._take_over(wish, peer, epoch)
        return await self._ended(changed=changed)

    async def _take_over(self, wish: Wish, peer: str, epoch: int) -> None:
        async with self._writing:
            fence = self._leadership.own_fence()
            region, index = await region_of(self._store)
            if region is not None and region.part is Part.HOME:
                await self._become(Part.HOME, peer, wish)
                return
            edit = Edit("region.take-over", wish.author, wish.reason)
            told = self._told(Part.HOME, peer, wish)
            held = max(1, epoch, (await place_of(self._store))[0])
            revision, _ = await self._book.repair(
                edit,
                fence,
                at_s=self._now(),
                gates=Held(self._gates.running, self._gates.revoked),
                later_than=held,
                beside=[Write(REGION_KEY, told.to_bytes(), index)],
            )
            self._leadership.written_elsewhere("")
            self._written(revision)
        log.warning("region.taken_over", extra={"epoch": revision.epoch, "revision": revision.number,
                                                "author": wish.author, "reason": wish.reason})  # fmt: skip

    async def hand_over(self, wish: Wish) -> Shown:
        """Have the other region take over, once it has got all that was written here.

        Raises:
            Refused: This region is not the home.
            Conflict: The other does not follow it, so that nobody would write.
        """
        region, _ = await region_of(self._store)
        part = region.part if region else Part.ALONE
        if region is None or part is Part.ALONE:
            raise Refused("this region is one of no two; there is nobody to hand over to")
        if part is Part.HOME:
            other = await self.neighbour.look(region.peer)
            if other.part is not Part.FOLLOWER:
                raise Conflict(f"the region at {region.peer} is {other.part} and does not follow; nothing was changed")
            if not wish.dry_run:
                await self._hand_over(region, wish)
        if not wish.dry_run:
            await self._until(self._follows, f"{region.peer} to take over")
        return await self._ended(changed=part is Part.HOME)

    async def _hand_over(self, region: Region, wish: Wish) -> None:
        async with self._writing:
            fence = self._leadership.fence()
            await self._book.finish(fence)
            page, (_, index) = await self._book.whole(), await region_of(self._store)
            told = self._told(Part.HANDING, region.peer, wish)
            edit = Edit("region.hand-over", wish.author, wish.reason)
            beside = [Write(REGION_KEY, told.to_bytes(), index)]
            self._leadership.written_elsewhere(told.elsewhere)
            try:
                revision = await self._book.note(page, edit, fence, at_s=self._now(), beside=beside)
            except BaseException:
                self._leadership.written_elsewhere("")  # where it was written all the same, the next round says so
                raise
            self._written(revision)
        log.warning("region.hands_over", extra={"revision": revision.number, "author": wish.author})

    async def leave(self, wish: Wish) -> Shown:
        """Be a region by itself again, and write policy, whatever the other does."""
        async with self._writing:
            fence = self._leadership.own_fence()
            region, index = await region_of(self._store)
            if region is not None and not wish.dry_run:
                await self._store.commit([Write(REGION_KEY, None, index)], fence)
                self._leadership.written_elsewhere("")
                log.warning("region.left", extra={"author": wish.author, "reason": wish.reason})
        return await self._ended(changed=region is not None)

    async def left(self) -> list[HistoryRecord]:
        """Records of changes that operators made here and that the home never had, oldest first.

        What the platform did by itself, such as to take in a service, it does again where that is wanted.
        """
        entries = (await self._store.read(LEFT_HISTORY)).entries
        records = (HistoryRecord.parse(entry.value, LEFT_HISTORY + name) for name, entry in sorted(entries.items()))
        return [one for one in records if one.author != BY_ITSELF]

    async def forget_left(self, wish: Wish) -> int:
        """Forget them, once they were looked at; gives how many there were."""
        found, count = await self._store.read(LEFT_PREFIX), len(await self.left())
        if not wish.dry_run:
            for lot in batched(Write(LEFT_PREFIX + name, None) for name in sorted(found.entries)):
                await self._store.commit(lot, self._leadership.own_fence())
            log.info("region.left_forgotten", extra={"records": count, "author": wish.author, "reason": wish.reason})
        return count

    async def show(self) -> Shown:
        """How things stand, asked now."""
        region, _ = await region_of(self._store)
        other, problem = None, self._problem
        if region is not None:
            try:
                other = await self.neighbour.look(region.peer)
            except TekupError as error:
                problem = str(error)
        place, left = await place_of(self._store), len(await self.left())
        part = region.part if region else Part.ALONE
        level = other is not None and other.place == place
        behind_s = None if part is not Part.FOLLOWER else 0.0 if level else self._behind_s()
        return Shown(part, place, region.peer if region else "", region, other, behind_s, left, problem)

    def _behind_s(self) -> float | None:
        return None if self._level_s is None else max(0.0, self._now() - self._level_s)

    async def _ended(self, *, changed: bool) -> Shown:
        shown = await self.show()
        lagging = await self._gates.in_force(shown.place, also_gone=False, timeout_s=self._in_force_s)
        return replace(shown, changed=changed, waiting_for=lagging)

    async def _level(self) -> bool:
        return self._level_s is not None

    async def _follows(self) -> bool:
        region, _ = await region_of(self._store)
        return region is not None and region.part is Part.FOLLOWER

    async def _until(self, so: Callable[[], Awaitable[bool]], what: str) -> None:
        began_s = time.monotonic()
        while not await so():
            if time.monotonic() - began_s > LEVEL_S:
                raise Unavailable(f"waited {LEVEL_S:.0f} s for {what}; {self._problem or 'see `tekup region show`'}")
            await asyncio.sleep(EVERY_S / 5)

    async def _measure(self) -> None:
        region, _ = await region_of(self._store)
        if region is None or not self._leadership.elected:
            self._shown.show(None)
            return
        place, follows = await place_of(self._store), region.part is Part.FOLLOWER
        if (index := await self._store.index(LEFT_HISTORY)) != self._left[0]:
            self._left = index, len(await self.left())
        behind = max(0, self._seen.number - place[1]) if follows and self._seen else None
        behind_s = self._behind_s() if follows else None
        self._shown.show(RegionSeen(region.part is Part.HOME, self._seen is not None, behind_s, behind, self._left[1]))
