"""Looking at a page: its snapshot and its text."""

from dataclasses import dataclass
from typing import Final

from anyio import to_thread
from playwright.async_api import Page

from services.browser.shapes import located
from services.browser.snapshots import Box, lines_of, parsed

__all__ = ["Part", "Tree", "part_of", "shown", "snapshot", "visible_text"]

MOST_CHARS: Final = 4 << 20
"""Of a page's tree; the largest of everyday pages have a tenth of it."""


@dataclass(frozen=True)
class Part:
    """A part of a text.

    Args:
        text: The part.
        offset: Where it starts, in characters.
        total: Length of the whole.
    """

    text: str
    offset: int
    total: int

    @property
    def next_offset(self) -> int | None:
        """Where the next part starts, None at the end."""
        end = self.offset + len(self.text)
        return end if end < self.total else None


@dataclass(frozen=True)
class Tree:
    """What of a page's tree is wanted.

    Args:
        target: Only this element: a ref or a selector.
        interactive: Only what can be used, and headings.
        viewport: Only what is in the window.
        urls: With the targets of links.
        depth: Levels of Playwright's own tree, None for all.
        full: Playwright's own tree, with a ref for everything.
    """

    target: str | None = None
    interactive: bool = False
    viewport: bool = False
    urls: bool = False
    depth: int | None = None
    full: bool = False


def part_of(text: str, offset: int, budget: int) -> Part:
    """As much of `text` from `offset` as the budget takes, to the end of a line where that is near."""
    part = text[offset : offset + budget]
    if offset + len(part) < len(text):
        end = part.rfind("\n") + 1
        part = part[:end] if end > len(part) // 2 else part
    return Part(part, offset, len(text))


async def snapshot(page: Page, tree: Tree, limit_s: float) -> list[str]:
    """The accessibility tree with refs, line by line.

    Playwright waits for frames that do not answer until `limit_s`, and then leaves them empty.
    """
    place = page if tree.target is None else located(page, tree.target)
    found = await place.aria_snapshot(mode="ai", timeout=1000 * limit_s, boxes=tree.viewport or None, depth=tree.depth)
    size = page.viewport_size
    window: Box | None = (0, 0, size["width"], size["height"]) if tree.viewport and size else None
    return await to_thread.run_sync(shown, found, tree, window)


def shown(found: str, tree: Tree, window: Box | None) -> list[str]:
    """A page's tree line by line; of one without end what its first part holds, and how much is left out.

    Args:
        found: As Playwright gives it.
        tree: What of it is wanted.
        window: Only what touches it.
    """
    whole, found = len(found), found[:MOST_CHARS]
    cut = whole > MOST_CHARS
    if cut:
        found = found[: found.rfind("\n")]
    if tree.full:
        lines = found.split("\n")
    else:
        lines = lines_of(parsed(found), interactive=tree.interactive, within=window, urls=tree.urls)
    if cut:
        lines.append(
            f"({whole - len(found)} more characters of the page's tree are left out: ask for a target or depth)"
        )
    return lines


async def visible_text(page: Page, target: str | None, limit_s: float) -> str:
    """The text one sees, of the page or of one element."""
    return await located(page, target or "body").inner_text(timeout=1000 * limit_s)
