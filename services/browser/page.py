"""One open page: a context of its own with its own way out.

Invariants: one call at a time works on a page; a call that does not end in time costs the page, never the service or
another page; what happened beside a call (dialogs, windows, downloads, refused requests) is told with the next answer.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from playwright.async_api import (
    Browser,
    BrowserContext,
    CDPSession,
    Dialog,
    Download,
    Error,
    Frame,
    Locator,
    Page,
)
from playwright.async_api import TimeoutError as PlaywrightTimeoutError

from observability.telemetry.traces import span
from services.browser.addresses import Policy
from services.browser.egress import Egress, Refused, Resolver, resolve
from services.browser.urls import is_foreign

__all__ = ["Limits", "OpenPage", "PageError", "PageGone", "State"]

T = TypeVar("T")

_REF = re.compile(r"(f\d+)?e\d+")
_ANSWER_S = 2.0
_CLOSE_S = 3.0
_NOTICES = 20
_NOTICE_CHARS = 300
_TITLE_CHARS = 300


class PageError(Exception):
    """A call on a page failed; the text says why. The page is still there."""


class PageGone(Exception):
    """The page is not there any more; the text says why."""


@dataclass(frozen=True)
class Limits:
    """How long things on a page may take, and how large they may be.

    Args:
        navigation_s: Until the first byte of a page has come and its document is read.
        action_s: Until an element can be clicked or typed into.
        settle_s: What a page gets to finish loading after that; not an error when it does not.
        call_s: Any call as a whole; then the page is closed.
        width: Of the window.
        height: Of the window.
    """

    navigation_s: float = 15.0
    action_s: float = 5.0
    settle_s: float = 3.0
    call_s: float = 30.0
    width: int = 1280
    height: int = 800


@dataclass(frozen=True)
class State:
    """Where a page is.

    Args:
        url: Its URL.
        title: Its title.
        status: HTTP status of the document, None when nothing was loaded.
        notices: What happened since the answer before.
    """

    url: str
    title: str
    status: int | None
    notices: tuple[str, ...]


class OpenPage:
    """A page. Made by `OpenPage.opened`.

    Args:
        page: Playwright's page.
        session: The same page, spoken to without Playwright's own waiting.
        egress: Its way out.
        limits: Its limits.
    """

    def __init__(self, page: Page, session: CDPSession, egress: Egress, limits: Limits) -> None:
        self._page = page
        self._session = session
        self._egress = egress
        self.limits = limits
        self._one_call = asyncio.Lock()
        self._notices: deque[str] = deque(maxlen=_NOTICES)
        self._gone = ""
        self._status: int | None = None
        self._life = AsyncExitStack()

    @classmethod
    async def opened(cls, browser: Browser, policy: Policy, limits: Limits, resolver: Resolver = resolve) -> "OpenPage":
        """A blank page in a new context; `close` it.

        Raises:
            playwright.async_api.Error: The browser does not make one.
            TimeoutError: It does not answer.
        """
        # To its end, whoever gives up meanwhile: what the browser had half made would belong to nobody.
        with span("chromium open", client=True), anyio.fail_after(limits.navigation_s, shield=True):
            life = AsyncExitStack()
            try:
                egress = await life.enter_async_context(Egress.open(policy, resolver))
                context = await life.enter_async_context(_context(browser, egress, limits))
                page = await context.new_page()
                opened = cls(page, await context.new_cdp_session(page), egress, limits)
            except BaseException:
                await _ended(life)
                raise
            opened._watch(context)
            opened._life = life
            return opened

    @property
    def url(self) -> str:
        """Where it is, without asking the page itself."""
        return self._page.url

    @property
    def gone(self) -> str:
        """Why the page is not there any more, "" while it is."""
        return self._gone or ("the browser ended" if self._page.is_closed() else "")

    async def close(self) -> None:
        """Close the page, its context and its way out; whatever state they are in."""
        self._gone = self._gone or "it was closed"
        await _ended(self._life)

    async def run(self, work: Callable[[Page], Awaitable[T]], *, limit_s: float | None = None, step: str = "look") -> T:
        """`work` on the page, alone and within the call's limit or a shorter one; a trace calls it `step`.

        Raises:
            PageError: It failed, and the page can go on.
            PageGone: The page is gone, or was closed because `work` did not end in time.
        """
        try:
            async with asyncio.timeout(self.limits.call_s):
                await self._one_call.acquire()
        except TimeoutError:
            raise PageError(f"another call has kept the page busy for {self.limits.call_s:.0f} s; try later") from None
        try:
            with span(f"chromium {step}", client=True):
                return await self._limited(work, limit_s or self.limits.call_s)
        finally:
            self._one_call.release()

    async def state(self) -> State:
        """Where the page is now, and what happened meanwhile.

        Raises:
            PageError, PageGone: As `run`.
        """
        return await self.run(self._state, limit_s=self.limits.action_s)

    async def _state(self, page: Page) -> State:
        title = await page.title()
        for refused in self._egress.take_refused():
            self._note(f"a request to {refused.host}:{refused.port} was refused: it {refused.reason}")
        notices = tuple(self._notices)
        self._notices.clear()
        return State(page.url, _cut(title, _TITLE_CHARS), self._status, notices)

    async def navigate(self, url: str) -> State:
        """Go to `url`, which was checked.

        Returns:
            Where that led, before anybody else can lead the page on.

        Raises:
            PageError: It cannot be reached or shown.
            PageGone: As `run`.
        """

        async def work(page: Page) -> State:
            self._egress.take_refused()
            self._status = None
            try:
                async with _error_page_awaited(page):
                    answer = await page.goto(
                        url, wait_until="domcontentloaded", timeout=1000 * self.limits.navigation_s
                    )
            except asyncio.CancelledError:
                await self._stop_loading()
                raise
            except Error as error:
                if isinstance(error, PlaywrightTimeoutError):
                    await self._check_responsive()
                self._check_there()
                raise PageError(self._unreached(url, error)) from error
            # A plain http refusal arrives as a page of our own making: it is not the page that was asked for.
            if answer is not None and answer.status in (403, 502) and (refused := self._refused_at(answer.url)):
                await self._leave(page)
                raise PageError(f"{refused.host}:{refused.port} {refused.reason}")
            self._status = None if answer is None else answer.status
            await self._settle(page)
            return await self._state(page)

        return await self.run(work, step="navigate")

    async def act(self, target: str, action: Callable[[Locator, float], Awaitable[None]]) -> State:
        """Do something to an element, then let the page settle.

        Args:
            target: A ref of the last snapshot, or a selector that matches one element.
            action: Gets the element and a time limit in ms.

        Returns:
            Where the page is then.

        Raises:
            PageError: There is no such element, or it cannot be used.
            PageGone: As `run`.
        """

        async def work(page: Page) -> State:
            try:
                await action(located(page, target), 1000 * self.limits.action_s)
            except PlaywrightTimeoutError as error:
                await self._check_responsive()
                raise PageError(
                    f"{target!r} was not there or could not be used within {self.limits.action_s:.0f} s; "
                    "take a new snapshot and use its refs"
                ) from error
            await self._settle(page)
            return await self._state(page)

        return await self.run(work, step="act")

    async def _leave(self, page: Page) -> None:
        """Off a page that is only our own refusal."""
        with suppress(Error):
            await page.goto("about:blank", timeout=1000 * self.limits.action_s)
        self._egress.take_refused()

    async def _limited(self, work: Callable[[Page], Awaitable[T]], limit_s: float) -> T:
        self._check_there()
        try:
            async with asyncio.timeout(limit_s):
                done = await work(self._page)
        except TimeoutError as error:
            await self._check_responsive()
            raise PageError(f"that did not end within {limit_s:.0f} s; the page is still there") from error
        except PlaywrightTimeoutError as error:
            await self._check_responsive()
            raise PageError("that was not there or not done in time; the page is, so see what there is") from error
        except Error as error:
            self._check_there()
            raise PageError(_said(error)) from error
        for frame in self._page.frames:
            await self._frame_navigated(frame)  # nothing is passed on from a page that got out of the web
        self._check_there()
        return done

    def _check_there(self) -> None:
        if self.gone:
            raise PageGone(self.gone)

    async def _check_responsive(self) -> None:
        """After a time-out: is it the network that is slow, or does the page itself not answer any more?

        Raises:
            PageGone: It does not answer, and was closed.
        """
        self._check_there()
        try:
            async with asyncio.timeout(_ANSWER_S):
                # Chromium answers nothing about a page that waits for a navigation: end that first.
                await self._session.send("Page.stopLoading")
                await self._session.send("Runtime.evaluate", {"expression": "0"})
        except TimeoutError:
            await self._give_up("its own script keeps it from answering, so it was closed")
        except Error:
            pass  # closed or crashed meanwhile
        self._check_there()

    async def _stop_loading(self) -> None:
        """For a call that was cancelled: nobody waits for the page any more."""
        with anyio.move_on_after(_ANSWER_S, shield=True), suppress(Error):
            await self._session.send("Page.stopLoading")

    async def _give_up(self, why: str) -> None:
        self._gone = why
        await _ended(self._life)

    async def _settle(self, page: Page) -> None:
        with suppress(PlaywrightTimeoutError):
            await page.wait_for_load_state("load", timeout=1000 * self.limits.settle_s)

    def _refused_at(self, url: str) -> Refused | None:
        parts = urlsplit(url)
        place = (parts.hostname, parts.port or 80)
        return next((one for one in self._egress.take_refused() if (one.host, one.port) == place), None)

    def _unreached(self, url: str, error: Error) -> str:
        refused = self._egress.take_refused()
        # Only a tunnel fails like this; what a page before or beside this one was refused says nothing of it.
        if refused and "ERR_TUNNEL_CONNECTION_FAILED" in error.message:
            return f"{refused[-1].host}:{refused[-1].port} {refused[-1].reason}"
        if isinstance(error, PlaywrightTimeoutError):
            return f"{url[:200]} did not load within {self.limits.navigation_s:.0f} s; see what there is, or try again"
        return f"{url[:200]} could not be opened: {_said(error)}"

    def _note(self, text: str) -> None:
        self._notices.append(_cut(text, _NOTICE_CHARS))

    def _watch(self, context: BrowserContext) -> None:
        context.on("page", self._window_opened)
        self._page.on("dialog", self._dialog_opened)
        self._page.on("download", self._download_began)
        self._page.on("framenavigated", self._frame_navigated)
        self._page.on("crash", self._crashed)

    async def _window_opened(self, opened: Page) -> None:
        self._note(f"the page opened a window ({opened.url}), which was closed; navigate to its URL instead")
        with suppress(Error):
            await opened.close()

    async def _dialog_opened(self, dialog: Dialog) -> None:
        leaving = dialog.type == "beforeunload"
        self._note(f"a dialog ({dialog.type}) said {dialog.message!r} and was {'accepted' if leaving else 'dismissed'}")
        with suppress(Error):
            await (dialog.accept() if leaving else dialog.dismiss())

    async def _download_began(self, download: Download) -> None:
        self._note(f"a download ({download.url}) was refused; downloads are not possible")
        with suppress(Error):
            await download.cancel()

    async def _frame_navigated(self, frame: Frame) -> None:
        if is_foreign(frame.url):
            await self._give_up(f"it went to {frame.url[:100]}, which pages may not, and was closed")

    def _crashed(self, _: Page) -> None:
        self._gone = "its process crashed"


def located(page: Page, target: str) -> Locator:
    """The element that a ref of the last snapshot or a selector names."""
    return page.get_by_ref(target) if _REF.fullmatch(target) else page.locator(target)


async def _ended(life: AsyncExitStack) -> None:
    """Close everything, also for a call that was cancelled, of which every further await is cancelled as well."""
    with anyio.CancelScope(shield=True):
        await life.aclose()


def _cut(text: str, at_most: int) -> str:
    return text if len(text) <= at_most else f"{text[:at_most]}…"


def _said(error: Error) -> str:
    """Playwright's message without its log, its own stack and colours."""
    first = re.split(r"\n(?:Call log:|\s+at )", error.message.strip())[0].replace("\n", " ")
    return re.sub(r"\x1b\[[\d;]*m", "", re.sub(r"^(Page|Locator|Frame)\.\w+: ", "", first))[:500]


@asynccontextmanager
async def _error_page_awaited(page: Page) -> AsyncIterator[None]:
    """Hold a failed navigation's error back until Chromium shows its error page.

    Playwright reports the failure first; the error page that comes later would interrupt whatever is done next.
    """
    shown = asyncio.Event()

    def look(frame: Frame) -> None:
        if frame == page.main_frame and frame.url.startswith("chrome-error:"):
            shown.set()

    page.on("framenavigated", look)
    try:
        yield
    except Error as error:
        # Aborted ones (a download, status 204) leave the page where it was.
        if "net::ERR_" in error.message and "net::ERR_ABORTED" not in error.message:
            with suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    await shown.wait()
        raise
    finally:
        page.remove_listener("framenavigated", look)


@asynccontextmanager
async def _context(browser: Browser, egress: Egress, limits: Limits) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(
        viewport={"width": limits.width, "height": limits.height},
        # The list alone decides what goes past the proxy: nothing, loopback included.
        proxy={"server": f"http://127.0.0.1:{egress.port}", "bypass": "<-loopback>"},
        accept_downloads=False,
    )
    try:
        yield context
    finally:
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await context.close()
