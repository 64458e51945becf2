"""Pages: open, go, list, close; tabs, size, and what they appear to be shown on."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from playwright.async_api import Page
from pydantic import Field

from services.browser import answers
from services.browser.page import OpenPage
from services.browser.pages import OpenPages, answer_of, foreseen
from services.browser.shapes import PageError, State
from services.browser.tools.params import Url
from services.browser.urls import checked_url
from services.common import HandleParam, Kit

__all__ = ["declare"]

_Side = Annotated[int, Field(ge=100, le=4000, description="In CSS pixels.")]
_TITLE_CHARS = 100


def declare(kit: Kit, pages: OpenPages) -> None:
    """Declare them."""
    _pages(kit, pages)
    _navigation(kit, pages)
    _window(kit, pages)


def _pages(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Open a page", open_world=True, deadline_s=pages.deadline_s)
    async def browser_open(url: Url = "about:blank") -> answers.PageState:
        """Open a new page, apart from all others, and go to a URL. Returns the handle for the other tools.

        The handle lives until browser_close, or until it is unused for ten minutes.
        """
        with foreseen():
            return await pages.open(checked_url(url))

    @kit.tool(title="Close a page", idempotent=True, destructive=True, deadline_s=pages.deadline_s)
    async def browser_close(handle: HandleParam) -> answers.Closed:
        """Close a page and forget its cookies, storage and files."""
        await pages.handles.close(handle)
        return answers.Closed(closed=True)

    @kit.tool(title="List your pages", read_only=True, idempotent=True)
    async def browser_list() -> answers.Pages:
        """Your open pages in this instance, oldest first."""
        with foreseen():
            await pages.chromium.ready()
        return pages.mine()


def _navigation(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Go to a URL", open_world=True, deadline_s=pages.deadline_s)
    async def browser_navigate(handle: HandleParam, url: Url) -> answers.PageState:
        """Go to another URL in an open page."""
        async with pages.used(handle) as page, pages.turns.one():
            return answer_of(handle, await page.navigate(checked_url(url)))

    @kit.tool(title="Go back", open_world=True, deadline_s=pages.deadline_s)
    async def browser_navigate_back(handle: HandleParam) -> answers.PageState:
        """Go back to the page before in the tab's history."""
        async with pages.used(handle) as page:
            return answer_of(handle, await page.back())

    @kit.tool(title="Tabs of a page", open_world=True, deadline_s=pages.deadline_s)
    async def browser_tabs(
        handle: HandleParam,
        action: Literal["list", "new", "select", "close"] = "list",
        index: Annotated[int | None, Field(ge=1, description="Which tab, from 1; the current one without.")] = None,
        url: Annotated[str | None, Field(description="Where a new tab goes.")] = None,
    ) -> answers.Tabs:
        """List a page's tabs, open one, select the one that other tools work on, or close one.

        Windows that a page opens are tabs too. Tabs share cookies and storage; for a page apart use browser_open.
        """
        async with pages.used(handle) as page:
            await _changed(page, action, index)
            if action == "new" and url:
                await page.navigate(checked_url(url))
            return await _tabs(page)


async def _changed(page: OpenPage, action: str, index: int | None) -> None:
    async def work(_: Page) -> None:
        if action == "new":
            await page.tabs.new()
        elif action == "close":
            await page.tabs.close(index)
        elif action == "select":
            if index is None:
                raise PageError("select needs the index of a tab")
            page.tabs.select(index)

    await page.run(work)


async def _tabs(page: OpenPage) -> answers.Tabs:
    listed = []
    state = await page.state()
    for number, tab in enumerate(page.tabs.all, 1):
        # Of another tab only what is known without asking it: it may be one that does not answer.
        title = state.title if tab is page.tab else ""
        listed.append(
            answers.TabInfo(index=number, url=tab.page.url, title=title[:_TITLE_CHARS], current=tab is page.tab)
        )
    return answers.Tabs(tabs=tuple(listed), notices=state.notices)


def _window(kit: Kit, pages: OpenPages) -> None:
    @kit.tool(title="Resize the window", idempotent=True, deadline_s=pages.deadline_s)
    async def browser_resize(handle: HandleParam, width: _Side, height: _Side) -> answers.PageState:
        """Give a page's window another size."""

        async def resize(inner: Page) -> None:
            await inner.set_viewport_size({"width": width, "height": height})

        async with pages.used(handle) as page:
            return answer_of(handle, await _then_state(page, resize))

    @kit.tool(title="Emulate media", idempotent=True, deadline_s=pages.deadline_s)
    async def browser_emulate_media(
        handle: HandleParam,
        media: Literal["screen", "print"] | None = None,
        color_scheme: Literal["light", "dark", "no-preference"] | None = None,
        reduced_motion: Literal["reduce", "no-preference"] | None = None,
        forced_colors: Literal["active", "none"] | None = None,
    ) -> answers.PageState:
        """Make a page believe it is printed, shown in dark colours, or to move less; what is left out stays."""

        async def emulate(inner: Page) -> None:
            await inner.emulate_media(
                media=media, color_scheme=color_scheme, reduced_motion=reduced_motion, forced_colors=forced_colors
            )

        async with pages.used(handle) as page:
            return answer_of(handle, await _then_state(page, emulate))


async def _then_state(page: OpenPage, change: Callable[[Page], Awaitable[None]]) -> State:
    await page.run(change)
    return await page.state()
