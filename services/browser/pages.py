"""The open pages of one instance, by handle, and the calls on them."""

import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from playwright.async_api import Error

from services.browser import answers, views
from services.browser.chromium import Chromium, ChromiumError
from services.browser.page import OpenPage
from services.browser.settings import BrowserSettings
from services.browser.shapes import Limits, PageError, PageGone, State
from services.browser.turns import Turns
from services.browser.urls import UrlError
from services.common import Handles, Kit, ToolError, current_call
from services.common.addresses import HostRule, Policy
from services.common.egress import Direct, Through, Way
from services.common.egress.passes import made_pass
from services.common.paths import PathError, Roots

__all__ = ["OpenPages", "answer_of", "foreseen"]

_TURN_S = 8.0
_OVERHEAD_S = 30.0  # the kit's own deadline comes after the page's, and after a wait for a turn


@contextmanager
def foreseen() -> Iterator[None]:
    """Foreseen failures, as tool errors."""
    try:
        yield
    except (PageError, ChromiumError, UrlError, PathError) as error:
        raise ToolError(str(error)) from error
    except Error as error:
        raise ToolError(f"the browser refused: {error.message.splitlines()[0]}") from error


def answer_of(handle: str, found: State) -> answers.PageState:
    """Where a page is, as a tool answers it."""
    return answers.PageState(
        handle=handle, url=found.url, title=found.title, status=found.status, notices=found.notices
    )


class OpenPages:
    """The open pages, by handle.

    Args:
        kit: The instance's.
        chromium: The browser.
        settings: The service's.
    """

    def __init__(self, kit: Kit, chromium: Chromium, settings: BrowserSettings) -> None:
        self.chromium = chromium
        self._keyring = kit.keyring
        self._egress = settings.egress
        self._allowed = frozenset(map(HostRule.of, settings.allow_hosts))
        self._roots = Roots.of(settings.roots)
        self._limits = Limits(
            navigation_s=settings.navigation_s,
            look_s=min(Limits.look_s, 0.8 * settings.call_s),
            call_s=settings.call_s,
            answer_bytes=settings.response_bytes,
        )
        self._most = settings.pages
        self.turns = Turns(2 * (os.cpu_count() or 1), _TURN_S)
        self._by_handle: dict[str, OpenPage] = {}
        self._beside = 0
        self.deadline_s = settings.call_s + _OVERHEAD_S
        self.handles: Handles[OpenPage] = kit.handles(
            "page",
            self._closed,
            idle_s=settings.idle_s,
            total_s=settings.total_s,
            per_client=settings.pages_per_client,
            most=settings.pages,
        )

    async def warm(self) -> None:
        """Open and close a page, so that the first caller does not wait for what every browser does once."""
        page = await self._made(Direct(Policy(closed=True)))
        try:
            await page.navigate("about:blank")
            await page.run(lambda inner: views.snapshot(inner, views.Tree(), page.limits.action_s))
            await page.run(lambda inner: inner.screenshot())
        finally:
            await page.close()

    async def open(self, url: str) -> answers.PageState:
        """A new page at a URL that was checked.

        Raises:
            PageError: It cannot be opened.
            ToolError: The client holds as many as it may.
        """
        self.handles.check_room()
        self._check_room()
        async with self.turns.one():
            return await self._open(url)

    async def _open(self, url: str) -> answers.PageState:
        page = await self._opened()
        try:
            state = await page.state() if url == "about:blank" else await page.navigate(url)
            handle = self.handles.open(page)
        except BaseException as error:
            await page.close()
            if isinstance(error, PageGone):
                raise PageError(f"{url[:200]} could not be opened: {error}") from error
            raise
        self._by_handle[handle] = page
        return answer_of(handle, state)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[OpenPage]:
        """A page without a handle, for one piece of work of the running call; closed after the block.

        Raises:
            PageError: It cannot be opened.
        """
        self._check_room()
        self._beside += 1
        try:
            async with self.turns.one():
                page = await self._opened()
            try:
                yield page
            finally:
                await page.close()
        finally:
            self._beside -= 1

    @asynccontextmanager
    async def used(self, handle: str) -> AsyncIterator[OpenPage]:
        """The page behind a handle; a page that turns out to be gone takes its handle with it."""
        page = self.handles.get(handle)
        try:
            with foreseen():
                yield page
        except PageGone as error:
            await self.handles.close(handle)
            raise ToolError(f"page handle {handle!r} is gone ({error}), open anew") from error

    def mine(self) -> answers.Pages:
        """The caller's open pages."""
        infos = [(info, self._by_handle.get(info.handle)) for info in self.handles.mine()]
        return answers.Pages(
            pages=tuple(
                answers.PageInfo(
                    handle=info.handle,
                    url=page.url,
                    age_s=round(info.age_s, 1),
                    idle_s=round(info.idle_s, 1),
                    gone=page.gone,
                )
                for info, page in infos
                if page is not None
            )
        )

    def roots(self) -> Roots:
        """The folders the caller may upload from, besides a page's own."""
        return self._roots.narrowed(current_call().roots)

    def _check_room(self) -> None:
        if len(self.handles) + self._beside >= self._most:
            raise PageError(f"this instance holds {self._most} open pages, the most it may; try again later")

    async def _opened(self) -> OpenPage:
        try:
            return await self._made(self._way())
        except TimeoutError as error:
            raise PageError("the browser did not open a page in time; try again later") from error

    async def _made(self, way: Way) -> OpenPage:
        browser = await self.chromium.ready()
        return await OpenPage.opened(browser, way, self._limits, self.chromium.files / secrets.token_hex(8))

    def _way(self) -> Way:
        """The caller's way out, by the operator's allow-list and its grant's."""
        call = current_call()
        policy = Policy(self._allowed | set(map(HostRule.of, call.hosts)))
        if self._egress is None:
            return Direct(policy)
        client = call.client
        return Through(*self._egress, lambda: made_pass(self._keyring.keys[0], client, policy, time.time()))

    async def _closed(self, page: OpenPage) -> None:
        for handle in [handle for handle, open_page in self._by_handle.items() if open_page is page]:
            del self._by_handle[handle]
        await page.close()
