"""A live copy of the catalog: all MCP services and their instances. Leader and agents use it alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from control_plane.errors import Unavailable
from control_plane.losses import Losses
from control_plane.model import Instance
from control_plane.ports import Catalog
from control_plane.watch import WATCH_S, follow


class Registry:
    """Follows every ``mcp-*`` service in the catalog.

    Args:
        catalog: Where they are.
        losses: Told of every answer.
        fixed: Instances that are there whatever the catalog says.
    """

    def __init__(self, catalog: Catalog, losses: Losses | None = None, fixed: Iterable[Instance] = ()) -> None:
        self._catalog = catalog
        self._losses = losses or Losses()
        self._fixed = tuple(fixed)
        self._by_service: dict[str, tuple[Instance, ...]] = {}
        self._names: frozenset[str] | None = None
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._waiters: set[asyncio.Event] = set()
        self.answered_s: dict[str, float] = {}

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Every registered instance, whatever its state."""
        found = (instance for service in sorted(self._by_service) for instance in self._by_service[service])
        return (*found, *self._fixed)

    @property
    def complete(self) -> bool:
        """Whether the catalog and every service in it have answered at least once."""
        return self._names is not None and self._names <= self._by_service.keys()

    def next_change(self) -> asyncio.Event:
        """An event that is set at the next change after this call."""
        event = asyncio.Event()
        self._waiters.add(event)
        return event

    async def run(self) -> None:
        """Follow for ever."""
        async with asyncio.TaskGroup() as tasks:
            await follow(lambda after: self._read_names(after, tasks), "catalog")

    async def _read_names(self, after: int, tasks: asyncio.TaskGroup) -> int:
        index, names = await self._catalog.service_names(after=after, wait_s=WATCH_S)
        self.answered_s["catalog"] = time.monotonic()
        self._names = names
        for name in names - self._watches.keys():
            self._watches[name] = tasks.create_task(self._follow_service(name))
        for name in self._watches.keys() - names:
            self._watches.pop(name).cancel()
            self._by_service.pop(name, None)
            self._losses.seen(name, (), time.monotonic())
        self._notify()
        return index

    async def _follow_service(self, name: str) -> None:
        await follow(lambda after: self._read_service(name, after), f"service {name}")

    async def _read_service(self, name: str, after: int) -> int:
        try:
            index, instances = await self._catalog.instances(name, after=after, wait_s=WATCH_S)
        except Unavailable:
            self._losses.unseen(name)
            raise
        self.answered_s[name] = time.monotonic()
        self._losses.seen(name, instances, self.answered_s[name])
        if self._by_service.get(name) != instances:
            self._by_service[name] = instances
            self._notify()
        return index

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for event in waiters:
            event.set()
