"""What changes beneath a folder, told by the kernel.

`caught_up` makes it exact: a file is touched in a folder that is watched along, and since the kernel tells changes in
their order, all that happened before is known once that touch is. Where nothing can be watched (a file system without
inotify, too few watches) `works` is False, and its user compares files instead.
"""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from watchfiles import Change, awatch

__all__ = ["Watch"]

logger = logging.getLogger(__name__)

_STEP_MS = 5
_GROUP_MS = 50
_MANY = 2000
_IDLE_MS = 60_000


class Watch:
    """Watches one folder.

    Args:
        folder: Its real path.

    Attributes:
        works: Whether changes are told.
        changed: Paths relative to the folder that changed since `take`.
        too_many: More changed than were kept, or something that concerns many files.
        told: How many changes there were.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self.works = False
        self.changed: set[str] = set()
        self.too_many = True
        self.told = 0
        self._touched = 0
        self._seen = 0
        self._news = asyncio.Condition()
        self._cookies: Path | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watches while the block lasts."""
        cookies = Path(tempfile.mkdtemp(prefix="tekup-search-watch-"))
        self._cookies = cookies
        stop = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self._watch(cookies, stop))
                try:
                    yield
                finally:
                    stop.set()
                    task.cancel()
        finally:
            self.works = False
            shutil.rmtree(cookies, ignore_errors=True)

    async def caught_up(self, within_s: float) -> bool:
        """Whether all changes up to now are known.

        Args:
            within_s: The longest to wait for that.
        """
        if not self.works or self._cookies is None:
            return False
        self._touched += 1
        wanted = self._touched
        try:
            (self._cookies / str(wanted)).touch()
        except OSError:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: self._seen >= wanted or not self.works)
        return self._seen >= wanted

    def take(self) -> tuple[set[str], bool]:
        """What changed, and whether it is more than can be told; begins anew."""
        taken = self.changed, self.too_many
        self.changed, self.too_many = set(), False
        return taken

    async def _watch(self, cookies: Path, stop: asyncio.Event) -> None:
        proving = asyncio.create_task(self._prove(cookies))
        try:
            changes = awatch(
                self._folder,
                cookies,
                watch_filter=None,
                debounce=_GROUP_MS,
                step=_STEP_MS,
                stop_event=stop,
                rust_timeout=_IDLE_MS,
                yield_on_timeout=True,
                recursive=True,
                ignore_permission_denied=True,
            )
            async for group in changes:
                await self._note(group, cookies)
        except (OSError, RuntimeError) as error:
            logger.warning("index.unwatched", extra={"error": str(error)})
        finally:
            proving.cancel()
            self.works = False

    async def _prove(self, cookies: Path) -> None:
        """Touch a file until a change is told: only from then on the watch can be relied on."""
        while not self.works:
            with suppress(OSError):
                (cookies / "0").touch()
            await asyncio.sleep(0.02)

    async def _note(self, group: set[tuple[Change, str]], cookies: Path) -> None:
        own, root = f"{cookies}/", f"{self._folder}/"
        seen = self._seen
        for _, path in group:
            if path.startswith(own):
                self.works = True
                seen = max(seen, int(path[len(own) :]))
            elif path.startswith(root):
                self._changed(path[len(root) :])
            else:
                self.told += 1
                self.too_many = True
        if seen != self._seen:
            self._seen = seen
        async with self._news:
            self._news.notify_all()

    def _changed(self, path: str) -> None:
        if path == ".git" or path.startswith(".git/") or "/.git/" in path:
            return
        self.told += 1
        if len(self.changed) >= _MANY:
            self.too_many = True
        else:
            self.changed.add(path)
