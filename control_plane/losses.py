"""Which instances were lost: live, and then dead or gone without having said that they would leave.

What Consul shows is not taken at its word. A check that is critical says "dead" only where no connection could be made:
a restarted Consul shows every check critical before it has asked, and an instance that is not ready, or hangs, lives.
One that is missing is missed for a while first: an emptied Consul shows nothing until the instances have registered
again. And who vanished while the catalog could not be read may have left in order. An instance that was killed and is
back under the same id within a second shows by when it was started. One that dies while it is not ready, or Consul
away, is found late: Consul tells of a check's new words within five minutes where its state is the same.

Every replica watches, the leader counts. One that has just been elected counts what was lost a moment before, when
perhaps nobody led; a leader that dies just after it has counted is counted after once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from control_plane.model import Instance, InstanceState

MISSED_FOR_S: Final = 10.0
"""Instances look once a second whether they are registered."""
REMEMBERED_S: Final = 15.0
"""About as long as it may take until somebody leads again."""
FORGOTTEN_S: Final = 3600.0
"""For how long a version that is gone is still shown: alerts look back so far at most."""

Version = tuple[str, str]


@dataclass(frozen=True)
class _Known:
    """An instance that was live."""

    one: Instance
    leaving: bool = False
    lost: bool = False
    missing_since_s: float = 0.0


class Losses:
    """Follows what the catalog shows. Times are seconds, monotonic."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}
        self._versions: dict[Version, float] = {}
        self._lost: list[tuple[float, Version]] = []
        self._blind: set[str] = set()

    def seen(self, service: str, instances: Iterable[Instance], now_s: float) -> None:
        """Take in all registered instances of a service, as the catalog shows them now."""
        there = {(one.service, one.id): one for one in instances}
        for one in there.values():
            self._versions[one.service, one.version] = now_s
            self._see(one, now_s)
        blind = service in self._blind
        self._blind.discard(service)
        for who in [who for who in self._known if who[0] == service and who not in there]:
            known = self._known[who]
            if known.leaving or known.lost or blind:
                del self._known[who]
            elif not known.missing_since_s:
                self._known[who] = replace(known, missing_since_s=now_s)

    def unseen(self, service: str) -> None:
        """The catalog cannot be read: what vanishes until it can may have left in order."""
        self._blind.add(service)
        for who in [who for who, known in self._known.items() if who[0] == service and known.missing_since_s]:
            del self._known[who]

    def turn(self, now_s: float, *, leading: bool) -> list[Version]:
        """Service and version of each instance that was lost since the leader last asked, for the leader to count.

        Args:
            now_s: Now.
            leading: Whether who asks counts.
        """
        for who, known in list(self._known.items()):
            if known.missing_since_s and now_s - known.missing_since_s >= MISSED_FOR_S:
                self._lose(known.one, now_s)
                del self._known[who]
        self._lost = [(at_s, version) for at_s, version in self._lost if now_s - at_s <= REMEMBERED_S]
        if not leading:
            return []
        taken, self._lost = self._lost, []
        return [version for _, version in taken]

    def versions(self, now_s: float) -> set[Version]:
        """Every service and version that was registered of late."""
        self._versions = {version: at_s for version, at_s in self._versions.items() if now_s - at_s <= FORGOTTEN_S}
        return set(self._versions)

    def _see(self, one: Instance, now_s: float) -> None:
        who = one.service, one.id
        known = self._known.get(who)
        if known and not known.leaving and not known.lost and _started_anew(known.one, one):
            self._lose(known.one, now_s)
            known = None
        if one.state is InstanceState.DRAINING:
            self._known[who] = _Known(one, leaving=True)
        elif one.passing:
            self._known[who] = _Known(one)
        elif known and not known.leaving and one.dead and not known.lost:
            self._lose(known.one, now_s)
            self._known[who] = replace(known, lost=True, missing_since_s=0.0)
        elif known:
            self._known[who] = replace(known, missing_since_s=0.0)

    def _lose(self, one: Instance, now_s: float) -> None:
        self._lost.append((now_s, (one.service, one.version)))


def _started_anew(before: Instance, now: Instance) -> bool:
    told = bool(before.started and now.started)
    return now.passing and told and before.started != now.started
