"""Who may call whom, kept in Consul by the leader: the gate each service, hub and control plane the gate, nobody else.

Services hold to it themselves, with the last answer they had. An entry of another's making is not touched, unless it
stands where one of ours has to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from control_plane.config_entries import Callers, ConfigEntries
from control_plane.errors import NotInitialised, Refused, Unavailable
from control_plane.leadership import Leadership
from control_plane.peers import CONTROL_PLANE, GATE, transport_of
from control_plane.registry import Registry

log = logging.getLogger(__name__)

EVERY_S = 1.0
HUB = "hub"


def wanted(services: Iterable[str]) -> dict[str, frozenset[str]]:
    """By who is called, who may."""
    called = {transport_of(name): frozenset({GATE}) for name in services}
    return called | {GATE: frozenset({transport_of(HUB), CONTROL_PLANE})}


def differing(there: Mapping[str, Callers], want: Mapping[str, frozenset[str]]) -> tuple[list[str], list[str]]:
    """Which entries have to be written, and which of ours to go."""
    write = [name for name, sources in want.items() if name not in there or there[name].sources != sources]
    return write, [name for name, callers in there.items() if callers.ours and name not in want]


class Intentions:
    """Keeps them as long as this replica leads.

    Args:
        entries: Where they lie.
        leadership: Whether we may write.
        registry: Who has registered.
        services: Names of the services in the policy.
        accept_new: Whether a service that has registered is as good as one in the policy.
    """

    def __init__(
        self,
        entries: ConfigEntries,
        leadership: Leadership,
        registry: Registry,
        services: Callable[[], Awaitable[frozenset[str]]],
        *,
        accept_new: bool,
    ) -> None:
        self._entries = entries
        self._leadership = leadership
        self._registry = registry
        self._services = services
        self._accept_new = accept_new

    async def run(self) -> None:
        """Keep them for ever."""
        change = self._registry.next_change()
        said = ""
        while True:
            await self._leadership.chosen()
            try:
                await self.keep()
                said = ""
            except NotInitialised:
                pass  # without a policy nothing is known of services, least of all that they are gone
            except (Refused, Unavailable) as error:
                if str(error) != said:
                    log.warning("intentions.not_kept", extra={"why": str(error)})
                said = str(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await change.wait()
            change = self._registry.next_change() if change.is_set() else change

    async def keep(self) -> None:
        """Make Consul's entries what they should be.

        Raises:
            NotInitialised: There is no policy.
            Unavailable: Consul did not answer, or another wrote in between.
        """
        services = await self._services()
        if self._accept_new:
            services |= {one.service for one in self._registry.instances}
        want, there = wanted(services), await self._entries.read()
        write, gone = differing(there, want)
        for name in write:
            await self._entries.write(name, want[name], there[name].index if name in there else 0)
            log.info("intentions.written", extra={"called": name, "by": sorted(want[name])})
        for name in gone:
            await self._entries.delete(name, there[name].index)
            log.info("intentions.removed", extra={"called": name})
