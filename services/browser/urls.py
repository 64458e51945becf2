"""Which URLs may be navigated to. Pure."""

import re
from urllib.parse import urlsplit

__all__ = ["UrlError", "checked_url", "is_foreign"]

_URL_CHARS = 8192
_WEB = re.compile(r"https?://", re.IGNORECASE)
# What the frames of an http(s) page may hold without having left it.
_FRAME_SCHEMES = ("http:", "https:", "about:", "blob:http", "data:", "chrome-error:")


class UrlError(ValueError):
    """A URL that is not navigated to; the text says why."""


def checked_url(url: str) -> str:
    """`url`, if it is one that pages may be sent to.

    An allow-list, and of the beginning of the text itself: what starts with `http://` is http in every parser.

    Raises:
        UrlError: It is not.
    """
    if url == "about:blank":
        return url
    shown = url[:100]
    if len(url) > _URL_CHARS or not url.isprintable():
        raise UrlError(f"{shown!r} is not a URL: it has control characters, or more than {_URL_CHARS} characters")
    if not _WEB.match(url):
        raise UrlError(f"{shown!r} cannot be opened: only http://, https:// and about:blank can")
    try:
        host, _ = urlsplit(url).hostname, urlsplit(url).port
    except ValueError as error:
        raise UrlError(f"{shown!r} is not a URL: {error}") from error
    if not host:
        raise UrlError(f"{shown!r} is not a URL: it names no host")
    return url


def is_foreign(url: str) -> bool:
    """Whether a frame with this URL has got out of the web."""
    return bool(url) and not url.lower().startswith(_FRAME_SCHEMES)
