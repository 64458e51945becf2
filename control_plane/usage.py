"""When keys were last used: what every gate says of itself, and what is written down of what they said.

A gate forgets at each restart of its Traefik. So the leader asks all of them every minute and keeps the latest use of
each key in Consul, once it is ten minutes newer than what stands there: a restart costs those ten minutes at most, and
nobody's uses cost Consul a write a call. Every reading asks the gates besides, and takes the later of both.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable

import httpx
from pydantic import Field

from control_plane.errors import NotLeader, Refused, Unavailable
from control_plane.gates import Gates
from control_plane.keys import Uses
from control_plane.leadership import Leadership
from control_plane.model import Document, Time
from control_plane.ports import Catalog, Listing, Store, Write
from control_plane.staged import batched

log = logging.getLogger(__name__)

USES_PREFIX = "tekup/state/keys-used/"
SINCE = "since"
GATE_TIMEOUT_S = 2.0
MOST_BYTES = 32 << 20
COLLECT_EVERY_S = 60.0
KEEP_AFTER_S = 600
SERIES = re.compile(r'^tekup_gate_key_last_used_seconds\{key="([a-z0-9-]+)",client="[^"]*"\} (\d{1,12})$', re.MULTILINE)


class Shelf(Document):
    """What is written down: the last use of keys whose ids begin alike, or, under `since`, when that was begun."""

    since: Time = 0
    keys: dict[str, Time] = Field(default_factory=dict)


class Usage:
    """The uses of keys, over all gates.

    Args:
        store: Where they are written down.
        catalog: Where gates are found.
        gates: The gates that have reported: one that is in no catalog cannot be asked, and that is said.
        leadership: Who leads writes.
        http: Asks gates; no proxy may stand between.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        gates: Gates,
        leadership: Leadership,
        http: httpx.AsyncClient,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._gates = gates
        self._leadership = leadership
        self._http = http
        self._now = now

    async def look(self) -> Uses:
        """All that is known now; gates that do not answer are named, and never an error."""
        written = _parsed(await self._store.read(USES_PREFIX))
        live, silent = await self._live()
        last = {**written.keys}
        on: dict[str, tuple[str, ...]] = {}
        for gate, uses in sorted(live.items()):
            for key, used_s in uses.items():
                last[key] = max(used_s, last.get(key, 0))
                on[key] = (*on.get(key, ()), gate)
        return Uses(last, on, silent, written.since)

    async def run(self) -> None:
        """As the leader, write down what gates say, for ever."""
        while True:
            await self._leadership.chosen()
            try:
                await self.collect()
            except (NotLeader, Refused, Unavailable) as error:
                log.warning("keys.uses_not_kept", extra={"why": str(error)})
            await asyncio.sleep(COLLECT_EVERY_S)

    async def collect(self) -> None:
        """Write down once what gates say."""
        fence = self._leadership.own_fence()
        listing = await self._store.read(USES_PREFIX)
        written, writes = _parsed(listing), []
        if SINCE not in listing.entries:
            writes.append(Write(USES_PREFIX + SINCE, Shelf(since=int(self._now())).to_bytes(), 0))
        live, _ = await self._live()
        last = {**written.keys}
        for uses in live.values():
            for key, used_s in uses.items():
                last[key] = max(used_s, last.get(key, 0))
        stale = {key[0] for key, used_s in last.items() if used_s - written.keys.get(key, 0) >= KEEP_AFTER_S}
        for first in sorted(stale):
            shelf = Shelf(keys={key: used_s for key, used_s in sorted(last.items()) if key[0] == first})
            writes.append(Write(USES_PREFIX + first, shelf.to_bytes()))
        for lot in batched(writes):
            await self._store.commit(lot, fence)

    async def _live(self) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
        try:
            found = await self._catalog.gate_urls()
        except Unavailable as error:
            return {}, (f"gates cannot be found: {error}",)
        # Whoever may register may call itself a gate; only a gate's agent can have reported.
        urls = {gate: url for gate, url in found.items() if gate in self._gates.all}
        answers = await asyncio.gather(*(self._ask(url) for url in urls.values()), return_exceptions=True)
        live: dict[str, dict[str, int]] = {}
        silent = [f"gate {gate} is not in the catalog" for gate in self._gates.all if gate not in urls]
        for gate, answer in zip(urls, answers, strict=True):
            if isinstance(answer, Unavailable):
                silent.append(f"gate {gate} does not answer: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                live[gate] = answer
        return live, tuple(silent)

    async def _ask(self, url: str) -> dict[str, int]:
        try:
            async with asyncio.timeout(GATE_TIMEOUT_S), self._http.stream("GET", f"{url}/metrics") as answer:
                answer.raise_for_status()
                raw = bytearray()
                async for chunk in answer.aiter_bytes():
                    raw += chunk
                    if len(raw) > MOST_BYTES:
                        raise Unavailable(f"{url}/metrics is larger than {MOST_BYTES} bytes")
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unavailable(f"{url}/metrics: {type(error).__name__}") from error
        return {key: int(used) for key, used in SERIES.findall(raw.decode(errors="replace"))}


def _parsed(listing: Listing) -> Shelf:
    since, keys = 0, {}
    for name, entry in listing.entries.items():
        try:
            shelf = Shelf.parse(entry.value, USES_PREFIX + name)
        except Refused as error:
            log.warning("keys.uses_ignored", extra={"why": str(error)})
            continue
        since = max(since, shelf.since)
        keys.update(shelf.keys)
    return Shelf(since=since, keys=keys)
