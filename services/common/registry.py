"""Consul, as far as an instance needs it: the one module that knows py-consul.

Everything that can go wrong comes out as a `RegistryError`. Each request has a deadline of its own.
"""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import consul.aio
from consul.callback import CB
from consul.exceptions import ConsulException

from services.common.errors import RegistryError
from services.common.tokens import TokenFile

__all__ = ["Registration", "Registry"]

REQUEST_DEADLINE_S: Final = 2.0
CHECK_EVERY: Final = "1s"
CHECK_TIMEOUT: Final = "2s"
FORGET_AFTER: Final = "10m"  # an instance that died without a word; Consul's own minimum is one minute
T = TypeVar("T")


@dataclass(frozen=True)
class Registration:
    """What the catalog says of an instance (docs/contracts.md, "Consul")."""

    service: str
    instance: str
    version: str
    address: str
    port: int
    admin_port: int
    state: str
    started: str = ""

    @property
    def service_id(self) -> str:
        """`mcp-<service>-<instance>`."""
        return f"mcp-{self.service}-{self.instance}"

    @property
    def meta(self) -> dict[str, str]:
        """The catalog's meta."""
        return {
            "version": self.version,
            "instance": self.instance,
            "state": self.state,
            "admin": str(self.admin_port),
            "started": self.started,
        }


class Registry:
    """The Consul agent beside this instance. Make it inside a running event loop, close it after use.

    Args:
        url: Where the agent is.
        token_file: Holds the token to show it; read again when it is replaced.
        ca_file: Whom to trust besides the machine's own authorities, for `https`.
        accepted: Told with each answer when the token it was asked with had been written.
    """

    def __init__(
        self,
        url: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        accepted: Callable[[float], None] = lambda _: None,
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self._token = TokenFile(token_file)
        self._accepted = accepted
        self._registered_with: str | None = None
        with warnings.catch_warnings():
            # py-consul hands aiohttp two arguments that it calls deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._consul = consul.aio.Consul(
                host=parts.hostname,
                port=parts.port or (443 if parts.scheme == "https" else 80),
                scheme=parts.scheme,
                verify=str(ca_file) if ca_file and parts.scheme == "https" else parts.scheme == "https",
            )

    async def register(self, wanted: Registration) -> None:
        """Write `wanted` into the catalog, over what stood there for the instance.

        Raises:
            RegistryError: It was not written.
        """
        check = {
            "name": "ready",
            "http": f"http://{_bracketed(wanted.address)}:{wanted.admin_port}/ready?instance={wanted.instance}",
            "interval": CHECK_EVERY,
            "timeout": CHECK_TIMEOUT,
            "status": "passing",  # it is ready when it registers; without this it would wait for the first check
            "DeregisterCriticalServiceAfter": FORGET_AFTER,
        }
        # Consul keeps the token with the registration, and writes with it what the checks find: so it is registered
        # again with each new token, before the old one is deleted.
        self._registered_with = None
        shown = self._token.current().secret
        await self._ask(
            lambda: self._consul.agent.service.register(
                f"mcp-{wanted.service}",
                service_id=wanted.service_id,
                address=wanted.address,
                port=wanted.port,
                meta=wanted.meta,
                check=check,
                replace_existing_checks=True,
            )
        )
        self._registered_with = shown

    async def holds(self, wanted: Registration) -> bool:
        """Whether the catalog says just that, and by the token of now.

        Raises:
            RegistryError: Nobody knows.
        """
        if self._registered_with != self._token.current().secret:
            return False
        # py-consul's own service_definition sends no token, so the request is made from its parts.
        found: Any = await self._ask(
            lambda: self._consul.http.get(
                CB.json(), f"/v1/agent/service/{wanted.service_id}", headers=self._consul.prepare_headers()
            )
        )
        if not isinstance(found, Mapping):
            return False
        said = (found.get("Address"), found.get("Port"), found.get("Meta"))
        return said == (wanted.address, wanted.port, wanted.meta)

    async def deregister(self, service_id: str) -> None:
        """Take an instance out of the catalog; one that is not there is fine.

        Raises:
            RegistryError: It may still be there.
        """
        await self._ask(lambda: self._consul.agent.service.deregister(service_id))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._consul.close()

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        shown = self._token.current()
        self._consul.token = shown.secret or None
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S):
                answer = await request()
            self._accepted(shown.written_s)
            return answer
        except TimeoutError:
            raise RegistryError(f"Consul at {self.url} did not answer within {REQUEST_DEADLINE_S:g} s") from None
        except (aiohttp.ClientError, ConsulException, OSError) as error:
            raise RegistryError(f"Consul at {self.url}: {error}") from error


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
