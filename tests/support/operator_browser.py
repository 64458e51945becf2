"""An operator with a real Chromium in front of the console."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from tests.support.programs import program

WAIT_MS = 30_000
SIZES = {"wide": (1280, 860), "narrow": (390, 844)}
SCHEMES = ("light", "dark")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A Chromium; containers run as root, where it has no sandbox."""
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program("chromium"), args=flags)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Operator:
    """A page of somebody who has logged in.

    Attributes:
        url: Where the console is, without a path.
        problems: What the browser itself complained of: errors of the script, what the policy of contents forbids.
    """

    page: Page
    url: str
    problems: list[str]

    async def go(self, path: str) -> None:
        """Open a page of the console."""
        await self.page.goto(f"{self.url}/console{path}")

    async def says(self, text: str, within_ms: int = WAIT_MS) -> None:
        """Wait until the page says something, without any reload."""
        await self.page.get_by_text(text).first.wait_for(timeout=within_ms)

    async def confirm(self, button: str, reason: str) -> None:
        """Give a reason and press the button of a confirm page."""
        await self.page.get_by_label("Reason").fill(reason)
        await self.page.get_by_role("button", name=button, exact=True).click()

    async def follow(self, link: str) -> None:
        """Follow a link."""
        await self.page.get_by_role("link", name=link, exact=True).first.click()

    async def breaches(self) -> list[str]:
        """What axe-core has to say against the page."""
        source = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
        await self.page.evaluate(source)
        found: dict[str, Any] = await self.page.evaluate("axe.run()")
        return [
            f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
            for one in found["violations"]
        ]

    async def look(self, scheme: str, size: str) -> None:
        """Look at the same page on another screen."""
        width, height = SIZES[size]
        await self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        await self.page.set_viewport_size({"width": width, "height": height})

    async def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(await self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


async def log_in(browser: Browser, url: str, token: str, *, size: str = "wide", script: bool = True) -> Operator:
    """Log in with a browser of one's own, as another operator would.

    Args:
        browser: The Chromium.
        url: Where the console is, without a path.
        token: The operator's.
        size: One of `SIZES`.
        script: Whether pages may run their script.
    """
    width, height = SIZES[size]
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        java_script_enabled=script,
        ignore_https_errors=True,
    )
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    made = Operator(page, url, [])
    page.on("pageerror", lambda error: made.problems.append(str(error)))
    page.on("console", lambda said: made.problems.append(said.text) if said.type == "error" else None)
    await made.go("/")
    await page.get_by_label("Operator token").fill(token)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("heading", name="Services").wait_for()
    return made
