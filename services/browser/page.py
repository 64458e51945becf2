"""One open page: a context of its own with its own way out, and one tab or several.

Invariants: one call at a time works on a page; a call that does not end in time costs the page, never the service or
another page; what happened beside a call (dialogs, windows, downloads, refused requests) is told with the next answer.
"""

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from playwright.async_api import (
    Browser,
    BrowserContext,
    CDPSession,
    Dialog,
    Download,
    Error,
    FileChooser,
    Frame,
    Locator,
    Page,
    Response,
)
from playwright.async_api import TimeoutError as PlaywrightTimeoutError

from observability.telemetry.traces import span
from services.browser.egress import Egress, Refused, Way
from services.browser.files import PageFiles
from services.browser.happenings import Happenings, cut
from services.browser.urls import is_foreign
from services.common.paths import PathError

__all__ = ["DialogPlan", "Limits", "OpenPage", "PageError", "PageGone", "State", "Tab", "located", "said"]

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
_REF = re.compile(r"(f\d+)?e\d+")
_ANSWER_S = 4.0
_PATIENCE = 2.5
_CLOSE_S = 3.0
_TITLE_CHARS = 300
_TABS = 8
_DOWNLOADS_AT_ONCE = 5
_DIALOGS, _DIALOGS_S = 20, 10.0  # a page that shows so many in so short a time will not stop, nor let a call end


class _Until(TypedDict):
    wait_until: Literal["domcontentloaded"]
    timeout: float


class PageError(Exception):
    """A call on a page failed; the text says why. The page is still there."""


class PageGone(Exception):
    """The page is not there any more; the text says why."""


@dataclass(frozen=True)
class Limits:
    """How long things on a page may take, and how large they may be.

    Args:
        navigation_s: Until the first byte of a page has come and its document is read.
        look_s: Until a page's tree or text has been gathered.
        action_s: Until an element can be clicked or typed into.
        settle_s: What a page gets to finish loading after that; not an error when it does not.
        call_s: Any call as a whole; then the page is closed.
        width: Of the window.
        height: Of the window.
        answer_bytes: The most one connection may bring.
        files_bytes: The most all its files may hold.
    """

    navigation_s: float = 15.0
    look_s: float = 25.0
    action_s: float = 5.0
    settle_s: float = 3.0
    call_s: float = 30.0
    width: int = 1280
    height: int = 800
    answer_bytes: int = 128 << 20
    files_bytes: int = 256 << 20


@dataclass(frozen=True)
class DialogPlan:
    """How dialogs are answered.

    Args:
        accept: Rather than dismissed.
        text: What a prompt is given.
        once: Only the next one; then all are dismissed again.
    """

    accept: bool = False
    text: str = ""
    once: bool = False


@dataclass(frozen=True)
class Tab:
    """A tab of a page.

    Args:
        page: Playwright's page.
        session: The same page, spoken to without Playwright's own waiting.
    """

    page: Page
    session: CDPSession


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
        self.dialogs = DialogPlan()
        self.chooser: FileChooser | None = None
        self.routes: dict[str, str] = {}
        self.seen: dict[str, list[str]] = {}
        self._tabs = [tab]
        self._tab = tab
        self._egress = egress
        self._one_call = asyncio.Lock()
        self._adding = asyncio.Lock()
        self._making_tab = False
        self._dialogs_at: deque[float] = deque(maxlen=_DIALOGS)
        self._gone = ""
        self._status: int | None = None
        self._downloads: set[asyncio.Task[None]] = set()
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
        with span("chromium open", client=True), anyio.fail_after(limits.navigation_s, shield=True):
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
            context.on("page", opened._window_opened)
            opened._life = life
            return opened

    @property
    def egress_port(self) -> int:
        """Where its proxy listens, for requests made beside the browser on its behalf."""
        return self._egress.port

    @property
    def url(self) -> str:
        """Where it is, without asking the page itself."""
        return self._tab.page.url

    @property
    def tabs(self) -> tuple[Tab, ...]:
        """Its tabs, the oldest first."""
        return tuple(self._tabs)

    @property
    def tab(self) -> Tab:
        """The tab that calls work on."""
        return self._tab

    @property
    def gone(self) -> str:
        """Why the page is not there any more, "" while it is."""
        return self._gone or ("the browser ended" if self._tab.page.is_closed() else "")

    async def close(self) -> None:
        """Close the page, its context and its way out; whatever state they are in."""
        self._gone = self._gone or "it was closed"
        for download in self._downloads:
            download.cancel()
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
                done = await work(self._tab.page)
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
        for tab in self._tabs:
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
                await self._tab.session.send("Page.stopLoading")
                await self._tab.session.send("Runtime.evaluate", {"expression": "0"})
        except TimeoutError:
            await self._give_up("its own script keeps it from answering, so it was closed")
        except Error:
            pass  # closed or crashed meanwhile
        self._check_there()

    async def _check_dialogs(self) -> None:
        """After a navigation that did not end: Chromium holds one up while dialogs keep coming."""
        now = asyncio.get_running_loop().time()
        if self._dialogs_at and now - self._dialogs_at[-1] < _DIALOGS_S:
            await self._give_up("its dialogs keep it from going elsewhere, so it was closed")

    async def _stop_loading(self) -> None:
        """For a call that was cancelled: nobody waits for the page any more."""
        with anyio.move_on_after(_ANSWER_S, shield=True), suppress(Error):
            await self._tab.session.send("Page.stopLoading")

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

    def select(self, number: int) -> None:
        """Work on another tab from now on.

        Args:
            number: From 1, in the order of `tabs`.

        Raises:
            PageError: There is none.
        """
        if not 1 <= number <= len(self._tabs):
            raise PageError(f"there is no tab {number}; the page has tabs 1 to {len(self._tabs)}")
        self._tab = self._tabs[number - 1]

    async def new_tab(self) -> None:
        """Open one more tab, blank, and work on it.

        Raises:
            PageError: It has as many as it may.
        """
        if len(self._tabs) >= _TABS:
            raise PageError(f"the page has {_TABS} tabs, the most it may; close one")
        self._making_tab = True
        try:
            opened = await self.context.new_page()  # `_window_opened` hears of it, too
            await self._add(opened)
        finally:
            self._making_tab = False
        self._tab = next(tab for tab in self._tabs if tab.page == opened)

    async def close_tab(self, number: int | None) -> None:
        """Close a tab, the current one without a number; the last one cannot be.

        Raises:
            PageError: There is no such tab, or it is the last.
        """
        if len(self._tabs) == 1:
            raise PageError("that is the page's only tab; close the page instead (browser_close)")
        current = self._tab
        if number is not None:
            self.select(number)
        closing, self._tab = self._tab, current
        await closing.page.close()
        self._tab_closed(closing.page)

    async def _add(self, opened: Page) -> None:
        async with self._adding:
            if any(tab.page == opened for tab in self._tabs):
                return
            self._watch(opened)
            self._tabs.append(Tab(opened, await self.context.new_cdp_session(opened)))

    def _watch(self, page: Page) -> None:
        page.on("dialog", self._dialog_opened)
        page.on("download", self._download_began)
        page.on("framenavigated", self._frame_navigated)
        page.on("filechooser", self._chooser_opened)
        page.on("crash", self._crashed)
        page.on("close", self._tab_closed)
        self.happened.watch(page)

    async def _window_opened(self, opened: Page) -> None:
        own = self._making_tab
        with suppress(Error):
            if not own and len(self._tabs) >= _TABS:
                self.happened.note(f"the page opened one more window ({opened.url}), which was closed")
                await opened.close()
                return
            await self._add(opened)
            if not own:
                where = f"({opened.url}), which is tab {len(self._tabs)}"
                self.happened.note(f"the page opened a window {where}; select it by browser_tabs")

    def _tab_closed(self, closed: Page) -> None:
        self.happened.forget(closed)
        if self._gone or len(self._tabs) == 1:
            return  # or the browser ended, and all close one after another
        self._tabs = [tab for tab in self._tabs if tab.page != closed]
        if self._tab.page == closed:
            self._tab = self._tabs[-1]
            self.happened.note(f"the tab was closed; what comes next works on tab {len(self._tabs)} ({self.url})")

    async def _dialog_opened(self, dialog: Dialog) -> None:
        self._dialogs_at.append(asyncio.get_running_loop().time())
        if len(self._dialogs_at) == _DIALOGS and self._dialogs_at[-1] - self._dialogs_at[0] < _DIALOGS_S:
            return await self._give_up("it opens dialogs without end, so it was closed")
        plan = self.dialogs
        if plan.once:
            self.dialogs = DialogPlan()
        # Leaving a page is what a call wanted; a page that asks whether to must not keep it.
        accept = plan.accept or dialog.type == "beforeunload"
        hint = "" if accept else "; to accept it, call browser_handle_dialog and do the same again"
        outcome = "accepted" if accept else "dismissed"
        self.happened.note(f"a dialog ({dialog.type}) said {cut(dialog.message, 150)!r} and was {outcome}{hint}")
        with suppress(Error):
            await (dialog.accept(plan.text) if accept else dialog.dismiss())
        return None

    def _chooser_opened(self, chooser: FileChooser) -> None:
        self.chooser = chooser
        self.happened.note("the page asks for a file; browser_file_upload without target answers it")

    async def _download_began(self, download: Download) -> None:
        if len(self._downloads) >= _DOWNLOADS_AT_ONCE:
            self.happened.note(f"a download ({download.url}) was refused; {_DOWNLOADS_AT_ONCE} are under way")
            with suppress(Error):
                await download.cancel()
            return
        task = asyncio.create_task(self._downloaded(download))
        self._downloads.add(task)
        task.add_done_callback(self._downloads.discard)

    async def _downloaded(self, download: Download) -> None:
        with suppress(Error):
            try:
                path = await download.path()
                saved = await anyio.to_thread.run_sync(self.files.save, download.suggested_filename, Path(path))
                self.happened.note(f"downloaded {saved.path} ({saved.size_bytes} bytes) from {download.url}")
            except Error as error:
                self.happened.note(f"a download ({download.url}) failed: {said(error)}")
            except (PathError, OSError) as error:
                self.happened.note(f"a download ({download.url}) was not kept: {error}")
            await download.delete()

    async def _frame_navigated(self, frame: Frame) -> None:
        if is_foreign(frame.url):
            await self._give_up(f"it went to {frame.url[:100]}, which pages may not, and was closed")

    def _crashed(self, page: Page) -> None:
        if page == self._tab.page:
            self._gone = "its process crashed"
            return
        self._tabs = [tab for tab in self._tabs if tab.page != page]
        self.happened.note(f"a tab ({page.url}) crashed and is gone")


def _answer_s() -> float:
    """How long a page gets to say that it is there: longer where it may only wait for a processor."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return _ANSWER_S * min(max(1.0, waiting / 2), _PATIENCE)


def located(page: Page, target: str) -> Locator:
    """The element that a ref of the last snapshot or a selector names."""
    return page.get_by_ref(target) if _REF.fullmatch(target) else page.locator(target)


async def _ended(life: AsyncExitStack) -> None:
    """Close everything, also for a call that was cancelled, of which every further await is cancelled as well."""
    with anyio.CancelScope(shield=True):
        await life.aclose()


def said(error: Error) -> str:
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
        accept_downloads=True,
        service_workers="allow",  # they, too, have no way but the proxy
    )
    try:
        yield context
    finally:
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await context.close()
