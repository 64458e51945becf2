"""The tabs of one page: what a call opened, what the page opened by itself, and the one that calls work on."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from playwright.async_api import BrowserContext, Error, Page

from services.browser.happenings import Happenings
from services.browser.shapes import PageError, Tab

__all__ = ["Tabs"]

_MOST = 8


class Tabs:
    """The tabs, of which there is always one.

    Args:
        context: Playwright's, of this page alone.
        first: The first tab.
        happened: Told what the page does to its tabs.
        watch: Called with each tab that is added.
    """

    def __init__(
        self, context: BrowserContext, first: Tab, happened: Happenings, watch: Callable[[Page], None]
    ) -> None:
        self._context = context
        self._happened = happened
        self._watch = watch
        self._all = [first]
        self._adding = asyncio.Lock()
        self._making = False
        self.current = first

    @property
    def all(self) -> tuple[Tab, ...]:
        """The oldest first."""
        return tuple(self._all)

    def select(self, number: int) -> None:
        """Work on another one from now on.

        Args:
            number: From 1, in the order of `all`.

        Raises:
            PageError: There is none.
        """
        self.current = self._at(number)

    async def new(self) -> None:
        """Open one more, blank, and work on it.

        Raises:
            PageError: There are as many as there may be.
        """
        if len(self._all) >= _MOST:
            raise PageError(f"the page has {_MOST} tabs, the most it may; close one")
        self._making = True
        try:
            opened = await self._context.new_page()  # `opened` hears of it, too
            await self._add(opened)
        finally:
            self._making = False
        self.current = next(tab for tab in self._all if tab.page == opened)

    async def close(self, number: int | None) -> None:
        """Close one, the current one without a number; the last one cannot be.

        Raises:
            PageError: There is no such tab, or it is the last.
        """
        if len(self._all) == 1:
            raise PageError("that is the page's only tab; close the page instead (browser_close)")
        closing = self.current if number is None else self._at(number)
        await closing.page.close()
        self.closed(closing.page)

    async def opened(self, page: Page) -> None:
        """Take in a window that the page opened, or close it where there are too many."""
        own = self._making
        with suppress(Error):
            if not own and len(self._all) >= _MOST:
                self._happened.note(f"the page opened one more window ({page.url}), which was closed")
                await page.close()
                return
            await self._add(page)
            if not own:
                where = f"({page.url}), which is tab {len(self._all)}"
                self._happened.note(f"the page opened a window {where}; select it by browser_tabs")

    def closed(self, page: Page) -> None:
        """Forget one that was closed, whoever did; what worked on it works on the newest one."""
        if len(self._all) == 1:
            return  # the browser ended, and all close one after another
        self._all = [tab for tab in self._all if tab.page != page]
        if self.current.page == page:
            self.current = self._all[-1]
            what = f"the tab was closed; what comes next works on tab {len(self._all)} ({self.current.page.url})"
            self._happened.note(what)

    def crashed(self, page: Page) -> None:
        """Forget one that crashed and is not the current one."""
        self._all = [tab for tab in self._all if tab.page != page]
        self._happened.note(f"a tab ({page.url}) crashed and is gone")

    def _at(self, number: int) -> Tab:
        if not 1 <= number <= len(self._all):
            raise PageError(f"there is no tab {number}; the page has tabs 1 to {len(self._all)}")
        return self._all[number - 1]

    async def _add(self, page: Page) -> None:
        async with self._adding:
            if any(tab.page == page for tab in self._all):
                return
            self._watch(page)
            self._all.append(Tab(page, await self._context.new_cdp_session(page)))
