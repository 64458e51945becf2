"""From policy and instances to what a gate reads: tables for the plugin, routes for Traefik. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from control_plane.errors import Refused
from control_plane.model import (
    ClientPolicy,
    Instance,
    Key,
    Lane,
    Policy,
    Rule,
    ServicePolicy,
    mirror_target,
    version_target,
)
from control_plane.signed import grant

Json = Mapping[str, object]


def services_table(
    policy: Policy, instances: Iterable[Instance], routed: Collection[str] | None = None
) -> dict[str, Json]:
    """The ``services`` part of ``services.json``: where the calls of each service may go now.

    Args:
        policy: What operators decided.
        instances: Those the agent believes in.
        routed: The targets Traefik knows, so that no call is to be copied by one it does not; None = all of them.
    """
    by_service: dict[str, list[Instance]] = {}
    for instance in instances:
        by_service.setdefault(instance.service, []).append(instance)
    return {
        name: _service(decided, by_service.get(name, []), routed) for name, decided in sorted(policy.services.items())
    }


def targets_of(table: object) -> frozenset[str]:
    """The targets that a table of services, as read back from its file, sends calls to."""
    found: set[str] = set()
    for service in table.values() if isinstance(table, Mapping) else ():
        lanes = [*service.get("lanes", ()), *(lane for rule in service.get("rules", ()) for lane in rule["lanes"])]
        found |= {lane["target"] for lane in lanes} | set(service.get("instances", {}).values())
    return frozenset(found)


def _service(decided: ServicePolicy, instances: list[Instance], routed: Collection[str] | None) -> Json:
    open_ones = [one for one in instances if one.version not in decided.closed]
    live = {one.version for one in open_ones if one.live}
    weights = _weights(decided.lanes, live)
    if not weights and live:
        weights = {_stand_in(decided, live): 100.0}
    stable = decided.stable if decided.stable in live else max(weights, key=lambda v: (weights[v], v), default="")
    rules = [_rule(decided.name, rule, live, routed) for rule in decided.rules if _weights(rule.lanes, live)]
    return {
        "stable": version_target(decided.name, stable) if stable else "",
        "lanes": [
            {"target": version_target(decided.name, version), "weight_pct": weight}
            for version, weight in sorted(weights.items())
        ],
        "split": decided.split,
        "instances": {one.id: one.target for one in sorted(open_ones)},
        **({"salt": decided.salt} if decided.salt else {}),
        **({"rules": rules} if rules else {}),
    }


def _weights(lanes: Iterable[Lane], live: Collection[str]) -> dict[str, float]:
    """What each live version gets: a version without live instances leaves its share to the others."""
    weights = {lane.version: lane.weight_pct for lane in lanes if lane.version in live and lane.weight_pct > 0}
    total = sum(weights.values())
    return {version: weight * 100 / total for version, weight in weights.items()}


def _rule(service: str, rule: Rule, live: Collection[str], routed: Collection[str] | None) -> Json:
    def target(version: str) -> str:
        copied = mirror_target(service, version, rule.mirror)
        mirrored = rule.mirror in live and rule.mirror != version and (routed is None or copied in routed)
        return copied if mirrored else version_target(service, version)

    lanes = sorted(_weights(rule.lanes, live).items())
    return {
        "name": rule.name,
        "tools": rule.tools,
        "cohort": rule.cohort,
        "lanes": [{"target": target(version), "weight_pct": weight} for version, weight in lanes],
    }


def _stand_in(decided: ServicePolicy, live: set[str]) -> str:
    return decided.stable if decided.stable in live else max(live)


class ClientsTable:
    """The ``clients`` and ``keys`` parts of ``clients.json``, made anew only where something has changed.

    Signing 10,000 grants takes a tenth of a second, and comparing them as long: entries of documents that are the
    same objects as before are the same objects, too.
    """

    def __init__(self) -> None:
        self._mac_key = b""
        self._rendered: tuple[Policy, dict[str, Json], tuple[str, ...]] | None = None
        self._clients: dict[str, tuple[ClientPolicy, Json]] = {}
        self._keys: dict[str, tuple[Key, ClientPolicy, Json]] = {}

    def render(self, policy: Policy, mac_key: bytes) -> tuple[dict[str, Json], tuple[str, ...]]:
        """See :func:`clients_table`."""
        if mac_key != self._mac_key:
            self._mac_key, self._keys, self._rendered = mac_key, {}, None
        if self._rendered is None or self._rendered[0] is not policy:
            self._rendered = policy, *self._render(policy)
        return self._rendered[1:]

    def _render(self, policy: Policy) -> tuple[dict[str, Json], tuple[str, ...]]:
        problems: list[str] = []
        before = self._clients
        clients = {
            client_id: old if (old := before.get(client_id)) and old[0] is client else (client, _client(client))
            for client_id, client in policy.clients.items()
        }
        keys: dict[str, tuple[Key, ClientPolicy, Json]] = {}
        for key_id, key in policy.keys.items():
            client, held = policy.clients.get(key.client), self._keys.get(key_id)
            # Ten thousand times for each change: so it is written without a call.
            if held is not None and held[0] is key and held[1] is client:
                keys[key_id] = held
            elif client is not None:
                try:
                    keys[key_id] = key, client, _key(key, client, self._mac_key)
                except Refused as error:
                    problems.append(f"key {key_id} is refused: {error}")
        self._clients, self._keys = clients, keys
        parts: dict[str, Json] = {
            "clients": {client_id: entry for client_id, (_, entry) in clients.items()},
            "keys": {key_id: entry for key_id, (_, _, entry) in keys.items()},
        }
        return parts, tuple(problems)


def clients_table(policy: Policy, mac_key: bytes) -> tuple[dict[str, Json], tuple[str, ...]]:
    """The ``clients`` and ``keys`` parts of ``clients.json``, as JSON reads them.

    Args:
        policy: What operators decided.
        mac_key: Signs the grants.

    Returns:
        The parts, and a sentence for each key that had to be left out. One client that cannot be served never holds
        up a revocation of another's key.
    """
    return ClientsTable().render(policy, mac_key)


def _client(client: ClientPolicy) -> Json:
    """What the plugin decides by; the rest of the rights stands in the grants, but where these are made per bearer."""
    whole = client.model_dump(mode="json")
    more = ("access", "roots", "hosts", "oauth") if client.oauth else ()
    return {name: whole[name] for name in ("allow", "cohort", *(("limits",) if client.limits else ()), *more)}


def _key(key: Key, client: ClientPolicy, mac_key: bytes) -> Json:
    return {
        "client": key.client,
        "hash": key.hash,
        "expires": key.expires,
        "revoked": key.revoked,
        "grant": grant(client, key.id, mac_key),
    }


def plain(value: object) -> object:
    """A value as it would be read back from JSON: tuples are lists there."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
