"""Consul, as far as an instance needs it: the one module that knows py-consul and aiohttp.

Everything that can go wrong comes out as a `RegistryError`. Each request has a deadline of its own.
"""

import asyncio
import warnings
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import consul.aio
from consul.exceptions import ConsulException

from services.common.errors import RegistryError

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
        }


class Registry:
    """The Consul agent beside this instance. Make it inside a running event loop, close it after use.

    Args:
        url: Where the agent is.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        with warnings.catch_warnings():
            # py-consul hands aiohttp two arguments that it calls deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._consul = consul.aio.Consul(
                host=parts.hostname,
                port=parts.port or (443 if parts.scheme == "https" else 80),
                scheme=parts.scheme,
                verify=parts.scheme == "https",
            )

    async def register(self, wanted: Registration) -> None:
        """Write `wanted` into the catalog, over what stood there for the instance.

        Raises:
            RegistryError: It was not written.
        """
        check = {
            "name": "ready",
            "http": f"http://{_bracketed(wanted.address)}:{wanted.admin_port}/ready",
            "interval": CHECK_EVERY,
            "timeout": CHECK_TIMEOUT,
            "status": "passing",  # it is ready when it registers; without this it would wait for the first check
            "DeregisterCriticalServiceAfter": FORGET_AFTER,
        }
        await self._ask(
            self._consul.agent.service.register(
                f"mcp-{wanted.service}",
                service_id=wanted.service_id,
                address=wanted.address,
                port=wanted.port,
                meta=wanted.meta,
                check=check,
                replace_existing_checks=True,
            )
        )

    async def holds(self, wanted: Registration) -> bool:
        """Whether the catalog says just that.

        Raises:
            RegistryError: Nobody knows.
        """
        found: Any = await self._ask(self._consul.agent.service_definition(wanted.service_id))
        if not isinstance(found, Mapping):
            return False
        said = (found.get("Address"), found.get("Port"), found.get("Meta"))
        return said == (wanted.address, wanted.port, wanted.meta)

    async def deregister(self, service_id: str) -> None:
        """Take an instance out of the catalog; one that is not there is fine.

        Raises:
            RegistryError: It may still be there.
        """
        await self._ask(self._consul.agent.service.deregister(service_id))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._consul.close()

    async def _ask(self, request: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S):
                return await request
        except TimeoutError:
            raise RegistryError(f"Consul at {self.url} did not answer within {REQUEST_DEADLINE_S:g} s") from None
        except (aiohttp.ClientError, ConsulException, OSError) as error:
            raise RegistryError(f"Consul at {self.url}: {error}") from error


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
