"""An issuer's keys, kept: fetched ahead of need, anew when a token names one that is unknown, and through an outage."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from control_plane.errors import Unavailable
from control_plane.oauth.issuers import Issuer, trusted_url
from control_plane.oauth.jwks import PublicKey, read_keys, signer

log = logging.getLogger(__name__)

MOST_BYTES = 256 * 1024


@dataclass(frozen=True)
class Pace:
    """How often an issuer is asked, in seconds.

    Attributes:
        refresh_s: How often in any case.
        again_s: The least time between two requests, after an unknown key and after a failure.
        stale_s: How old keys may become while the issuer does not answer.
        timeout_s: How long one request may take.
    """

    refresh_s: float = 300
    again_s: float = 10
    stale_s: float = 3600
    timeout_s: float = 3


def issuers_client() -> httpx.AsyncClient:
    """A client for issuers: no redirects, the machine's proxy for all but this machine."""
    direct = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}
    return httpx.AsyncClient(follow_redirects=False, mounts=direct, headers={"Accept": "application/json"})


class KeyRing:
    """One issuer's keys.

    Args:
        issuer: Whose.
        http: Asks it.
        pace: How often.
        clock: Seconds that only grow.
    """

    def __init__(self, issuer: Issuer, http: httpx.AsyncClient, pace: Pace, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._http = http
        self._pace = pace
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._asking = asyncio.Lock()
        self._fetched_at = self._asked_at = float("-inf")
        self.problem = "its keys have not been fetched yet"

    @property
    def age_s(self) -> float:
        """How old the keys are; infinite if there are none."""
        return self._clock() - self._fetched_at

    async def signer(self, alg: str, kid: str) -> PublicKey | None:
        """The key a token names.

        Returns:
            None if the issuer has no such key, or more than one that would do.

        Raises:
            Unavailable: The issuer could not be asked, and what is known of its keys is too old or is no answer.
        """
        found = signer(self._keys, alg, kid) if self.age_s <= self._pace.stale_s else None
        if found is None and await self._ask_anew():
            found = signer(self._keys, alg, kid)
        if found is None and self.problem:
            raise Unavailable(f"issuer {self._issuer.issuer}: {self.problem}; try again later")
        return found

    async def run(self) -> None:
        """Keep the keys fresh, so that hardly any call waits for the issuer."""
        while True:
            async with self._asking:
                await self._ask()
            await asyncio.sleep(self._pace.again_s if self.problem else self._pace.refresh_s)

    async def _ask_anew(self) -> bool:
        """Ask unless somebody just did; whether there is a newer answer than the caller has seen."""
        seen = self._fetched_at
        async with self._asking:
            if self._fetched_at == seen and self._clock() - self._asked_at >= self._pace.again_s:
                await self._ask()
        return self._fetched_at != seen

    async def _ask(self) -> None:
        self._asked_at = self._clock()
        try:
            async with asyncio.timeout(self._pace.timeout_s):
                keys = read_keys(await self._document(self._issuer.jwks_url or await self._discovered()))
            self.problem = "" if keys else "it publishes no key that could verify a signature"
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            keys, self.problem = (), f"its keys cannot be fetched: {str(error) or type(error).__name__}"
        if keys:
            self._keys, self._fetched_at = keys, self._clock()
        else:
            log.warning("oauth.keys_not_fetched", extra={"issuer": self._issuer.issuer, "problem": self.problem})

    async def _discovered(self) -> str:
        problem = ""
        for url in self._issuer.discovery:
            try:
                found = await self._document(url)
            except (httpx.HTTPError, ValueError) as error:
                problem = f"{str(error) or type(error).__name__}"
                continue
            if found.get("issuer") != self._issuer.issuer:
                raise ValueError(f"{url} describes another issuer")
            return trusted_url(str(found.get("jwks_uri", "")))
        raise ValueError(f"no metadata: {problem}")

    async def _document(self, url: str) -> dict[str, object]:
        async with self._http.stream("GET", url, timeout=self._pace.timeout_s) as answer:
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise ValueError(f"{_place(url)} sent more than {MOST_BYTES} bytes")
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{_place(url)} answered {answer.status_code}")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{_place(url)} sent no JSON") from error
        if isinstance(found, dict):
            return found
        raise ValueError(f"{_place(url)} sent no JSON object")


def _place(url: str) -> str:
    return urlsplit(url).path
