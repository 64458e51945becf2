"""Rollouts as the store holds them: the last one of each service, and those before it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from control_plane.delivery import Delivery
from control_plane.errors import NotFound, Refused
from control_plane.kept import ENDED_PREFIX, ROLLOUTS_PREFIX
from control_plane.model import SERVICE_NAME, ServicePolicy, Table
from control_plane.ports import Entry, Store, Write
from control_plane.rollout import Rollout

log = logging.getLogger(__name__)

KEPT_ENDED = 50
NO_SERVICE = "there is no service {service}; `tekup traffic show` lists them"
NEVER = "service {service} has had no rollout; start one: tekup rollout start {service} VERSION"


@dataclass(frozen=True)
class Held:
    """A rollout as the store holds it, and the index that guards the next write of it."""

    rollout: Rollout
    index: int


class Shelf:
    """Reads rollouts, and says what writes them.

    Args:
        store: Where they lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._senseless: dict[str, str] = {}

    async def policy(self, service: str) -> ServicePolicy:
        """The service's policy.

        Raises:
            NotFound: There is no such service.
        """
        entry = (await self._store.read(Table.SERVICES.prefix + _named(service))).entries.get("")
        if entry is None:
            raise NotFound(NO_SERVICE.format(service=service))
        return ServicePolicy.stored(entry.value, Table.SERVICES.prefix, service)

    async def all(self) -> dict[str, Held]:
        """The last rollout of every service, by service; one that makes no sense is passed over, and logged once."""
        listing = await self._store.read(ROLLOUTS_PREFIX)
        found, senseless = {}, {}
        for name, entry in sorted(listing.entries.items()):
            try:
                found[name] = _held(name, entry)
            except Refused as error:
                senseless[name] = str(error)
                if self._senseless.get(name) != str(error):
                    log.warning("rollout.not_read", extra={"service": name, "why": str(error)})
        self._senseless = senseless
        return found

    async def held(self, service: str) -> Held | None:
        """The service's last rollout and its index; None if it has had none."""
        entry = (await self._store.read(ROLLOUTS_PREFIX + _named(service))).entries.get("")
        return None if entry is None else _held(service, entry)

    async def last(self, service: str) -> Held:
        """The service's last rollout and its index.

        Raises:
            NotFound: It has had none.
        """
        held = await self.held(service)
        if held is None:
            await self.policy(service)
            raise NotFound(NEVER.format(service=service))
        return held

    async def one(self, service: str) -> Rollout:
        """The same without the index."""
        return (await self.last(service)).rollout

    async def delivery(self, service: str) -> Delivery:
        """How the service's rollouts go, as an operator has said, or by default."""
        entry = (await self._store.read(Table.DELIVERY.prefix + _named(service))).entries.get("")
        return Delivery.stored(entry.value, Table.DELIVERY.prefix, service) if entry else Delivery(service=service)

    async def past(self, service: str) -> tuple[Rollout, ...]:
        """All rollouts of a service that are kept, the newest first."""
        listing = await self._store.read(f"{ENDED_PREFIX}{_named(service)}/")
        kept = [
            Rollout.parse(entry.value, f"{ENDED_PREFIX}{service}/{name}") for name, entry in listing.entries.items()
        ]
        held = await self.held(service)
        kept += [held.rollout] if held else []
        if not kept:
            await self.policy(service)
        return tuple(sorted(kept, key=lambda rollout: -rollout.number))

    async def into_history(self, ended: Rollout) -> list[Write]:
        """What keeps a rollout that makes room for another, and lets go of the oldest."""
        prefix = f"{ENDED_PREFIX}{ended.service}/"
        names = sorted((await self._store.read(prefix)).entries)
        old = [Write(prefix + name, None) for name in names[: max(0, len(names) + 1 - KEPT_ENDED)]]
        return [*old, Write(f"{prefix}{ended.number:06d}", ended.to_bytes())]

    @staticmethod
    def document(rollout: Rollout, index: int) -> Write:
        """What writes a rollout, if it still has that index."""
        return Write(ROLLOUTS_PREFIX + rollout.service, rollout.to_bytes(), index)


def _named(service: str) -> str:
    """A service's name, fit to be part of a key."""
    if not re.fullmatch(SERVICE_NAME, service):
        raise NotFound(NO_SERVICE.format(service=repr(service)))
    return service


def _held(service: str, entry: Entry) -> Held:
    key = ROLLOUTS_PREFIX + service
    try:
        return Held(Rollout.parse(entry.value, f"{key} in Consul"), entry.index)
    except Refused as error:
        raise Refused(f"{error}. Mend it, or end the rollout by hand: consul kv delete {key}") from error
