"""Reading pages rather than using them: URL to Markdown, links and what the page says of itself; values by a schema."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from services.browser.apart import evaluated_apart, script
from services.browser.page import OpenPage
from services.browser.shapes import PageError

__all__ = ["Asked", "Kept", "Scraped", "extracted", "scraped"]

_MARKDOWN_CHARS = 2_000_000
_VALUES = 20_000
_KEPT_S = 120.0
_KEPT_CHARS = 16 << 20
_ENOUGH_CHARS = 500


@dataclass(frozen=True)
class Asked:
    """What is to be read of a page.

    Args:
        url: Where.
        main_only: Only its main content, without what stands around it.
        inline_links: Links within the text.
        links: The most that are listed.
        selector: Only this element.
    """

    url: str
    main_only: bool
    inline_links: bool
    links: int
    selector: str | None = None


@dataclass(frozen=True)
class Scraped:
    """A page as text."""

    url: str
    status: int | None
    title: str
    lang: str
    canonical: str
    markdown: str
    cut: bool
    links: tuple[tuple[str, str], ...]
    meta: dict[str, str]


class Kept:
    """What was read, for a while: the parts of a long page come from one reading.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, Asked], tuple[float, Scraped]] = OrderedDict()

    def get(self, client: str, asked: Asked) -> Scraped | None:
        """What was read lately for that client, None for nothing."""
        found = self._kept.get((client, asked))
        return found[1] if found is not None and found[0] > self._clock() else None

    def put(self, client: str, asked: Asked, read: Scraped) -> None:
        """Keep it, within the bound of all."""
        self._kept[client, asked] = (self._clock() + _KEPT_S, read)
        self._kept.move_to_end((client, asked))
        while sum(len(one.markdown) for _, one in self._kept.values()) > _KEPT_CHARS:
            self._kept.popitem(last=False)


async def scraped(page: OpenPage, asked: Asked) -> Scraped:
    """Go there and read.

    Raises:
        PageError: It cannot be reached or read.
        PageGone: As `OpenPage.run`.
    """
    state = await page.navigate(asked.url)
    await _until_quiet(page)
    wanted = {
        "main_only": asked.main_only,
        "inline_links": asked.inline_links,
        "links": asked.links,
        "selector": asked.selector,
        "chars": _MARKDOWN_CHARS,
    }
    found = await page.run(lambda _: evaluated_apart(page.tab.session, script("scrape.js"), wanted))
    if found["markdown"] is None:
        raise PageError(f"{asked.selector!r} is not on {state.url[:200]}")
    links = tuple((str(link["url"]), str(link["text"])) for link in found["links"])
    return Scraped(
        url=state.url,
        status=state.status,
        title=found["title"],
        lang=found["lang"],
        canonical=found["canonical"],
        markdown=found["markdown"],
        cut=found["cut"],
        links=links,
        meta=dict(found["meta"]),
    )


async def _until_quiet(page: OpenPage) -> None:
    """What a page writes itself comes after it has loaded: wait until its text stays the same, not longer than two
    seconds."""
    size = -1
    with anyio.move_on_after(2.0):
        while True:
            now = await page.run(
                lambda _: evaluated_apart(page.tab.session, "() => document.body?.textContent.length ?? 0", None)
            )
            if now == size or (size == -1 and now > _ENOUGH_CHARS):
                return
            size = now
            await asyncio.sleep(0.15)


async def extracted(page: OpenPage, schema: dict[str, Any]) -> tuple[Any, bool]:
    """Values of the page by a schema, and whether there were more than may be.

    Raises:
        PageError: A selector is none, or the page cannot be read.
        PageGone: As `OpenPage.run`.
    """
    wanted = {"schema": schema, "values": _VALUES}
    found = await page.run(lambda _: evaluated_apart(page.tab.session, script("extract.js"), wanted))
    return found["data"], found["cut"]
