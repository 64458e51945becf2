"""Looking at a page: its snapshot, its text, its picture, each within a budget."""

from dataclasses import dataclass

from playwright.async_api import FloatRect, Page

from services.browser.page import located

__all__ = ["Part", "Shot", "part_of", "shot", "snapshot", "visible_text"]

_FULL_HEIGHT = 8000
_PNG_BYTES = 3 << 20
_JPEG_QUALITY = 70


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
class Shot:
    """A picture of a page."""

    image: bytes
    mime_type: str
    width: int
    height: int
    cut: bool


def part_of(text: str, offset: int, budget: int) -> Part:
    """As much of `text` from `offset` as the budget takes, to the end of a line where that is near."""
    part = text[offset : offset + budget]
    if offset + len(part) < len(text):
        end = part.rfind("\n") + 1
        part = part[:end] if end > len(part) // 2 else part
    return Part(part, offset, len(text))


async def snapshot(page: Page, target: str | None, limit_s: float) -> str:
    """The accessibility tree with refs, of the page or of one element.

    Playwright waits for frames that do not answer until `limit_s`, and then leaves them empty.
    """
    if target is None:
        return await page.aria_snapshot(mode="ai", timeout=1000 * limit_s)
    return await located(page, target).aria_snapshot(mode="ai", timeout=1000 * limit_s)


async def visible_text(page: Page, target: str | None, limit_s: float) -> str:
    """The text one sees, of the page or of one element."""
    return await located(page, target or "body").inner_text(timeout=1000 * limit_s)


async def shot(page: Page, *, full_page: bool) -> Shot:
    """A picture of the window, or of the page down to a fixed height; as JPEG where PNG would be too large."""
    size = page.viewport_size or {"width": 0, "height": 0}
    width, height = size["width"], size["height"]
    total = height
    clip: FloatRect | None = None
    if full_page:
        total = int(await page.evaluate("document.documentElement ? document.documentElement.scrollHeight : 0"))
        height = max(1, min(max(total, height), _FULL_HEIGHT))
        clip = {"x": 0, "y": 0, "width": width, "height": height}
    image = await page.screenshot(type="png", full_page=full_page, clip=clip, scale="css", animations="disabled")
    mime_type = "image/png"
    if len(image) > _PNG_BYTES:
        image = await page.screenshot(
            type="jpeg", quality=_JPEG_QUALITY, full_page=full_page, clip=clip, scale="css", animations="disabled"
        )
        mime_type = "image/jpeg"
    return Shot(image, mime_type, width, height, cut=total > height)
