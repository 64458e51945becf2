"""The git mirror: each revision is a commit, made by whoever leads, the same by every replica from the same history.

Author, date, message and content of a commit come from the revision's record alone, so its hash does too. The hash of
the last one, and of what was pushed, is written down in Consul: a history that was rewritten, here or at the remote, is
another than that and is named until somebody puts it right; nothing is ever pushed over it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from control_plane.errors import Refused, TekupError, Unavailable
from control_plane.history import History, Tables
from control_plane.kept import REVISION_KEY
from control_plane.leadership import Leadership
from control_plane.model import Document, HistoryRecord, Revision, Table
from control_plane.page import DOCUMENTS
from control_plane.ports import Store, Write
from control_plane.repository import Commit, Repository
from control_plane.resources import KINDS, VERSIONED, as_value, render

log = logging.getLogger(__name__)

MIRROR_KEY = "tekup/state/git-mirror"
TURN_S = 1.0
LOOK_EVERY_S = 5.0
REMOTE_EVERY_S = 30.0
AT_ONCE = 100
"""Commits that are made by one run of git."""
REVISION = "Revision"
"""The trailer that says which revision a commit is, `<epoch>/<number>`."""


class Mirrored(Document):
    """How far the mirror is; shown by every replica.

    Attributes:
        commit: The last commit's hash.
        pushed: What the remote had last, "" for nothing yet.
        rewritten: Whose history is another than the one written down: `mirror`, `remote`, or "" for nobody's.
        problem: What is wrong, in a sentence; "" if nothing is.
    """

    epoch: int = 0
    number: int = -1
    commit: str = ""
    pushed: str = ""
    rewritten: str = ""
    problem: str = ""


class Rewritten(Refused):
    """A history is not the one that was written down.

    Args:
        whose: `mirror` or `remote`.
        message: For people.
    """

    def __init__(self, whose: str, message: str) -> None:
        super().__init__(message)
        self.whose = whose


@dataclass(frozen=True)
class Place:
    """Where the mirror lies.

    Attributes:
        repository: The leader's own.
        remote: Where it is pushed to, "" for nowhere.
    """

    repository: Repository
    remote: str = ""


class Mirror:
    """Keeps the mirror as long as this replica leads.

    Args:
        store: Where the history lies.
        leadership: Who leads.
        place: Where the mirror lies.
        clock: Seconds.
    """

    def __init__(
        self, store: Store, leadership: Leadership, place: Place, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._leadership = leadership
        self._repository = place.repository
        self._remote = place.remote
        self._history = History(store)
        self._clock = clock
        self._looked_s = self._asked_s = float("-inf")
        self._anew = (
            f"remove the folder of MCP_GIT_MIRROR at replica {leadership.me.replica}, it is made anew from the history"
        )
        self.shown = Mirrored()

    async def run(self) -> None:
        """Mirror for ever."""
        while True:
            await self._leadership.held()
            try:
                await self.turn()
            except TekupError as error:
                log.warning("mirror.turn_failed", extra={"why": str(error)})
            await asyncio.sleep(TURN_S)

    async def turn(self) -> None:
        """Bring the mirror up to the present revision, and see that what was written before is still there.

        Raises:
            TekupError: Consul cannot be asked, or we lead no more.
        """
        entry = (await self._store.read(REVISION_KEY)).entries.get("")
        if entry is None:
            return
        newest = Revision.parse(entry.value, REVISION_KEY)
        held, index = await self._held()
        now = self._clock()
        nothing_new = (held.epoch, held.number) == newest.place or bool(held.problem)
        if nothing_new and now - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now
        try:
            after = await self._mirrored(newest, held)
        except Rewritten as error:
            after = held.model_copy(update={"problem": str(error), "rewritten": error.whose})
        except (Unavailable, Refused) as error:
            after = held.model_copy(update={"problem": str(error), "rewritten": ""})
        self.shown = after
        if after != held:
            if after.problem and after.problem != held.problem:
                log.error("mirror.problem", extra={"why": after.problem, "rewritten": after.rewritten})
            fence = self._leadership.fence()
            await self._store.commit([Write(MIRROR_KEY, after.to_bytes(), index)], fence)

    async def _held(self) -> tuple[Mirrored, int]:
        entry = (await self._store.read(MIRROR_KEY)).entries.get("")
        return (Mirrored(), 0) if entry is None else (Mirrored.parse(entry.value, MIRROR_KEY), entry.index)

    async def _mirrored(self, newest: Revision, held: Mirrored) -> Mirrored:
        await self._repository.ensure()
        head = await self._repository.head()
        if not head and self._remote and await self._repository.remote_head(self._remote):
            await self._repository.fetch(self._remote)
            head = await self._repository.head()
        anew = not head
        head = await self._built(newest, head)
        strange = bool(held.commit) and not await self._repository.leads_to(held.commit, head)
        if strange and anew:
            # Right by what it was made of: the oldest revisions were compacted, or another version wrote the rest.
            log.warning("mirror.begun_anew", extra={"before": held.commit, "now": head})
        elif strange:
            raise Rewritten(
                "mirror",
                f"the git mirror's history was rewritten: commit {held.commit[:12]} of revision {held.number} is not in"
                f" it any more; {self._anew}",
            )
        here = held.model_copy(update={"epoch": newest.epoch, "number": newest.number, "commit": head})
        pushed = await self._pushed(here, held.pushed) if self._remote else ""
        return here.model_copy(update={"pushed": pushed, "problem": "", "rewritten": ""})

    async def _built(self, newest: Revision, head: str) -> str:
        """The last commit, once there is one for each revision."""
        first, tables = await self._to_go_on_from(newest, head)
        commits: list[Commit] = []
        for number in range(first, newest.number + 1):
            record = await self._history.record(newest, number)
            if number == first and not tables:
                tables = await self._history.content(newest, number)
            else:
                _replay(tables, record)
            commits.append(_commit(record, tables))
            if len(commits) == AT_ONCE or number == newest.number:
                head = await self._repository.add(head, commits)
                commits = []
        return head

    async def _to_go_on_from(self, newest: Revision, head: str) -> tuple[int, Tables]:
        """The first revision that has no commit, and the tables before it; none where they are to be looked up."""
        if not head:
            return await self._history.oldest(), {}
        said = await self._repository.trailer(head, REVISION)
        epoch, _, number = said.partition("/")
        if not (epoch.isdecimal() and number.isdecimal()):
            raise Rewritten(
                "mirror",
                f"the git mirror's history was rewritten: its last commit {head[:12]} names no revision; {self._anew}",
            )
        if int(epoch) < newest.epoch and newest.number <= int(number):
            return 0, {}  # begun anew
        if int(number) > newest.number:
            raise Rewritten(
                "mirror",
                f"the git mirror is ahead of Consul: its last commit is revision {number}, the present one is"
                f" {newest.number}; was Consul restored from a backup?",
            )
        if int(number) == newest.number:
            return newest.number + 1, {}
        return int(number) + 1, await self._history.content(newest, int(number))

    async def _pushed(self, here: Mirrored, before: str) -> str:
        """What the remote has, once it has everything."""
        now = self._clock()
        if before == here.commit and now - self._asked_s < REMOTE_EVERY_S:
            return before
        theirs = await self._repository.remote_head(self._remote)
        known = not theirs or await self._repository.leads_to(theirs, here.commit)
        back = bool(before) and (not theirs or not await self._repository.leads_to(before, theirs))
        if not known or back:
            raise Rewritten(
                "remote",
                f"the remote's history was rewritten: main is at {theirs[:12] or 'nothing'} and was at"
                f" {before[:12] or 'nothing'}, which the mirror knows; put it back: git --git-dir=<MCP_GIT_MIRROR> push"
                " --force <MCP_GIT_REMOTE> main",
            )
        if theirs != here.commit:
            await self._repository.push(self._remote)
        self._asked_s = now
        return here.commit


async def mirrored(store: Store) -> Mirrored | None:
    """How far the mirror is; None where there never was one."""
    entry = (await store.read(MIRROR_KEY)).entries.get("")
    return None if entry is None else Mirrored.parse(entry.value, MIRROR_KEY)


def _replay(tables: Tables, record: HistoryRecord) -> None:
    for change in record.changes:
        for table in VERSIONED:
            if change.key.startswith(table.prefix):
                name = change.key.removeprefix(table.prefix)
                if change.after is None:
                    tables[table].pop(name, None)
                else:
                    tables[table][name] = change.after.encode()


def _commit(record: HistoryRecord, tables: Tables) -> Commit:
    message = f"{record.reason}\n\n{REVISION}: {record.epoch}/{record.number}\nVerb: {record.verb}\n"
    files = {f"{table.value}.yml": text for table in VERSIONED if (text := _text(table, tables[table]))}
    return Commit(record.author, int(record.at), message, files)


def _text(table: Table, raws: dict[str, bytes]) -> bytes:
    """A table as `tekup export` writes it."""
    kind = next(name for name, kind in KINDS.items() if kind.table is table)
    values = (as_value(kind, DOCUMENTS[table].stored(raw, table.prefix, key)) for key, raw in sorted(raws.items()))
    return render(values).encode() if raws else b""
