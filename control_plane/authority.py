"""Consul's CA as this process's identity: its certificate and whom to trust, kept fresh by blocking reads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any, Self

import httpx

from control_plane.errors import Unavailable
from control_plane.tokens import TokenFile
from control_plane.watch import WATCH_S, follow

log = logging.getLogger(__name__)

MARGIN_S = 3.0


@dataclass(frozen=True)
class Leaf:
    """A certificate with what lies between it and a root, and its key, both PEM; it ends so many s after the epoch."""

    chain: str
    key: str = field(repr=False)
    uri: str
    ends: float

    @property
    def authority(self) -> str:
        """What all names of this CA in this datacentre begin with."""
        return self.uri.rpartition("/svc/")[0]


class Authority:
    """One name's certificate, and the CA's roots; an async context manager.

    Args:
        url: The Consul agent.
        name: Whose certificate.
        token: The token to show, where Consul asks for one.
        ca_file: Whom to trust besides the machine's own authorities, for ``https``.
    """

    def __init__(self, url: str, name: str, *, token: TokenFile | None = None, ca_file: Path | None = None) -> None:
        self._url = url
        self._name = name
        self._token = token
        self._changed: Callable[[], None] = lambda: None
        self._http = httpx.AsyncClient(
            base_url=url, timeout=WATCH_S * 17 / 16 + MARGIN_S, trust_env=False, verify=trusting(ca_file)
        )
        self._roots: dict[str, str] = {}
        self._roots_changed = asyncio.Event()
        self.leaf: Leaf | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @property
    def roots(self) -> str:
        """Whom to trust, PEM; "" before the first answer.

        A Consul that came back empty has another CA and another domain; those of the one before go on.
        """
        return "\n".join(self._roots.values())

    @property
    def known(self) -> bool:
        """Whether both have been read."""
        return self.leaf is not None and bool(self._roots)

    @property
    def expires_s(self) -> float:
        """Seconds until the certificate ends; 0 without one."""
        return self.leaf.ends - time.time() if self.leaf else 0.0

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call this from now on when either has changed."""
        self._changed = changed

    async def run(self) -> None:
        """Follow for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(self._read_leaf_or_again, f"certificate of {self._name}"))
            tasks.create_task(follow(self._read_roots, "roots"))

    async def _read_leaf_or_again(self, after: int) -> int:
        """A read that is given up when the roots change: one that waits is not told of it (Consul 1.22.5)."""
        self._roots_changed.clear()
        reading, changed = (
            asyncio.ensure_future(each) for each in (self._read_leaf(after), self._roots_changed.wait())
        )
        try:
            await asyncio.wait([reading, changed], return_when=asyncio.FIRST_COMPLETED)
            return int(await reading) if reading.done() else 0
        finally:
            reading.cancel()
            changed.cancel()

    async def _read_leaf(self, after: int) -> int:
        index, said = await self._read(f"/v1/agent/connect/ca/leaf/{self._name}", after)
        try:
            ends = datetime.fromisoformat(said["ValidBefore"]).timestamp()
            leaf = Leaf(str(said["CertPEM"]), str(said["PrivateKeyPEM"]), str(said["ServiceURI"]), ends)
        except (KeyError, TypeError, ValueError):  # its text could hold the key
            raise Unavailable(f"Consul at {self._url} gave a certificate of another form than expected") from None
        if leaf != self.leaf:
            self.leaf = leaf
            log.info("identity.leaf", extra={"uri": leaf.uri, "ends": said["ValidBefore"]})
            self._changed()
        return index

    async def _read_roots(self, after: int) -> int:
        index, said = await self._read("/v1/agent/connect/ca/roots", after)
        try:
            domain, pem = str(said["TrustDomain"]), "\n".join(str(root["RootCert"]) for root in said["Roots"])
        except (KeyError, TypeError) as error:
            raise Unavailable(f"Consul at {self._url} gave roots of another form than expected") from error
        if self._roots.get(domain) != pem:
            self._roots[domain] = pem
            log.info("identity.roots", extra={"domain": domain, "roots": len(said["Roots"])})
            self._roots_changed.set()
            self._changed()
        return index

    async def _read(self, path: str, after: int) -> tuple[int, Mapping[str, Any]]:
        params = {"index": str(after), "wait": f"{WATCH_S:g}s"} if after else {}
        try:
            answer = await self._http.get(path, params=params, headers=token_header(self._token))
            answer.raise_for_status()
            return int(answer.headers.get("x-consul-index", 0)), answer.json()
        except httpx.HTTPStatusError as error:
            said = error.response.text.strip()[:200]
            raise Unavailable(f"Consul at {self._url}{path}: {error.response.status_code} {said}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"Consul at {self._url}{path}: {type(error).__name__} {error}") from None


def token_header(token: TokenFile | None) -> dict[str, str]:
    """The header that shows a token; it is read again where its file was replaced."""
    return {"X-Consul-Token": token.current().secret} if token else {}


def trusting(ca_file: Path | None) -> SSLContext | bool:
    """Whom httpx is to trust: the machine's authorities, and those in a file where there is one."""
    if ca_file is None:
        return True
    context = create_default_context()
    context.load_verify_locations(cafile=ca_file)
    return context
