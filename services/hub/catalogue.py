"""What all services offer: their lists, cached, one bad service never hurting the rest.

A list that was read once is served while it is read anew behind, so that a slow or hung service costs nobody a wait;
only the first read is waited for, to a deadline. What does not fit the protocol, or carries another service's name, is
left out item by item.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol

from mcp import MCPError
from mcp.shared.inbound import find_invalid_x_mcp_header
from mcp_types import Prompt, Resource, ResourceTemplate, Tool
from pydantic import BaseModel, ValidationError

from services.common.rights import LISTS

__all__ = ["Catalogue", "Source", "service_of"]

logger = logging.getLogger(__name__)

DISCOVER: Final = "server/discover"
SERVICES_TTL_S: Final = 1.0
MIN_TTL_S: Final = 1.0
RETRY_AFTER_S: Final = 2.0
FORGET_AFTER_S: Final = 60.0
MAX_PAGES: Final = 50

_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "tools/list": Tool,
    "prompts/list": Prompt,
    "resources/list": Resource,
    "resources/templates/list": ResourceTemplate,
}
Item = Mapping[str, Any]


class Source(Protocol):
    """Where lists come from; both methods may raise `MCPError`."""

    async def services(self) -> dict[str, str]:
        """Service → its stable target."""

    async def request(self, service: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """A request of the hub's own."""


def service_of(name: str) -> str:
    """The service a tool, prompt or resource belongs to: its name up to the first `_` or `://`, "" for none."""
    return min((name[: name.index(end)] for end in ("_", "://") if end in name), key=len, default="")


@dataclass(frozen=True)
class _Listing:
    items: tuple[Item, ...]
    stable: str
    read_at: float
    ttl_s: float


@dataclass
class _Entry:
    listing: _Listing | None = None
    reading: asyncio.Task[None] | None = None
    retry_at: float = 0.0
    failed: bool = field(default=False)


class Catalogue:
    """The lists of all services with live instances.

    Args:
        source: Asks gate and services.
        ttl_s: The longest a list counts as fresh; a service may ask for less by `ttlMs`.
        deadline_s: The longest a service may take.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, source: Source, *, ttl_s: float, deadline_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._ttl_s = ttl_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._services: Mapping[str, str] = MappingProxyType({})
        self._services_at = float("-inf")
        self._services_lock = asyncio.Lock()

    async def services(self) -> Mapping[str, str]:
        """The services there are, each with its stable target; the last known ones while the gate cannot be asked.

        Raises:
            MCPError: The gate cannot be asked and never could.
        """
        async with self._services_lock:
            if self._clock() - self._services_at >= SERVICES_TTL_S:
                try:
                    async with asyncio.timeout(self._deadline_s):
                        self._services = MappingProxyType(await self._source.services())
                except (MCPError, TimeoutError) as error:
                    logger.warning("catalogue.services_unknown", extra={"reason": str(error)})
                    if self._services_at == float("-inf"):
                        raise MCPError(503, "the gate cannot say which services there are; call again later") from error
                self._services_at = self._clock()
            return self._services

    async def listing(self, method: str, scope: str = "") -> list[Item]:
        """One list over all services, sorted by name.

        Args:
            method: `tools/list` or another of the lists.
            scope: Only this service's, "" for all.

        Raises:
            MCPError: It is not known which services there are.
        """
        services = await self.services()
        wanted = [name for name in services if scope in ("", name)]
        lists = await asyncio.gather(*(self._items(name, services[name], method) for name in wanted))
        key = LISTS[method][1]
        return sorted((item for items in lists for item in items), key=lambda item: str(item[key]))

    async def instructions(self, scope: str = "") -> dict[str, str]:
        """What each service says a model should know first; services that say nothing are left out."""
        services = await self.services()
        wanted = [name for name in sorted(services) if scope in ("", name)]
        found = await asyncio.gather(*(self._items(name, services[name], DISCOVER) for name in wanted))
        said = {name: items[0].get("instructions") for name, items in zip(wanted, found, strict=True) if items}
        return {name: text for name, text in said.items() if isinstance(text, str) and text}

    async def input_schema(self, tool: str) -> Mapping[str, Any]:
        """The input schema of a tool, empty when it is not known."""
        service = service_of(tool)
        stable = (await self.services()).get(service)
        items = await self._items(service, stable, "tools/list") if stable is not None else ()
        return next((item["inputSchema"] for item in items if item["name"] == tool), {})

    def forget(self, service: str) -> None:
        """Read the service's lists anew at the next use: what is known proved wrong."""
        for (name, _), entry in self._entries.items():
            if name == service:
                entry.listing, entry.failed, entry.retry_at = None, False, 0.0

    async def close(self) -> None:
        """End what is still being read."""
        running = [entry.reading for entry in self._entries.values() if entry.reading and not entry.reading.done()]
        for task in running:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*running, return_exceptions=True)

    async def _items(self, service: str, stable: str, method: str) -> Sequence[Item]:
        entry = self._entries.setdefault((service, method), _Entry())
        now = self._clock()
        known = entry.listing
        if known is not None and known.stable == stable and now - known.read_at < known.ttl_s:
            return known.items
        if (entry.reading is None or entry.reading.done()) and now >= entry.retry_at:
            entry.reading = asyncio.create_task(self._read(entry, service, stable, method))
        if known is not None and now - known.read_at < FORGET_AFTER_S:
            return known.items
        if entry.reading is not None and not entry.reading.done() and not entry.failed:
            await asyncio.wait([entry.reading], timeout=self._deadline_s)
        return entry.listing.items if entry.listing is not None else ()

    async def _read(self, entry: _Entry, service: str, stable: str, method: str) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                items, ttl_s = await self._pages(service, method)
        except (MCPError, TimeoutError) as error:
            reason = str(error) or f"no answer within {self._deadline_s:g} s"
            logger.warning("catalogue.unreadable", extra={"service": service, "method": method, "reason": reason})
            entry.failed, entry.retry_at = True, self._clock() + RETRY_AFTER_S
            if entry.listing is not None and self._clock() - entry.listing.read_at >= FORGET_AFTER_S:
                entry.listing = None
            return
        entry.failed = False
        entry.listing = _Listing(tuple(items), stable, self._clock(), max(MIN_TTL_S, min(ttl_s, self._ttl_s)))

    async def _pages(self, service: str, method: str) -> tuple[list[Item], float]:
        params: dict[str, Any] = {}
        items: list[Item] = []
        for _ in range(MAX_PAGES):
            page = await self._source.request(service, method, params)
            ttl_s = _seconds(page.get("ttlMs"))
            if method == DISCOVER:
                return [page], ttl_s
            items += _sound_items(service, method, page)
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                return items, ttl_s
            params = {"cursor": cursor}
        logger.warning("catalogue.endless", extra={"service": service, "method": method, "pages": MAX_PAGES})
        return items, ttl_s


def _seconds(ttl_ms: object) -> float:
    return ttl_ms / 1000 if isinstance(ttl_ms, int | float) else 0.0


def _sound_items(service: str, method: str, page: Mapping[str, Any]) -> list[Item]:
    """The items of a page that fit the protocol and belong to `service`; the others are named in the log."""
    member, key = LISTS[method]
    listed = page.get(member)
    if not isinstance(listed, list):
        logger.warning("catalogue.garbage", extra={"service": service, "method": method, "reason": f"no {member}"})
        return []
    sound: list[Item] = []
    for item in listed:
        problem = _problem(service, method, key, item)
        if problem is None:
            sound.append(item)
        else:
            fields = {"service": service, "method": method, "item": str(item)[:120], "reason": problem}
            logger.warning("catalogue.garbage", extra=fields)
    return sound


def _problem(service: str, method: str, key: str, item: object) -> str | None:
    try:
        _MODELS[method].model_validate(item, by_name=False)
    except ValidationError as error:
        return error.errors()[0]["msg"]
    assert isinstance(item, dict)  # noqa: S101  # a model was made of it
    if service_of(str(item[key])) != service:
        return "it carries another service's name"
    return find_invalid_x_mcp_header(item.get("inputSchema"))
