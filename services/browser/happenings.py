"""What happens on a page beside the calls: dialogs, windows, downloads, console, requests.

A page that floods its console or network costs nobody else anything: what is kept has a bound, and past a rate nothing
more is listened to until the page goes elsewhere.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from playwright.async_api import ConsoleMessage, Error, Page, Request, Response

__all__ = ["LEVELS", "ConsoleLine", "Happenings", "Requested", "cut"]

LEVELS: Final = ("error", "warning", "info", "debug")
_NOTICES = 20
_NOTICE_CHARS = 300
_KEPT = 200
_FLOOD = 2000  # events of one document; then it is not listened to any more
_LINE_CHARS = 1000
_URL_CHARS = 500
_LEVEL_OF = {"error": "error", "assert": "error", "warning": "warning", "debug": "debug", "trace": "debug"}


@dataclass(frozen=True)
class ConsoleLine:
    """A line of the console.

    Args:
        level: One of `LEVELS`.
        text: What it says, cut.
        where: URL and line of the script, "" when unknown.
    """

    level: str
    text: str
    where: str


@dataclass(frozen=True)
class Requested:
    """A request a page made.

    Args:
        number: Counts from 1.
        request: Playwright's.
        response: Playwright's, None when it failed.
        failure: Why, "" when it did not.
    """

    number: int
    request: Request
    response: Response | None
    failure: str

    @property
    def line(self) -> str:
        """In one line."""
        outcome = str(self.response.status) if self.response else self.failure or "failed"
        kind = self.request.resource_type
        return f"{self.number}. {self.request.method} {cut(self.request.url, _URL_CHARS)} => {outcome} ({kind})"

    @property
    def is_static(self) -> bool:
        """Whether it fetched what a page is dressed with, and well."""
        dressing = {"image", "font", "stylesheet", "script", "media", "manifest"}
        return self.request.resource_type in dressing and self.response is not None and self.response.ok


class Happenings:
    """What happened on the tabs of one page."""

    def __init__(self) -> None:
        self._notices: deque[str] = deque(maxlen=_NOTICES)
        self.console: deque[ConsoleLine] = deque(maxlen=_KEPT)
        self.requests: deque[Requested] = deque(maxlen=_KEPT)
        self._number = 0
        self._new_errors = 0
        self._last_error = ""
        self._heard: dict[Page, int] = {}
        self._deaf: dict[Page, Callable[[], None]] = {}

    def note(self, text: str) -> None:
        """Tell `text` with the next answer."""
        self._notices.append(cut(text, _NOTICE_CHARS))

    def take_notices(self) -> tuple[str, ...]:
        """What is to be told, once."""
        if self._new_errors:
            count = f"{self._new_errors} error(s), the last: {self._last_error}"
            self.note(f"the console shows {count}; see browser_console_messages")
            self._new_errors = 0
        taken = tuple(self._notices)
        self._notices.clear()
        return taken

    def went_elsewhere(self, page: Page) -> None:
        """A new document was asked for: listen anew."""
        self._heard[page] = 0
        if page in self._deaf:
            del self._deaf[page]
            self._listen(page)

    def forget(self, page: Page) -> None:
        """It is closed."""
        self._heard.pop(page, None)
        self._deaf.pop(page, None)

    def watch(self, page: Page) -> None:
        """Listen to a tab."""
        self._heard[page] = 0
        self._listen(page)

    def _listen(self, page: Page) -> None:
        def console(message: ConsoleMessage) -> None:
            if self._too_much(page, unlisten):
                return
            place = message.location
            where = f"{cut(place['url'], _URL_CHARS)}:{place['lineNumber']}" if place.get("url") else ""
            self._line(_LEVEL_OF.get(message.type, "info"), message.text, where)

        def broke(error: Error) -> None:
            if not self._too_much(page, unlisten):
                self._line("error", error.message, "")

        def answered(response: Response) -> None:
            if not self._too_much(page, unlisten):
                self._requested(response.request, response, "")

        def failed(request: Request) -> None:
            if not self._too_much(page, unlisten):
                self._requested(request, None, request.failure or "")

        def unlisten() -> None:
            page.remove_listener("console", console)
            page.remove_listener("pageerror", broke)
            page.remove_listener("response", answered)
            page.remove_listener("requestfailed", failed)

        page.on("console", console)
        page.on("pageerror", broke)
        page.on("response", answered)
        page.on("requestfailed", failed)

    def _too_much(self, page: Page, unlisten: Callable[[], None]) -> bool:
        self._heard[page] = self._heard.get(page, 0) + 1
        if self._heard[page] == _FLOOD:
            self._deaf[page] = unlisten
            unlisten()
            self.note("the page floods its console or network: neither is recorded until it goes elsewhere")
        return self._heard[page] >= _FLOOD

    def _line(self, level: str, text: str, where: str) -> None:
        self.console.append(ConsoleLine(level, cut(text, _LINE_CHARS), where))
        # What did not come stands among the requests, too, and would be told with half of all pages.
        if level == "error" and not text.startswith("Failed to load resource"):
            self._new_errors += 1
            self._last_error = text

    def _requested(self, request: Request, response: Response | None, failure: str) -> None:
        self._number += 1
        self.requests.append(Requested(self._number, request, response, failure))


def cut(text: str, at_most: int) -> str:
    """`text`, with a mark where it was cut."""
    return text if len(text) <= at_most else f"{text[:at_most]}…"
