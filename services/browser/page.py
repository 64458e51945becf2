"""One open page: a context of its own with its own way out, and one tab or several.

Invariants: one call at a time works on a page; a call that does not end in time costs the page, never the service or
another page; what happened beside a call (dialogs, windows, downloads, refused requests) is told with the next answer.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, TypedDict, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from playwright.async_api import (
    Browser,
    BrowserContext,
    Dialog,
    Error,
    FileChooser,
    Frame,
    Locator,
    Page,
    Response,
)
from playwright.async_api import TimeoutError as PlaywrightTimeoutError

from observability.telemetry.traces import span
from services.browser.dialogs import Dialogs
from services.browser.downloads import Downloads
from services.browser.files import PageFiles
from services.browser.happenings import Happenings, cut
from services.browser.shapes import Limits, PageError, PageGone, Routed, State, Tab, located, said
from services.browser.tabs import Tabs
from services.browser.urls import is_foreign
from services.common.egress import Egress, Refused, Way

__all__ = ["OpenPage"]

T = TypeVar("T")

# A console without end would keep Playwright busy for all pages: a frame's own is heard so often and no more. That it
# can be got around costs no safety, only the next bound (`happenings`) stands then.
_QUIET_CONSOLE = """(() => {
  let left = 500;
  delete console.context;
  for (const name of Object.keys(console)) {
    const said = console[name];
    if (typeof said === 'function') console[name] = (...given) => { if (left-- > 0) said.apply(console, given); };
  }
})()"""
_ANSWER_S = 4.0
_PATIENCE = 2.5
_CLOSE_S = 3.0
_TITLE_CHARS = 300


class _Until(TypedDict):
    wait_until: Literal["domcontentloaded"]
    timeout: float


class OpenPage:
    """A page. Made by `OpenPage.opened`.

    Args:
        context: Playwright's, of this page alone.
        tab: Its first tab.
        egress: Its way out.
        files: Its files.
        limits: Its limits.
    """

    def __init__(self, context: BrowserContext, tab: Tab, egress: Egress, files: PageFiles, limits: Limits) -> None:
        self.context = context
        self.files = files
        self.limits = limits
        self.happened = Happenings()
        self.dialogs = Dialogs(self.happened)
        self.chooser: FileChooser | None = None
        self.routes: dict[str, Routed] = {}
        self.seen: dict[str, list[str]] = {}
        self.tabs = Tabs(context, tab, self.happened, self._watch)
        self._egress = egress
        self._one_call = asyncio.Lock()
        self._gone = ""
        self._status: int | None = None
        self._downloads = Downloads(files, self.happened)
        self._life = AsyncExitStack()

    @classmethod
    async def opened(cls, browser: Browser, way: Way, limits: Limits, folder: Path) -> "OpenPage":
        """A blank page in a new context; `close` it.

        Args:
            browser: Makes it.
            way: How it reaches hosts.
            limits: Its limits.
            folder: Where its files will lie; made and removed with them.

        Raises:
            playwright.async_api.Error: The browser does not make one.
            TimeoutError: It does not answer.
        """
        # To its end, whoever gives up meanwhile: what the browser had half made would belong to nobody.
        with span("chromium open", client=True), anyio.fail_after(limits.open_s, shield=True):
            life = AsyncExitStack()
            files = PageFiles(folder, limits.files_bytes)
            try:
                life.push_async_callback(anyio.to_thread.run_sync, files.remove)
                egress = await life.enter_async_context(Egress.open(way, limits.answer_bytes))
                context = await life.enter_async_context(_context(browser, egress, limits))
                await context.add_init_script(_QUIET_CONSOLE)
                page = await context.new_page()
                tab = Tab(page, await context.new_cdp_session(page))
                opened = cls(context, tab, egress, files, limits)
            except BaseException:
                await _ended(life)
                raise
            opened._watch(page)
            context.on("page", opened.tabs.opened)
            opened._life = life
            return opened

    @property
    def egress_port(self) -> int:
        """Where its proxy listens, for requests made beside the browser on its behalf."""
        return self._egress.port

    @property
    def url(self) -> str:
        """Where it is, without asking the page itself."""
        return self.tab.page.url

    @property
    def tab(self) -> Tab:
        """The tab that calls work on."""
        return self.tabs.current

    @property
    def gone(self) -> str:
        """Why the page is not there any more, "" while it is."""
        return self._gone or ("the browser ended" if self.tab.page.is_closed() else "")

    async def close(self) -> None:
        """Close the page, its context and its way out; whatever state they are in."""
        self._gone = self._gone or "it was closed"
        self._downloads.cancel()
        await _ended(self._life)

    def take_notices(self) -> tuple[str, ...]:
        """What happened since the answer before."""
        for refused in self._egress.take_refused():
            self.happened.note(f"a request to {refused.host}:{refused.port} was refused: it {refused.reason}")
        return self.happened.take_notices()

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
        return State(page.url, cut(title, _TITLE_CHARS), self._status, self.take_notices())

    async def navigate(self, url: str) -> State:
        """Go to `url`, which was checked.

        Returns:
            Where that led, before anybody else can lead the page on.

        Raises:
            PageError: It cannot be reached or shown.
            PageGone: As `run`.
        """

        return await self._go(url, lambda page: page.goto(url, **self._until_read()))

    async def back(self) -> State:
        """Go back in the tab's history.

        Raises:
            PageError: There is nothing to go back to.
            PageGone: As `run`.
        """
        return await self._go("the page before", lambda page: page.go_back(**self._until_read()))

    def _until_read(self) -> "_Until":
        return {"wait_until": "domcontentloaded", "timeout": 1000 * self.limits.navigation_s}

    async def _go(self, url: str, move: Callable[[Page], Awaitable[Response | None]]) -> State:
        async def work(page: Page) -> State:
            self._egress.take_refused()
            self.happened.went_elsewhere(page)
            self._status = None
            before = page.url
            try:
                async with _error_page_awaited(page):
                    answer = await move(page)
            except asyncio.CancelledError:
                await self._stop_loading()
                raise
            except Error as error:
                if isinstance(error, PlaywrightTimeoutError):
                    await self._check_dialogs()
                    await self._check_responsive()
                self._check_there()
                raise PageError(self._unreached(url, error)) from error
            if answer is None and url == "the page before" and page.url == before:
                raise PageError("there is no page to go back to")
            # A plain http refusal arrives as a page of our own making: it is not the page that was asked for.
            if answer is not None and answer.status in (403, 502) and (refused := self._refused_at(answer.url)):
                await self._leave(page)
                raise PageError(f"{refused.host}:{refused.port} {refused.reason}")
            self._status = None if answer is None else answer.status
            await self._settle(page)
            return await self._state(page)

        return await self.run(work, step="navigate")

    async def do(self, action: Callable[[Page], Awaitable[None]]) -> State:
        """Do something to the page, then let it settle.

        Returns:
            Where the page is then.

        Raises:
            PageError, PageGone: As `run`.
        """

        async def work(page: Page) -> State:
            await action(page)
            await self._settle(page)
            return await self._state(page)

        return await self.run(work, step="act")

    async def act(
        self, target: str, action: Callable[[Locator, float], Awaitable[None]], *, settle: bool = True
    ) -> State:
        """Do something to an element, then let the page settle.

        Args:
            target: A ref of the last snapshot, or a selector that matches one element.
            action: Gets the element and a time limit in ms.
            settle: False where more is to be done at once.

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
            if settle:
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
                done = await work(self.tab.page)
        except TimeoutError as error:
            await self._check_responsive()
            raise PageError(f"that did not end within {limit_s:.0f} s; the page is still there") from error
        except PlaywrightTimeoutError as error:
            await self._check_responsive()
            raise PageError("that was not there or not done in time; the page is, so see what there is") from error
        except Error as error:
            self._check_there()
            if "has been closed" in error.message:
                raise PageError("the tab was closed meanwhile; browser_tabs tells which are left") from error
            raise PageError(said(error)) from error
        for tab in self.tabs.all:
            for frame in tab.page.frames:
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
            async with asyncio.timeout(_answer_s()):
                # Chromium answers nothing about a page that waits for a navigation: end that first.
                await self.tab.session.send("Page.stopLoading")
                await self.tab.session.send("Runtime.evaluate", {"expression": "0"})
        except TimeoutError:
            await self._give_up("its own script keeps it from answering, so it was closed")
        except Error:
            pass  # closed or crashed meanwhile
        self._check_there()

    async def _check_dialogs(self) -> None:
        """After a navigation that did not end: Chromium holds one up while dialogs keep coming."""
        if self.dialogs.lately:
            await self._give_up("its dialogs keep it from going elsewhere, so it was closed")

    async def _stop_loading(self) -> None:
        """For a call that was cancelled: nobody waits for the page any more."""
        with anyio.move_on_after(_ANSWER_S, shield=True), suppress(Error):
            await self.tab.session.send("Page.stopLoading")

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
        for one in refused:
            if one.cut:
                self.happened.note(f"{one.host}:{one.port} {one.reason}")
        # Only a tunnel fails like this; what a page before or beside this one was refused says nothing of it.
        if refused and "ERR_TUNNEL_CONNECTION_FAILED" in error.message:
            return f"{refused[-1].host}:{refused[-1].port} {refused[-1].reason}"
        if isinstance(error, PlaywrightTimeoutError):
            return f"{url[:200]} did not load within {self.limits.navigation_s:.0f} s; see what there is, or try again"
        return f"{url[:200]} could not be opened: {said(error)}"

    def _watch(self, page: Page) -> None:
        page.on("dialog", self._dialog_opened)
        page.on("download", self._downloads.began)
        page.on("framenavigated", self._frame_navigated)
        page.on("filechooser", self._chooser_opened)
        page.on("crash", self._crashed)
        page.on("close", self._tab_closed)
        self.happened.watch(page)

    def _tab_closed(self, closed: Page) -> None:
        self.happened.forget(closed)
        if not self._gone:
            self.tabs.closed(closed)

    def _crashed(self, page: Page) -> None:
        if page == self.tab.page:
            self._gone = "its process crashed"
        else:
            self.tabs.crashed(page)

    async def _dialog_opened(self, dialog: Dialog) -> None:
        await self.dialogs.opened(dialog)
        if self.dialogs.endless:
            await self._give_up("it opens dialogs without end, so it was closed")

    def _chooser_opened(self, chooser: FileChooser) -> None:
        self.chooser = chooser
        self.happened.note("the page asks for a file; browser_file_upload without target answers it")

    async def _frame_navigated(self, frame: Frame) -> None:
        if is_foreign(frame.url):
            await self._give_up(f"it went to {frame.url[:100]}, which pages may not, and was closed")


def _answer_s() -> float:
    """How long a page gets to say that it is there: longer where it may only wait for a processor."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return _ANSWER_S * min(max(1.0, waiting / 2), _PATIENCE)


async def _ended(life: AsyncExitStack) -> None:
    """Close everything, also for a call that was cancelled, of which every further await is cancelled as well."""
    with anyio.CancelScope(shield=True):
        await life.aclose()


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
        accept_downloads=True,
        service_workers="allow",  # they, too, have no way but the proxy
    )
    try:
        yield context
    finally:
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await context.close()
