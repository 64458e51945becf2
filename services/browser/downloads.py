"""What a page downloads: a few at once, into its folder, told with the next answer."""

import asyncio
from contextlib import suppress
from pathlib import Path

import anyio.to_thread
from playwright.async_api import Download, Error

from services.browser.files import PageFiles
from services.browser.happenings import Happenings
from services.browser.shapes import said
from services.common.paths import PathError

__all__ = ["Downloads"]

_AT_ONCE = 5


class Downloads:
    """The downloads of one page.

    Args:
        files: Where they are kept.
        happened: Told how each ended.
    """

    def __init__(self, files: PageFiles, happened: Happenings) -> None:
        self._files = files
        self._happened = happened
        self._under_way: set[asyncio.Task[None]] = set()

    async def began(self, download: Download) -> None:
        """Keep one that has begun, unless too many are under way."""
        if len(self._under_way) >= _AT_ONCE:
            self._happened.note(f"a download ({download.url}) was refused; {_AT_ONCE} are under way")
            with suppress(Error):
                await download.cancel()
            return
        task = asyncio.create_task(self._kept(download))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def cancel(self) -> None:
        """End all that are under way."""
        for task in self._under_way:
            task.cancel()

    async def _kept(self, download: Download) -> None:
        with suppress(Error):
            try:
                path = await download.path()
                saved = await anyio.to_thread.run_sync(self._files.save, download.suggested_filename, Path(path))
                self._happened.note(f"downloaded {saved.path} ({saved.size_bytes} bytes) from {download.url}")
            except Error as error:
                self._happened.note(f"a download ({download.url}) failed: {said(error)}")
            except (PathError, OSError) as error:
                self._happened.note(f"a download ({download.url}) was not kept: {error}")
            await download.delete()
