"""The audit trail at work: the leader writes it, fenced; every replica reads and verifies it.

Changes come from the history: whoever leads takes in each revision that the trail does not have yet, so one whose
leader died right after it is in the trail all the same. What was refused is in no history; the API tells of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from control_plane.audit import AuditRecord, Draft, Head, Verdict, hash_of, of_revision, verified
from control_plane.errors import Refused, TekupError
from control_plane.kept import AUDIT_HEAD_KEY, AUDIT_PREFIX, REVISION_KEY, history_key
from control_plane.leadership import Leadership
from control_plane.model import HistoryRecord, Revision
from control_plane.ports import Store, Write
from control_plane.staged import batched

log = logging.getLogger(__name__)

DIGITS = 12
BLOCK = 1000
"""Records that are read, and deleted, at once."""
KEEP = 20_000
"""Records that are kept at least, and up to a block more."""
AT_ONCE = 50
"""Revisions that are taken in by one transaction."""
AT_FIRST = 100
"""Revisions of before there was a trail that are taken in when it begins."""
LOOK_EVERY_S = 5.0
UNPROVEN_PER_MINUTE = 20


def audit_key(number: int) -> str:
    """Where a record lies."""
    return f"{AUDIT_PREFIX}{number:0{DIGITS}d}"


class Trail:
    """The trail.

    Args:
        store: Where it lies.
        leadership: Whether we may write it.
        now: Seconds since the epoch.
        keep: How many records stay at least.
        block: How many go at once when there are so many more.
    """

    def __init__(
        self,
        store: Store,
        leadership: Leadership,
        now: Callable[[], float] = time.time,
        *,
        keep: int = KEEP,
        block: int = BLOCK,
    ) -> None:
        self._store = store
        self._leadership = leadership
        self.now = now
        self._keep = keep
        self._block = block
        self._writing = asyncio.Lock()
        self._verifying = asyncio.Lock()
        self._woken = asyncio.Event()
        self._unproven: list[float] = []
        self.lost = 0
        """Records that could not be written; shown as a metric."""

    def wake(self) -> None:
        """There is a revision to take in."""
        self._woken.set()

    async def run(self) -> None:
        """Take in revisions as long as we lead, for ever."""
        while True:
            await self._leadership.held()
            self._woken.clear()
            try:
                await self.catch_up()
            except TekupError as error:
                log.warning("audit.behind", extra={"why": str(error)})
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._woken.wait()

    async def tell(self, draft: Draft) -> None:
        """Write down what no revision holds. Never raises: what was refused stays so, and what is lost is counted."""
        if why := self._leadership.elsewhere:  # the trail here is a copy of the home region's
            log.info("audit.elsewhere", extra={"why": why, "record": draft.model_dump(mode="json")})
            return
        try:
            await self.catch_up(draft)
        except TekupError as error:
            self.lost += 1
            log.warning("audit.not_kept", extra={"why": str(error), "record": draft.model_dump(mode="json")})

    async def tell_unproven(self, target: str) -> None:
        """Write down a call that showed nobody's token, the first few of each minute."""
        now = self.now()
        self._unproven = [at for at in self._unproven if now - at < 60]
        if self._leadership.leading and len(self._unproven) < UNPROVEN_PER_MINUTE:
            self._unproven.append(now)
            said = "no operator's token was shown"
            await self.tell(Draft(at=now, who="", what="", target=target, result="refused", status=401, said=said))

    async def catch_up(self, *drafts: Draft) -> None:
        """Take in the revisions that are missing, then these.

        Raises:
            TekupError: It could not be written now.
        """
        async with self._writing:
            while more := await self._missing():
                await self._append(more)
            if drafts:
                await self._append([(draft, None) for draft in drafts])

    async def _missing(self) -> list[tuple[Draft, Revision | None]]:
        head, _ = await self._head()
        newest = (await self._store.read(REVISION_KEY)).entries.get("")
        if newest is None:
            return []
        revision = Revision.parse(newest.value, REVISION_KEY)
        found: list[tuple[Draft, Revision | None]] = []
        for number in _numbers(head, revision)[:AT_ONCE]:
            place = revision.model_copy(update={"number": number})
            draft = await self._draft(place, head.epoch)
            found.append((draft, place))
        return found

    async def _draft(self, revision: Revision, older: int) -> Draft:
        """What the history says of a revision; of two epochs with one number the newer one's."""
        for epoch in range(revision.epoch, max(0, min(older, revision.epoch) - 1), -1):
            key = history_key(epoch, revision.number)
            entry = (await self._store.read(key)).entries.get("")
            if entry is not None:
                return of_revision(HistoryRecord.parse(entry.value, key), entry.value)
        said = "its record is missing in Consul"
        return Draft(
            at=self.now(), who="", what="", epoch=revision.epoch, after=revision.number, result="failed", said=said
        )

    async def _append(self, drafts: Sequence[tuple[Draft, Revision | None]]) -> None:
        head, index = await self._head()
        writes = []
        for draft, revision in drafts:
            record = AuditRecord.after_one(draft, head.number + 1, head.hash)
            line = record.line()
            writes.append(Write(audit_key(record.number), line, 0))
            seen = {"epoch": revision.epoch, "revision": revision.number} if revision else {}
            head = head.model_copy(update={"number": record.number, "hash": hash_of(line), **seen})
        fence = self._leadership.fence()
        await self._store.commit([*writes, Write(AUDIT_HEAD_KEY, head.to_bytes(), index)], fence)
        # In the logs as well, which lie elsewhere: whoever makes the whole chain anew has to reach them, too.
        log.info("audit.kept", extra={"number": head.number, "hash": head.hash})
        if head.number - head.first >= self._keep + self._block:
            await self._shorten(head)

    async def _shorten(self, head: Head) -> None:
        first = head.first + self._block
        last = (await self._store.read(audit_key(first - 1))).entries.get("")
        if last is None:
            return  # verifying says so; what is broken is not shortened
        _, index = await self._head()
        fence = self._leadership.fence()
        shorter = head.model_copy(update={"first": first, "anchor": hash_of(last.value)})
        await self._store.commit([Write(AUDIT_HEAD_KEY, shorter.to_bytes(), index)], fence)
        # What a crash leaves of the block before is taken along.
        for lot in batched(Write(audit_key(number), None) for number in range(max(1, first - 2 * self._block), first)):
            await self._store.commit(lot, fence)

    async def _head(self) -> tuple[Head, int]:
        entry = (await self._store.read(AUDIT_HEAD_KEY)).entries.get("")
        return (Head(), 0) if entry is None else (Head.parse(entry.value, AUDIT_HEAD_KEY), entry.index)

    async def page(self, *, below: int | None = None, after: int | None = None, limit: int = 20) -> list[bytes]:
        """Some records as they lie there.

        Args:
            below: Only those under this number, newest first.
            after: Only those over this number, oldest first.
            limit: How many at most.

        Raises:
            Refused: More than a block is asked for, or both ends are named.
        """
        if not 1 <= limit <= BLOCK:
            raise Refused(f"limit {limit} does not lie between 1 and {BLOCK}; page with `before` or `after`")
        if below is not None and after is not None:
            raise Refused("`before` and `after` both say where to begin; say one of them")
        head, _ = await self._head()
        if after is not None:
            low = max(head.first, after + 1)
            return list((await self._span(low, min(head.number, low + limit - 1))).values())
        high = head.number if below is None else min(head.number, below - 1)
        found = await self._span(max(head.first, high - limit + 1), high)
        return [found[number] for number in sorted(found, reverse=True)]

    async def _span(self, low: int, high: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        digits = min(3, max(1, len(str(high - low))))
        size = 10**digits
        for block in range(low // size, high // size + 1) if high >= low else ():
            prefix = audit_key(block * size)[:-digits]
            for name, entry in sorted((await self._store.read(prefix)).entries.items()):
                number = block * size + int(name) if name.isdecimal() and len(name) == digits else -1
                if low <= number <= high:
                    found[number] = entry.value
        return found

    async def verify(self) -> Verdict:
        """Look over all that is kept, and what it says of revisions that the history still holds; one at a time."""
        async with self._verifying:
            return await self._verified()

    async def _verified(self) -> Verdict:
        head, _ = await self._head()
        found = await self._span(head.first, head.number)
        lines = [found.get(number, b"") for number in range(head.first, head.number + 1)]
        verdict = verified(lines, head)
        bound = verdict.tampered or head.number + 1
        history: dict[str, dict[str, str]] = {}
        for line in lines[: bound - head.first]:
            record = AuditRecord.parse(line, "the trail")
            if record.record and (problem := await self._problem_of(record, history)):
                return replace(verdict, tampered=record.number, problem=problem)
        return verdict

    async def _problem_of(self, record: AuditRecord, history: dict[str, dict[str, str]]) -> str:
        """What is wrong with the revision's record, which lies in one of the blocks of the history read so far."""
        key = history_key(record.epoch, record.after)
        block, rest = key[:-2], key[-2:]
        if block not in history:
            entries = (await self._store.read(block)).entries
            history[block] = {name: hash_of(entry.value) for name, entry in entries.items()}
        if history[block].get(rest, record.record) == record.record:
            return ""  # the oldest are compacted
        return (
            f"the history's record of revision {record.after} is not what was written: record {record.number} of the"
            " audit trail knows it otherwise"
        )


def _numbers(head: Head, newest: Revision) -> range:
    """Revisions that the trail does not have."""
    if head.revision < 0:
        return range(max(0, newest.number - AT_FIRST + 1), newest.number + 1)
    if newest.epoch > head.epoch and newest.number <= head.revision:
        return range(newest.number + 1)  # begun anew
    return range(head.revision + 1, newest.number + 1)
