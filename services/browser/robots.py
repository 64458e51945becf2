"""What sites ask of machines (RFC 9309): robots.txt, fetched through the page's own way out and kept for a while."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from services.browser.rules import Rules

__all__ = ["Robots"]

AGENT: Final = "tekup-mcp"
_KEPT_S = 600.0
_KEPT = 200
_BYTES = 512 << 10  # RFC 9309, 2.5: at least so much is read
_FETCH_S = 10.0


@dataclass(frozen=True)
class _Kept:
    rules: Rules
    until: float


class Robots:
    """The rules of sites.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    async def allow(self, client: str, url: str, proxy_port: int) -> bool:
        """Whether a machine may read `url`. A site without rules, or that says nothing, allows everything; one whose
        server fails, nothing.

        Args:
            client: For whom: what one may reach is another's nothing.
            url: http or https.
            proxy_port: Of the egress proxy on loopback that the page uses.
        """
        parts = urlsplit(url)
        site = f"{parts.scheme}://{parts.netloc}"
        kept = self._kept.get((client, site))
        if kept is None or kept.until < self._clock():
            kept = _Kept(await _fetched(f"{site}/robots.txt", proxy_port), self._clock() + _KEPT_S)
            self._kept[client, site] = kept
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return kept.rules.allow(url)


async def _fetched(url: str, proxy_port: int) -> Rules:
    try:
        status, text = await _read(url, proxy_port)
    except httpx.HTTPError:
        return Rules()  # the page itself will say why it cannot be reached
    if status >= 500:
        return Rules.of("User-agent: *\nDisallow: /", AGENT)
    return Rules() if status >= 400 else Rules.of(text, AGENT)


async def _read(url: str, proxy_port: int) -> tuple[int, str]:
    async with (
        httpx.AsyncClient(
            proxy=f"http://127.0.0.1:{proxy_port}", trust_env=False, timeout=_FETCH_S, follow_redirects=True
        ) as http,
        http.stream("GET", url, headers={"user-agent": AGENT}) as answer,
    ):
        data = b""
        async for chunk in answer.aiter_bytes():
            data += chunk
            if len(data) > _BYTES:
                break
        return answer.status_code, data[:_BYTES].decode("utf-8", "replace")
