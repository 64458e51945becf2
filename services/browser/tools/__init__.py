"""The tools, by what they are for; those of a group are there when the operator has switched it on."""

from services.browser.pages import OpenPages
from services.browser.settings import BrowserSettings
from services.browser.tools import acting, code, network, opening, pdf, reading, reporting, scraping, storage, vision
from services.common import Kit

__all__ = ["declare"]


def declare(kit: Kit, pages: OpenPages, settings: BrowserSettings) -> None:
    """Declare the tools of one instance.

    Args:
        kit: The instance's.
        pages: Its pages.
        settings: Which groups there are, and how long answers may be.
    """
    opening.declare(kit, pages)
    reading.declare(kit, pages, settings.answer_chars)
    acting.declare(kit, pages)
    reporting.declare(kit, pages, settings.answer_chars)
    scraping.declare(kit, pages, settings)
    for name, group in (("vision", vision), ("pdf", pdf), ("network", network), ("storage", storage)):
        if name in settings.groups:
            group.declare(kit, pages)
    if settings.allow_code:
        code.declare(kit, pages, settings.answer_chars)
