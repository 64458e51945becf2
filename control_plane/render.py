"""From policy and instances to what a gate reads: tables for the plugin, routes for Traefik. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from control_plane.errors import Refused
from control_plane.model import ClientPolicy, Instance, Key, Policy, ServicePolicy, version_target
from control_plane.signed import grant

Json = Mapping[str, object]


def services_table(policy: Policy, instances: Iterable[Instance]) -> dict[str, Json]:
    """The ``services`` part of ``services.json``: where the calls of each service may go now.

    Args:
        policy: What operators decided.
        instances: Those the agent believes in.
    """
    by_service: dict[str, list[Instance]] = {}
    for instance in instances:
        by_service.setdefault(instance.service, []).append(instance)
    return {name: _service(decided, by_service.get(name, [])) for name, decided in sorted(policy.services.items())}


def _service(decided: ServicePolicy, instances: list[Instance]) -> Json:
    open_ones = [one for one in instances if one.version not in decided.closed]
    live = {one.version for one in open_ones if one.live}
    weights = {lane.version: lane.weight_pct for lane in decided.lanes if lane.version in live and lane.weight_pct > 0}
    if not weights and live:
        weights = {_stand_in(decided, live): 100.0}
    total = sum(weights.values())
    stable = decided.stable if decided.stable in live else max(weights, key=lambda v: (weights[v], v), default="")
    return {
        "stable": version_target(decided.name, stable) if stable else "",
        "lanes": [
            {"target": version_target(decided.name, version), "weight_pct": weight * 100 / total}
            for version, weight in sorted(weights.items())
        ],
        "split": decided.split,
        "instances": {one.id: one.target for one in sorted(open_ones)},
    }


def _stand_in(decided: ServicePolicy, live: set[str]) -> str:
    return decided.stable if decided.stable in live else max(live)


def clients_table(policy: Policy, mac_key: bytes) -> tuple[dict[str, Json], tuple[str, ...]]:
    """The ``clients`` and ``keys`` parts of ``clients.json``.

    Args:
        policy: What operators decided.
        mac_key: Signs the grants.

    Returns:
        The parts, and a sentence for each key that had to be left out. One client that cannot be served never holds
        up a revocation of another's key.
    """
    keys: dict[str, Json] = {}
    problems = []
    for key in policy.keys.values():
        if key.client not in policy.clients:
            continue
        try:
            keys[key.id] = _key(key, policy.clients[key.client], mac_key)
        except Refused as error:
            problems.append(f"key {key.id} is refused: {error}")
    clients = {client.id: {"allow": client.allow, "cohort": client.cohort} for client in policy.clients.values()}
    return {"clients": clients, "keys": keys}, tuple(problems)


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
