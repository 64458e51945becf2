"""The roots as the running call may use them, and the threads its work runs in."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from observability.telemetry.traces import span
from services.common import ToolError, current_call
from services.common.paths import PathError, Place, Root, Roots
from services.filesystem.edits import EditError
from services.filesystem.encodings import EncodingError
from services.filesystem.globs import GlobError
from services.filesystem.manyedits import settle
from services.filesystem.own import refuse_own
from services.filesystem.quotas import Quota
from services.filesystem.storing import sweep
from services.filesystem.trash import purge
from services.filesystem.turns import Turns

__all__ = ["Files", "Limits"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
_CHANGES_AT_ONCE = 16
_PURGE_EACH_S = 3600.0


@dataclass(frozen=True)
class Limits:
    """What one answer, and one root, may hold.

    Args:
        answer_bytes: The most text of an answer.
        inline_bytes: The most bytes of a picture, a sound or another binary file sent as it is; larger ones are linked.
        resource_bytes: The most bytes of a file read as a resource.
        quota: Of a root.
        trash_days: How long what was deleted can be restored.
    """

    answer_bytes: int
    inline_bytes: int
    resource_bytes: int
    quota: Quota
    trash_days: float


class Files:
    """Runs work on places for the callers of tools.

    Args:
        roots: Those of the settings.
        limits: What one answer, and one root, may hold.
    """

    def __init__(self, roots: Roots, limits: Limits) -> None:
        self.limits = limits
        self._roots = roots
        self._purged: dict[str, float] = {}
        # Edits that wait for one another's locks must not keep readers from their threads.
        self._changing = CapacityLimiter(_CHANGES_AT_ONCE)
        self._turns = Turns()

    def roots(self) -> Roots:
        """The roots of the running call."""
        return self._roots.narrowed(current_call().roots)

    def place(self, path: str, *, changes: bool = False) -> Place:
        """The place a caller names.

        Raises:
            PathError: It is not within its roots, is the service's own, or may not be changed.
        """
        place = self.roots().locate(path)
        refuse_own(place)
        if changes and not place.root.writable:
            raise PathError(f"{place.shown} lies in a root that is read-only; nothing was changed")
        return place

    async def run(self, work: Callable[[Place], T], path: str, *, changes: bool = False) -> T:
        """`work` on the place `path` names, in a thread.

        A read may be abandoned at its deadline; a change is seen through, so that its answer is true.

        Raises:
            ToolError: It could not be done.
        """
        return await self.run_plain(lambda: work(self._ready(path, changes=changes)), changes=changes)

    async def walk(self, work: Callable[[Place], T], path: str) -> T:
        """`work`, which looks at many entries and changes none, in its turn; else like `run`.

        Raises:
            ToolError: It could not be done.
        """
        async with self._turns.turn():
            return await self.run(work, path)

    async def run_plain(self, work: Callable[[], T], *, changes: bool) -> T:
        """`work` in a thread.

        Raises:
            ToolError: It could not be done.
        """
        try:
            with span("disk", tekup_changes=changes):
                return await anyio.to_thread.run_sync(
                    work, abandon_on_cancel=not changes, limiter=self._changing if changes else None
                )
        except (PathError, EditError, GlobError, EncodingError) as error:
            raise ToolError(str(error)) from error

    def ready(self, place: Place) -> Place:
        """A place that is to be changed, once everything a dead process left half done in its root is done."""
        with suppress(OSError):
            settle(place.root)
        return place

    def _ready(self, path: str, *, changes: bool) -> Place:
        place = self.place(path, changes=changes)
        return self.ready(place) if changes else place

    def tidy(self) -> None:
        """Clear away what killed instances left, and what was in the trash for too long. Blocks."""
        for root in self.writable():
            try:
                settled, swept = settle(root), sweep(root)
                purged = purge(root, self.limits.trash_days, self.limits.quota) if self.limits.trash_days else 0
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                logger.warning("filesystem.untidy", extra={"root": root.path, "reason": reason})
                continue
            if settled or swept or purged:
                fields = {"root": root.path, "settled": settled, "swept": swept, "purged": purged}
                logger.info("filesystem.tidied", extra=fields)

    def purge_now_and_then(self, root: Root) -> None:
        """Remove what was in the trash of a root for too long; at most once an hour. Blocks."""
        now = time.monotonic()
        if self.limits.trash_days and now - self._purged.get(root.whole.real, -_PURGE_EACH_S) >= _PURGE_EACH_S:
            self._purged[root.whole.real] = now
            with suppress(OSError):
                purge(root.whole, self.limits.trash_days, self.limits.quota)

    def writable(self) -> Sequence[Root]:
        """The roots of the settings that may be changed."""
        return [root for root in self._roots if root.writable]

    def folders(self) -> Sequence[Path]:
        """The roots of the settings."""
        return [Path(root.path) for root in self._roots]
