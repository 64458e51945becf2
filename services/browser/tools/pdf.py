"""The group `pdf`: a page as PDF, among the page's files."""

import re
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from services.browser import answers
from services.browser.pages import OpenPages
from services.browser.shapes import PageError
from services.common import HandleParam, Kit

__all__ = ["declare"]

_PAGES = 200
_BYTES = 32 << 20
_LEAF = re.compile(rb"/Type\s*/Page\b(?!s)")


def declare(kit: Kit, pages: OpenPages) -> None:
    """Declare it."""

    @kit.tool(title="Save as PDF", open_world=True, deadline_s=pages.deadline_s)
    async def browser_pdf_save(
        handle: HandleParam,
        filename: Annotated[str, Field(max_length=200)] = "page.pdf",
        format: Literal["A4", "A3", "A5", "Letter", "Legal"] = "A4",
        landscape: bool = False,
        ranges: Annotated[
            str, Field(pattern=r"^[\d, -]{0,100}$", description="Of sheets, as 1-5, 8; at most 200 without.")
        ] = "",
    ) -> answers.Pdf:
        """Save what is printed of the page as a PDF among the page's files; browser_file_read gets it."""
        async with pages.used(handle) as page:
            data = await page.run(
                lambda inner: inner.pdf(
                    format=format, landscape=landscape, page_ranges=ranges or f"1-{_PAGES}", print_background=True
                )
            )
            if len(data) > _BYTES:
                raise PageError(f"the PDF has {len(data)} bytes, more than {_BYTES}; ask for fewer sheets (ranges)")
            saved = await anyio.to_thread.run_sync(page.files.save, filename, data)
            return answers.Pdf(
                path=saved.path,
                size_bytes=saved.size_bytes,
                sheets=len(_LEAF.findall(data)),
                notices=page.take_notices(),
            )
