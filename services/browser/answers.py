"""What the browser tools answer. Text and images of a page are content; these are the facts beside them."""

from typing import Annotated

from mcp_types import TextContent
from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Closed",
    "Done",
    "Extracted",
    "FileInfo",
    "FilePart",
    "Files",
    "Link",
    "PageInfo",
    "PageState",
    "Pages",
    "Pdf",
    "Picture",
    "RouteInfo",
    "Routes",
    "ScrapedPage",
    "ScrapedPages",
    "TabInfo",
    "Tabs",
    "TextPart",
    "text_block",
]

Notices = Annotated[
    tuple[str, ...],
    Field(description="What happened since the last answer."),
]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class PageState(_Answer):
    """Where a page is."""

    handle: Annotated[str, Field(description="Pass it unchanged to the other tools.")]
    url: str
    title: str
    status: Annotated[int | None, Field(description="HTTP status of the document.")]
    notices: Notices


class TextPart(_Answer):
    """Which part of a page's text or snapshot was returned; the text is the content."""

    url: str
    offset: int
    returned_chars: int
    total_chars: int
    next_offset: Annotated[int | None, Field(description="Offset of what follows; null at the end.")]
    notices: Notices = ()


class Picture(_Answer):
    """A screenshot; the image is the content."""

    url: str
    width: int
    height: int
    mime_type: str
    size_bytes: int
    scale: Annotated[float, Field(description="Pixels of the image for one of the page.")] = 1.0
    cut: Annotated[bool, Field(description="True when the page is longer than the image.")]
    path: Annotated[str, Field(description="Where it was saved; empty when it is shown.")] = ""
    notices: Notices = ()


class PageInfo(_Answer):
    """An open page."""

    handle: str
    url: str
    age_s: float
    idle_s: float
    gone: Annotated[str, Field(description="Why it cannot be used any more; empty while it can.")]


class Pages(_Answer):
    """The caller's open pages in this instance."""

    pages: tuple[PageInfo, ...]


class Closed(_Answer):
    """A page was closed."""

    closed: bool


class TabInfo(_Answer):
    """A tab of a page."""

    index: int
    url: str
    title: Annotated[str, Field(description="Of the current tab alone.")]
    current: bool


class Tabs(_Answer):
    """A page's tabs."""

    tabs: tuple[TabInfo, ...]
    notices: Notices


class FileInfo(_Answer):
    """A file of a page."""

    path: str
    size_bytes: int


class Files(_Answer):
    """A page's files."""

    files: tuple[FileInfo, ...]
    notices: Notices = ()


class FilePart(_Answer):
    """Which part of a file was returned; the part is the content."""

    path: str
    offset: int
    returned_bytes: int
    total_bytes: int
    next_offset: Annotated[int | None, Field(description="Offset of what follows; null at the end.")]


def text_block(text: str) -> TextContent:
    """Text as content."""
    return TextContent(type="text", text=text)


class Done(_Answer):
    """It was done."""

    done: bool = True
    notices: Notices = ()


class Pdf(_Answer):
    """A PDF among the page's files."""

    path: str
    size_bytes: int
    sheets: int
    notices: Notices = ()


class RouteInfo(_Answer):
    """Requests that are answered or changed."""

    pattern: str
    does: str


class Routes(_Answer):
    """What is answered or changed of a page's requests."""

    routes: tuple[RouteInfo, ...]


class Link(_Answer):
    """A link."""

    url: str
    text: str


class ScrapedPage(_Answer):
    """A page that was read; its text is the content."""

    url: str
    error: Annotated[str, Field(description="Why it was not read; empty when it was.")] = ""
    status: int | None = None
    title: str = ""
    lang: str = ""
    canonical: str = ""
    meta: Annotated[dict[str, str], Field(description="With the first part alone, as are links.")] = {}
    links: tuple[Link, ...] = ()
    offset: int = 0
    returned_chars: int = 0
    total_chars: int = 0
    next_offset: Annotated[int | None, Field(description="Offset of what follows; null at the end.")] = None
    cut: Annotated[bool, Field(description="True when the page holds more than is ever read.")] = False


class ScrapedPages(_Answer):
    """Pages that were read, in the order asked."""

    pages: tuple[ScrapedPage, ...]


class Extracted(_Answer):
    """Values of a page; they are the content."""

    url: str
    chars: int
    cut: Annotated[bool, Field(description="True when there were more values than are ever read.")] = False
    notices: Notices = ()
