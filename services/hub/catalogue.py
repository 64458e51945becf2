"""What all services offer: their lists, cached, one bad service never hurting the rest.

A list that was read once is served while it is read anew behind, so that a slow or hung service costs nobody a wait;
only the first read is waited for, to a deadline. What cannot be passed on is put aside item by item (`soundness`).
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from mcp import MCPError
from mcp_types import INTERNAL_ERROR, METHOD_NOT_FOUND

from observability.telemetry.traces import apart
from services.common.cache import DISCOVER
from services.common.rights import LISTS
from services.common.soundness import Item, Quarantined, service_of, shown, sift, sift_instructions

__all__ = ["Catalogue", "Source"]

logger = logging.getLogger(__name__)

SERVICES_TTL_S: Final = 1.0
MIN_TTL_S: Final = 1.0
RETRY_AFTER_S: Final = 2.0
FORGET_AFTER_S: Final = 60.0
MAX_PAGES: Final = 50
MAX_LISTED: Final = 10_000
MAX_READ_BYTES: Final = 4 << 20
MAX_TOLD: Final = 20


class Source(Protocol):
    """Where lists come from; both methods may raise `MCPError`."""

    async def services(self) -> dict[str, str]:
        """Service → its stable target, "" while nobody serves it."""

    async def request(self, service: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """A request of the hub's own."""


@dataclass(frozen=True)
class _Listing:
    """Read at some time, and not read again for `ttl_s`, though its service may have asked for less (`asked_s`)."""

    listed: list[object]
    items: tuple[Item, ...]
    bad: tuple[Quarantined, ...]
    stable: str
    read_at: float
    ttl_s: float
    asked_s: float


@dataclass
class _Entry:
    listing: _Listing | None = None
    reading: asyncio.Task[None] | None = None
    retry_at: float = 0.0
    failure: str = ""


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
        """All services, each with its stable target, "" while nobody serves it; the last known while the gate is away.

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
        lists = await self._of_all(method, scope)
        key = LISTS[method][1]
        return sorted((item for items in lists.values() for item in items), key=lambda item: str(item[key]))

    async def made_from(self, method: str, scope: str = "") -> tuple[tuple[object, ...], float]:
        """What a list, or what services say of themselves, is made from, and how long it may still count as fresh.

        Args:
            method: `tools/list` or another of the lists, or `server/discover`.
            scope: Only this service's, "" for all.

        Returns:
            Objects that stay the same ones as long as nothing changes; seconds, 0 if any service's is out of date.

        Raises:
            MCPError: It is not known which services there are.
        """
        lists = await self._of_all(method, scope)
        left_s = min((self._left_s(name, method) for name in lists), default=self._ttl_s)
        return tuple(lists.values()), left_s

    async def instructions(self, scope: str = "") -> dict[str, str]:
        """What each service says a model should know first; services that say nothing are left out."""
        found = await self._of_all(DISCOVER, scope)
        said = {name: items[0].get("instructions") for name, items in found.items() if items}
        return {name: text for name, text in said.items() if isinstance(text, str) and text}

    async def input_schema(self, tool: str) -> Mapping[str, Any]:
        """The input schema of a tool, empty when it is not known."""
        service = service_of(tool)
        stable = (await self.services()).get(service)
        items = await self._items(service, stable, "tools/list") if stable else ()
        return next((item["inputSchema"] for item in items if item["name"] == tool), {})

    async def warm(self) -> None:
        """Read every list once, so that nobody's first request waits for it; what cannot be read is left for later."""
        with suppress(MCPError):
            await asyncio.gather(*(self.listing(method) for method in LISTS), self.instructions())

    def quarantined(self) -> list[Quarantined]:
        """All that services list and nobody is shown, the lists that cannot be read at all among them."""
        found = []
        for (service, method), entry in self._entries.items():
            if self._services.get(service):
                if entry.failure:
                    found.append(Quarantined(service, method, "", entry.failure))
                found += entry.listing.bad if entry.listing is not None else ()
        return found

    def why_left_out(self, name: str) -> str | None:
        """Why a tool, prompt or resource is not listed although its service lists it; None when that is not so."""
        return next((bad.reason for bad in self.quarantined() if bad.item == name), None)

    def forget(self, service: str) -> None:
        """Read the service's lists anew at the next use: what is known proved wrong."""
        for (name, _), entry in self._entries.items():
            if name == service:
                entry.listing, entry.failure, entry.retry_at = None, "", 0.0

    async def close(self) -> None:
        """End what is still being read."""
        running = [entry.reading for entry in self._entries.values() if entry.reading and not entry.reading.done()]
        for task in running:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*running, return_exceptions=True)

    async def _of_all(self, method: str, scope: str) -> dict[str, Sequence[Item]]:
        """What each service lists, in the order of their names."""
        services = await self.services()
        wanted = [name for name, stable in sorted(services.items()) if stable and scope in ("", name)]
        known = {name: self._fresh(name, services[name], method) for name in wanted}
        # Mostly all are, and then a task for each would cost more than all the rest.
        older = [name for name, items in known.items() if items is None]
        read = await asyncio.gather(*(self._items(name, services[name], method) for name in older))
        found = dict(zip(older, read, strict=True))
        return {name: found[name] if items is None else items for name, items in known.items()}

    def _fresh(self, service: str, stable: str, method: str) -> Sequence[Item] | None:
        entry = self._entries.get((service, method))
        known = entry.listing if entry is not None else None
        if known is None or known.stable != stable or self._clock() - known.read_at >= known.ttl_s:
            return None
        return known.items

    def _left_s(self, service: str, method: str) -> float:
        known = self._entries[service, method].listing
        return 0.0 if known is None else max(0.0, known.read_at + known.asked_s - self._clock())

    async def _items(self, service: str, stable: str, method: str) -> Sequence[Item]:
        if (items := self._fresh(service, stable, method)) is not None:
            return items
        entry = self._entries.setdefault((service, method), _Entry())
        now = self._clock()
        known = entry.listing
        if (entry.reading is None or entry.reading.done()) and now >= entry.retry_at:
            # A caller who waits for it has it in its trace; one that is answered from what is known has not.
            with apart() if known is not None else nullcontext():
                entry.reading = asyncio.create_task(self._read(entry, service, stable, method))
        if known is not None and now - known.read_at < FORGET_AFTER_S:
            return known.items
        if entry.reading is not None and not entry.reading.done() and not entry.failure:
            await asyncio.wait([entry.reading], timeout=self._deadline_s)
        return entry.listing.items if entry.listing is not None else ()

    async def _read(self, entry: _Entry, service: str, stable: str, method: str) -> None:
        try:
            entry.listing = await self._listing(entry.listing, service, stable, method)
            entry.failure = ""
        except (MCPError, TimeoutError) as error:
            entry.failure = shown(str(error)) or f"no answer within {self._deadline_s:g} s"
        except Exception as error:  # foreign lists: whatever nobody has thought of is this service's fault alone
            logger.exception("catalogue.garbage", extra={"service": service, "method": method})
            entry.failure = f"its answer cannot be understood ({type(error).__name__})"
        if entry.failure:
            fields = {"service": service, "method": method, "reason": entry.failure}
            logger.warning("catalogue.unreadable", extra=fields)
            entry.retry_at = self._clock() + RETRY_AFTER_S
            if entry.listing is not None and self._clock() - entry.listing.read_at >= FORGET_AFTER_S:
                entry.listing = None

    async def _listing(self, known: _Listing | None, service: str, stable: str, method: str) -> _Listing:
        async with asyncio.timeout(self._deadline_s):
            listed, ttl_s = await self._pages(service, method)
        if known is not None and known.listed == listed:
            items, bad = known.items, known.bad
        elif method == DISCOVER:
            items, bad = sift_instructions(service, listed)
            self._tell_of(bad)
        else:
            items, bad = await asyncio.to_thread(sift, service, method, listed)
            self._tell_of(bad)
        asked_s = min(ttl_s, self._ttl_s)
        return _Listing(listed, items, bad, stable, self._clock(), max(MIN_TTL_S, asked_s), asked_s)

    async def _pages(self, service: str, method: str) -> tuple[list[object], float]:
        params: dict[str, Any] = {}
        listed: list[object] = []
        read, ttl_s = 0, self._ttl_s
        for _ in range(MAX_PAGES):
            try:
                page = await self._source.request(service, method, params)
            except MCPError as error:
                if error.error.code == METHOD_NOT_FOUND:
                    return [], self._ttl_s
                raise
            ttl_s = min(ttl_s, _seconds(page.get("ttlMs")))
            if method == DISCOVER:
                return [page], ttl_s
            member = LISTS[method][0]
            if not isinstance(items := page.get(member), list):
                raise MCPError(INTERNAL_ERROR, f"its answer holds no list {member!r}")
            listed += items
            read += len(json.dumps(items))
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or len(listed) > MAX_LISTED or read > MAX_READ_BYTES:
                break
            params = {"cursor": cursor}
        return listed[:MAX_LISTED], ttl_s

    @staticmethod
    def _tell_of(bad: Sequence[Quarantined]) -> None:
        for one in bad[:MAX_TOLD]:
            logger.warning("catalogue.quarantined", extra=asdict(one))
        if len(bad) > MAX_TOLD:
            logger.warning("catalogue.quarantined_more", extra={"service": bad[0].service, "count": len(bad)})


def _seconds(ttl_ms: object) -> float:
    """What a service asks for; what makes no sense is out of date at once."""
    return ttl_ms / 1000 if isinstance(ttl_ms, int | float) and ttl_ms > 0 else 0.0
