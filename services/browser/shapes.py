"""What a page has and says: its limits, tabs and state, the errors of calls on it, and elements by name."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from playwright.async_api import CDPSession, Error, Locator, Page

__all__ = ["DialogPlan", "Limits", "PageError", "PageGone", "Routed", "State", "Tab", "located", "said"]

_REF = re.compile(r"(f\d+)?e\d+")


class PageError(Exception):
    """A call on a page failed; the text says why. The page is still there."""


class PageGone(Exception):
    """The page is not there any more; the text says why."""


@dataclass(frozen=True)
class Limits:
    """How long things on a page may take, and how large they may be.

    Args:
        open_s: Until the browser has made a blank page.
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

    open_s: float = 15.0
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
class Routed:
    """Requests that are answered or changed.

    Args:
        does: How, as JSON.
        matches: Whether a URL is meant; Playwright knows the route by it.
    """

    does: str
    matches: Callable[[str], bool]


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


def located(page: Page, target: str) -> Locator:
    """The element that a ref of the last snapshot or a selector names."""
    return page.get_by_ref(target) if _REF.fullmatch(target) else page.locator(target)


def said(error: Error) -> str:
    """Playwright's message without its log, its own stack and colours."""
    first = re.split(r"\n(?:Call log:|\s+at )", error.message.strip())[0].replace("\n", " ")
    return re.sub(r"\x1b\[[\d;]*m", "", re.sub(r"^(Page|Locator|Frame)\.\w+: ", "", first))[:500]
