"""Pictures of a page within a budget of pixels and bytes, scaled down by Chromium itself."""

import base64
from dataclasses import dataclass, replace
from typing import Final, Literal

from playwright.async_api import CDPSession, Page

__all__ = ["KINDS", "Kind", "Shot", "Wanted", "shot"]

Kind = Literal["png", "jpeg", "webp"]
KINDS: Final[dict[Kind, str]] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_FULL_HEIGHT = 8000
_QUALITY = 75
_ATTEMPTS = 5
_LEAST_SCALE = 0.05


@dataclass(frozen=True)
class Wanted:
    """What picture.

    Args:
        kind: Its format; None: PNG, or JPEG where that would be too large.
        full_page: The whole page, down to a fixed height.
        box: An element's box relative to the window, None for none.
        side_px: The most pixels of its longer side.
        size_bytes: The most bytes.
    """

    kind: Kind | None = None
    full_page: bool = False
    box: tuple[float, float, float, float] | None = None
    side_px: int = _FULL_HEIGHT
    size_bytes: int = 1 << 20


@dataclass(frozen=True)
class Shot:
    """A picture of a page."""

    image: bytes
    mime_type: str
    width: int
    height: int
    cut: bool
    scale: float


@dataclass(frozen=True)
class _Clip:
    x: float
    y: float
    width: float
    height: float
    cut: bool
    beyond: bool = True  # more than the window shows: ten times as slow


async def shot(page: Page, session: CDPSession, wanted: Wanted) -> Shot:
    """A picture, made smaller until it is within its budget."""
    clip = await _clip(page, session, wanted)
    scale = min(1.0, wanted.side_px / max(clip.width, clip.height))
    kind: Kind = wanted.kind or "png"
    image = b""
    for _ in range(_ATTEMPTS):
        image = await _taken(session, clip, kind, scale)
        if len(image) <= wanted.size_bytes or scale <= _LEAST_SCALE:
            break
        if kind == "png" and wanted.kind is None:
            kind = "jpeg"
        else:
            scale = max(_LEAST_SCALE, scale * 0.9 * (wanted.size_bytes / len(image)) ** 0.5)
    width, height = round(clip.width * scale), round(clip.height * scale)
    return Shot(image, KINDS[kind], width, height, clip.cut, round(scale, 3))


async def _clip(page: Page, session: CDPSession, wanted: Wanted) -> _Clip:
    found = await session.send("Page.getLayoutMetrics")
    window, content = found["cssVisualViewport"], found["cssContentSize"]
    if wanted.box is not None:
        x, y, width, height = wanted.box
        clip = _Clip(window["pageX"] + x, window["pageY"] + y, max(1.0, width), max(1.0, height), cut=False)
        return replace(clip, height=min(clip.height, _FULL_HEIGHT), cut=clip.height > _FULL_HEIGHT)
    size = page.viewport_size or {"width": int(window["clientWidth"]), "height": int(window["clientHeight"])}
    total = max(content["height"], size["height"])
    if not wanted.full_page:
        return _Clip(window["pageX"], window["pageY"], size["width"], size["height"], cut=False, beyond=False)
    return _Clip(0, 0, size["width"], min(total, _FULL_HEIGHT), total > _FULL_HEIGHT)


async def _taken(session: CDPSession, clip: _Clip, kind: Kind, scale: float) -> bytes:
    about: dict[str, object] = {"format": kind, "captureBeyondViewport": clip.beyond}
    if clip.beyond or scale < 1:
        about["clip"] = {"x": clip.x, "y": clip.y, "width": clip.width, "height": clip.height, "scale": scale}
    if kind != "png":
        about["quality"] = _QUALITY
    answer = await session.send("Page.captureScreenshot", about)
    return base64.b64decode(answer["data"])
