"""Puts policy and instances in force in one gate, in the order that loses no call.

Arrivals: routes file -> Traefik shows the router enabled -> only then the target may stand in ``services.json``.
Departures: tables first, the routes later, together with what else has departed by then.

Nobody waits for an arrival: a change of another service's policy is in force while it is under way. With another
service's instances flapping ten times a second, a shift would else take 400 ms instead of 50.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from control_plane import peers, render
from control_plane import routes as traefik_routes
from control_plane.agent.beside import Beside
from control_plane.agent.disk import CHANGES, GateFolder
from control_plane.errors import Refused
from control_plane.model import Instance, Policy, version_target
from control_plane.traefik import Loaded, Traefik
from observability.telemetry.traces import span

log = logging.getLogger(__name__)

ROUTERS_TIMEOUT_S = 5.0
# The plugin takes a new table of 10,000 clients up in seconds where it shares a busy machine; to write it again then
# makes it begin anew.
TABLES_TIMEOUT_S = 5.0
ROUTERS_POLL_S = 0.02
# Asked often at first, when a small table is in force within milliseconds; each asking takes time from a plugin that
# reads a large one.
TABLES_POLL_S = 0.004
TABLES_POLL_MOST_S = 0.02
TABLES_POLL_GROWS = 1.3
# A reload sets every server to healthy for a check's length. New routers are written at once; what leaves or only
# changes its servers can wait for two checks and goes together.
ROUTES_EVERY_S = 2.0


@dataclass(frozen=True)
class Applied:
    """What became of one application.

    Attributes:
        in_force: The plugin has loaded what was meant for it.
        problems: What could not be done, one sentence each.
        again_in_s: When to apply once more although nothing changes; None if that is not needed.
    """

    in_force: bool
    problems: tuple[str, ...]
    again_in_s: float | None


class Applier:
    """One gate.

    Args:
        folder: Its files.
        traefik: Its Traefik and plugin.

    Raises:
        Refused: There is no MAC key.
    """

    def __init__(self, folder: GateFolder, traefik: Traefik) -> None:
        self._folder = folder
        self._traefik = traefik
        self._routes: Mapping[str, object] = folder.routes()
        self._tables = {name: folder.table(name) for name in ("services", "clients")}
        self._enabled: frozenset[str] = frozenset()
        self._left: frozenset[str] = frozenset()
        self._since: dict[str, float] = {}
        self._called: set[str] = set()
        self._policy: Policy | None = None
        self._identity: Mapping[str, object] = folder.identity()
        self._mac_key = folder.mac_key()
        self._written_s = -ROUTES_EVERY_S
        self._rendered = render.ClientsTable()
        self._beside = Beside()

    @property
    def gates(self) -> int:
        """Over how many gates limits are divided now."""
        gates = self._tables["clients"].get("gates")
        return gates if isinstance(gates, int) else 1

    async def apply(
        self,
        policy: Policy,
        instances: tuple[Instance, ...],
        *,
        gates: int = 1,
        papers: peers.Papers | None = None,
    ) -> Applied:
        """Put this in force.

        Args:
            policy: What was decided.
            instances: Those that are believed in.
            gates: Over how many gates limits are divided.
            papers: With mutual TLS, what the gate shows.

        Raises:
            Unavailable: Traefik did not answer.
        """
        problems: list[str] = []
        self._write_identity(papers, instances)
        wanted = _routes(policy, instances, papers)
        if traefik_routes.routers_of(wanted) - self._enabled:
            await self._look()
        postponed_s = self._write_arrivals(wanted)
        with span("wait for routers", client=True):
            await self._shown(traefik_routes.routers_of(wanted) & self._named(), problems)
        usable = [one for one in instances if self._usable(one)]
        services = render.plain(render.services_table(policy, usable, self._enabled))
        self._write("services", policy, {"services": services})
        self._write("clients", policy, {"gates": gates, **self._clients(policy, problems)})
        with span("wait for plugin", client=True):
            loaded = await self._loaded(problems)
        # Calls no longer go to what has departed, so its routes may go as well.
        departing_s = self._write_routes(self._fit(wanted)) if loaded and postponed_s is None else postponed_s
        awaited = self._await(wanted, problems)
        in_force = loaded and not self._matters(awaited, policy)
        self._policy = policy if in_force else self._policy
        return Applied(in_force, tuple(problems), ROUTERS_POLL_S if awaited else departing_s)

    def _write_identity(self, papers: peers.Papers | None, instances: tuple[Instance, ...]) -> None:
        """Before the routes, which name its parts; whatever stands stays, for routes that stand may name it."""
        if papers is None and not self._identity:
            return
        self._called |= {one.service for one in instances}
        wanted = peers.identity(papers, self._called) if papers else {}
        if wanted != self._identity:
            self._folder.write_identity(wanted)
            self._identity = wanted

    def _write_arrivals(self, wanted: Mapping[str, object]) -> float | None:
        standing = traefik_routes.union(self._routes, self._fit(wanted))
        arrivals = traefik_routes.routers_of(standing) - traefik_routes.routers_of(self._routes)
        return self._write_routes(standing, at_once=bool(arrivals))

    def _fit(self, wanted: Mapping[str, object]) -> Mapping[str, object]:
        # A target that comes back has to be seen gone first: Traefik may still show the router of the time before it
        # left, and drop that after calls were sent to it (seen: 80 ms after it left, 200 calls lost).
        return traefik_routes.without(wanted, self._left)

    def _await(self, wanted: Mapping[str, object], problems: list[str]) -> frozenset[str]:
        """Arrivals that Traefik does not show yet; those that take too long are a problem, and awaited no more."""
        now_s = time.monotonic()
        missing = traefik_routes.routers_of(wanted) - self._enabled - {traefik_routes.PLACEHOLDER}
        self._since = {name: self._since.get(name, now_s) for name in missing}
        late = {name for name, since_s in self._since.items() if now_s - since_s > ROUTERS_TIMEOUT_S}
        if late:
            problems.append(_not_shown(late))
        return frozenset(missing - late)

    def _matters(self, awaited: frozenset[str], policy: Policy) -> bool:
        """Whether the policy has changed for a service whose targets arrive: what else arrives holds up nobody."""
        before = self._policy.services if self._policy else None
        services = {name.partition("_")[0] for name in awaited}
        return any(before is None or policy.services.get(name) != before.get(name) for name in services)

    def _named(self) -> frozenset[str]:
        """The targets that calls are sent to now."""
        return render.targets_of(self._tables["services"].get("services"))

    async def _look(self) -> None:
        shown = await self._traefik.enabled_routers()
        self._left &= shown
        self._enabled = shown & traefik_routes.routers_of(self._routes)

    def _write_routes(self, routes: Mapping[str, object], *, at_once: bool = False) -> float | None:
        """Write routes that differ; None when written, else the seconds until they may be."""
        if routes == self._routes:
            return None
        left_s = self._written_s + ROUTES_EVERY_S - time.monotonic()
        if left_s > 0 and not at_once:
            return left_s
        self._folder.write_routes(routes)
        kept = traefik_routes.routers_of(routes)
        self._left = (self._left | traefik_routes.routers_of(self._routes)) - kept
        self._enabled &= kept
        self._routes, self._written_s = routes, time.monotonic()
        return None

    def _usable(self, one: Instance) -> bool:
        target = version_target(one.service, one.version)
        return one.target in self._enabled and (target in self._enabled or not one.live)

    def _clients(self, policy: Policy, problems: list[str]) -> dict[str, object]:
        try:
            self._mac_key = self._folder.mac_key()
        except Refused as error:
            # The plugin refuses grants it cannot check; a revocation needs no MAC key, so it must not wait for one.
            problems.append(str(error))
        table, left_out = self._rendered.render(policy, self._mac_key)
        problems.extend(left_out)
        return {**table}

    async def _shown(self, wanted: frozenset[str], problems: list[str]) -> None:
        if wanted <= self._enabled:
            return
        deadline_s = time.monotonic() + ROUTERS_TIMEOUT_S
        while True:
            await self._look()
            missing = wanted - self._enabled
            if not missing:
                return
            if time.monotonic() > deadline_s:
                problems.append(_not_shown(missing))
                return
            await asyncio.sleep(ROUTERS_POLL_S)

    def _write(self, name: str, policy: Policy, content: Mapping[str, object]) -> None:
        held = self._tables[name]
        if all(held.get(key) == value for key, value in content.items()):
            return
        place = {"epoch": policy.revision.epoch, "number": policy.revision.number}
        table = {**place, **content, "serial": self._serial(name) + 1}
        changes = self._beside.changes(table) if name == "clients" else None
        if changes is None:
            self._put(name, table)
            return
        self._folder.write_changes(changes)
        self._tables[name] = table

    def _put(self, name: str, content: Mapping[str, object]) -> None:
        table = {**content, "serial": self._serial(name) + 1}
        self._folder.write_table(name, table)
        self._tables[name] = table
        if name == "clients":
            self._beside.written(table)

    def _serial(self, name: str) -> int:
        serial = self._tables[name].get("serial")
        return serial if isinstance(serial, int) else 0

    async def _loaded(self, problems: list[str]) -> bool:
        deadline_s, poll_s = time.monotonic() + TABLES_TIMEOUT_S, TABLES_POLL_S
        while True:
            loaded = dict(zip(("services", "clients"), await self._traefik.loaded(), strict=True))
            late = [name for name, part in loaded.items() if part.serial != self._serial(name)]
            if not late:
                problems.extend(problem for part in loaded.values() for problem in part.problems)
                return True
            if time.monotonic() > deadline_s:
                return self._write_again(late, loaded, problems)
            await asyncio.sleep(poll_s)
            poll_s = min(poll_s * TABLES_POLL_GROWS, TABLES_POLL_MOST_S)

    def _write_again(self, late: Iterable[str], loaded: Mapping[str, Loaded], problems: list[str]) -> bool:
        # A clock set back or a restored file must not hide a change: what the plugin does not report is written again,
        # above whatever serial it holds.
        for name in late:
            problems.append(f"the plugin has not taken up {name}.json serial {self._serial(name)}; it is written again")
            self._tables[name]["serial"] = max(self._serial(name), loaded[name].serial)
            self._put(name, self._tables[name])
        return False

    def begin(self, policy: Policy, instances: tuple[Instance, ...], papers: peers.Papers | None = None) -> None:
        """Write the routes of what was last in force, if the file that should hold them is spoilt or missing."""
        self._write_identity(papers, instances)
        if not self._routes:
            self._write_routes(_routes(policy, instances, papers), at_once=True)

    def put_back(self) -> tuple[str, ...]:
        """Write again the files that somebody else has changed or deleted, and name them.

        Asks nobody: a Traefik that was started on a spoilt file answers nothing until the file is good.
        """
        touched = self._folder.touched()
        for name in {"clients" if name == CHANGES else name for name in touched}:
            if name == "routes" and self._routes:
                self._folder.write_routes(self._routes)
            elif name == "identity":
                self._folder.write_identity(self._identity)
            elif self._tables.get(name):
                self._put(name, self._tables[name])
        return touched

    async def drifted(self) -> bool:
        """Whether Traefik or plugin run something else than was written; the next turn then writes it again."""
        await self._look()
        stands = traefik_routes.routers_of(self._routes) <= self._enabled | self._since.keys()
        if not stands:
            self._routes = {}
        services, clients = await self._traefik.loaded()
        loaded = services.serial == self._serial("services") and clients.serial == self._serial("clients")
        return not stands or not loaded


def _routes(policy: Policy, instances: tuple[Instance, ...], papers: peers.Papers | None) -> Mapping[str, object]:
    plain = traefik_routes.routes(policy, instances)
    return peers.over_tls(plain) if papers else plain


def _not_shown(routers: Iterable[str]) -> str:
    return f"Traefik does not show these routers enabled: {', '.join(sorted(routers)[:5])}"
