"""When the last backup was taken, as whoever took it has told; its age is a metric, so that its absence is noticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated

from pydantic import Field, StringConstraints

from control_plane.errors import TekupError
from control_plane.leadership import Leadership
from control_plane.metrics import BackupMetrics
from control_plane.model import Document
from control_plane.ports import Store, Write

log = logging.getLogger(__name__)

BACKUP_KEY = "tekup/state/backup"
LOOK_EVERY_S = 5.0


class Backup(Document):
    """The last backup.

    Attributes:
        name: Its archive's.
        taken: The moment it shows, in seconds since the epoch.
        size_bytes: Of the archive.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
    taken: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    size_bytes: Annotated[int, Field(ge=0)]


class Backups:
    """What is known of backups.

    Args:
        store: Where it is written down.
        leadership: Who leads writes, and shows the age.
        shown: The metric.
        now: Seconds since the epoch.
    """

    def __init__(self, store: Store, leadership: Leadership, shown: BackupMetrics, now: Callable[[], float]) -> None:
        self._store = store
        self._leadership = leadership
        self._shown = shown
        self._now = now

    async def last(self) -> Backup | None:
        """The last backup; None if there was none."""
        entry = (await self._store.read(BACKUP_KEY)).entries.get("")
        return None if entry is None else Backup.parse(entry.value, BACKUP_KEY)

    async def taken(self, backup: Backup) -> Backup:
        """Write down that one was taken; an older one than the last changes nothing.

        Returns:
            The last one.
        """
        last = await self.last()
        if last is not None and last.taken > backup.taken:
            return last
        await self._store.commit([Write(BACKUP_KEY, backup.to_bytes())], self._leadership.own_fence())
        log.info("backup.taken", extra={"name_of": backup.name, "size_bytes": backup.size_bytes})
        return backup

    async def run(self) -> None:
        """As the leader, show how old it is, for ever."""
        while True:
            try:
                last = await self.last() if self._leadership.elected else None
                self._shown.show(None if last is None else max(0.0, self._now() - last.taken))
            except TekupError as error:
                log.debug("backup.not_read", extra={"why": str(error)})
            await asyncio.sleep(LOOK_EVERY_S)
