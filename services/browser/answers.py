"""What the browser tools answer. Text and images of a page are content; these are the facts beside them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Closed", "PageInfo", "PageState", "Pages", "Picture", "TextPart"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class PageState(_Answer):
    """Where a page is."""

    handle: Annotated[str, Field(description="Pass it unchanged to the other tools.")]
    url: str
    title: str
    status: Annotated[int | None, Field(description="HTTP status of the document.")]
    notices: Annotated[tuple[str, ...], Field(description="Dialogs, windows, refused requests since the last answer.")]


class TextPart(_Answer):
    """Which part of a page's text or snapshot was returned; the text is the content."""

    url: str
    offset: int
    returned_chars: int
    total_chars: int
    next_offset: Annotated[int | None, Field(description="Offset of what follows; null at the end.")]


class Picture(_Answer):
    """A screenshot; the image is the content."""

    url: str
    width: int
    height: int
    mime_type: str
    size_bytes: int
    cut: Annotated[bool, Field(description="True when the page is longer than the image.")]


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
