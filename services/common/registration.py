"""Keeps an instance registered: again if it is lost, quietly while Consul is away, draining first when it stops.

Serving never waits for any of this.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Final, Protocol

from observability.telemetry.traces import root_span
from services.common.errors import RegistryError
from services.common.metrics import Metrics
from services.common.registry import Registration

__all__ = ["Keeper", "RegistryPort"]

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
RETRY_AFTER_S: Final = 0.5
LEAVE_TRIES: Final = 2  # one that stays is called dead for minutes


class RegistryPort(Protocol):
    """What the keeper needs of a registry; every method may raise `RegistryError`."""

    async def register(self, wanted: Registration) -> None:
        """Write it."""

    async def holds(self, wanted: Registration) -> bool:
        """Is it there, just so?"""

    async def deregister(self, service_id: str) -> None:
        """Take it out."""


class Keeper:
    """Keeps one registration in one registry.

    Args:
        registry: Where.
        wanted: What.
        metrics: Shows whether it is there.
    """

    def __init__(self, registry: RegistryPort, wanted: Registration, metrics: Metrics) -> None:
        self._registry = registry
        self._wanted = wanted
        self._metrics = metrics
        self._known: bool | None = None
        # So that a look under way cannot write "serving" over "draining", nor anything after the leaving.
        self._lock = asyncio.Lock()
        self._looks: set[asyncio.Task[bool]] = set()

    async def keep(self) -> None:
        """Register, then look every second and register again where it is missing; until cancelled."""
        while True:
            reached = await self._look()
            await asyncio.sleep(LOOK_EVERY_S if reached else RETRY_AFTER_S)

    async def drain(self) -> None:
        """Mark the registration, so that new work goes elsewhere. Without Consul nobody learns of it."""
        async with self._lock:
            self._wanted = replace(self._wanted, state="draining")
        await self._look()

    async def leave(self) -> None:
        """Take the registration out, once no look is under way."""
        async with self._lock:
            for left in reversed(range(LEAVE_TRIES)):
                try:
                    with root_span("consul deregister"):
                        await self._registry.deregister(self._wanted.service_id)
                except RegistryError as error:
                    if not left:
                        logger.warning("registry.not_left", extra={"reason": str(error)})
                else:
                    logger.info("registry.left", extra={"id": self._wanted.service_id})
                    return

    async def _look(self) -> bool:
        # Consul carries out what it was sent, whoever has stopped waiting: a look ends by itself, and leaving waits.
        look = asyncio.create_task(self._looked())
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)
        return await asyncio.shield(look)

    async def _looked(self) -> bool:
        async with self._lock:
            try:
                if not await self._registry.holds(self._wanted):
                    with root_span("consul register", tekup_state=self._wanted.state):
                        await self._registry.register(self._wanted)
                    fields = {"id": self._wanted.service_id, "state": self._wanted.state}
                    logger.info("registry.registered", extra=fields)
            except RegistryError as error:
                self._tell(known=False, reason=str(error))
                return False
            self._tell(known=True)
            return True

    def _tell(self, *, known: bool, reason: str = "") -> None:
        if known != self._known:
            if known:
                logger.info("registry.reachable")
            else:
                logger.warning("registry.unreachable", extra={"reason": reason})
        self._known = known
        self._metrics.registered.set(1 if known else 0)
