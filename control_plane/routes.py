"""From policy and instances to Traefik's dynamic configuration; shape and reasons are in ``traefik/README.md``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from control_plane.model import Instance, Policy, ServicePolicy, mirror_target, version_target

Json = dict[str, object]
# The last is there only where bearers of authorization servers are let in (traefik/oauth.yml.tmpl). Elsewhere Traefik
# drops the reference, and says nothing.
PARENTS = ["public@file", "internal@file", "foreign@file"]
READY = "/ready"
HEALTH = "/health"
MANY_INSTANCES = 100
# On all of 2,600 children at 1 s the checks cost 1.3 cores, so many instances are checked more rarely.
CHECK_S = 1
CHECK_MANY_S = 5
# On a starved machine every instance answers late at once, and a check that is quick to give up empties the whole gate
# (seen: 1 s, load average 11, 39 calls lost). A dead instance refuses at once, so patience costs only with frozen ones.
CHECK_TIMEOUT_S = 4
PASSIVE: Json = {"maxFailedAttempts": 2, "failureWindow": "2s"}
PLACEHOLDER = "placeholder"
# Traefik keeps this much for each call it may copy, whatever its size; larger ones go to the plain target (the plugin).
MAX_COPIED_BYTES = 64 * 1024


def routes(policy: Policy | None, instances: Iterable[Instance]) -> Json:
    """The whole of ``routes.yml``.

    Args:
        policy: What operators decided. A service it does not name yet gets its targets already.
        instances: Those the agent believes in.
    """
    believed = sorted(instances)
    interval_s = CHECK_S if len(believed) <= MANY_INSTANCES else CHECK_MANY_S
    services: Json = {}
    targets: list[str] = []
    for name in sorted({one.service for one in believed}):
        decided = policy.services.get(name) if policy else None
        closed = decided.closed if decided else ()
        mine = [one for one in believed if one.service == name and one.version not in closed]
        parts = _service(name, decided.stable if decided else "", mine, interval_s)
        if decided:
            parts |= _mirrors(decided, mine, parts)
        services |= parts
        targets += [target for target in parts if "." not in target]
    routers = {target: _router(target, target) for target in targets} or _nobody()
    return {"http": {"routers": routers, **({"services": services} if services else {})}}


def _service(name: str, stable: str, instances: list[Instance], interval_s: int) -> Json:
    by_version: dict[str, list[Instance]] = {}
    for one in instances:
        if one.live:
            by_version.setdefault(one.version, []).append(one)
    parts: Json = {}
    any_version = f"{name}.any" if by_version else "nobody"
    stable_target = version_target(name, stable) if stable in by_version else ""
    for version, members in by_version.items():
        target = version_target(name, version)
        fallback = stable_target if stable_target and target != stable_target else any_version
        parts[target] = _failover(f"{target}.lb", fallback)
        parts[f"{target}.lb"] = _balancer(members, healthCheck=_check(READY, interval_s), passiveHealthCheck=PASSIVE)
    for one in instances:
        parts[one.target] = _failover(f"{one.target}.lb", any_version)
        # Leaving it loses its handles: it holds them while it lives, draining as well, whatever calls end badly.
        parts[f"{one.target}.lb"] = _balancer([one], healthCheck=_check(HEALTH, interval_s))
    return parts | _whatever_serves(name, by_version)


def _mirrors(decided: ServicePolicy, instances: list[Instance], parts: Json) -> Json:
    """A target for each lane whose calls are copied: retried inside, so that a call is copied once."""
    name = decided.name
    made: Json = {}
    for rule in decided.rules:
        copied_to = [one for one in instances if one.version == rule.mirror and one.live]
        for lane in rule.lanes if copied_to else ():
            plain = parts.get(version_target(name, lane.version))
            if lane.version == rule.mirror or not isinstance(plain, dict):
                continue
            target = mirror_target(name, lane.version, rule.mirror)
            copies = {"name": f"{target}.copies", "percent": 100}
            made[target] = {
                "mirroring": {"service": f"{target}.main", "maxBodySize": MAX_COPIED_BYTES, "mirrors": [copies]}
            }
            made[f"{target}.main"] = {"middlewares": ["retry"], **plain}
            # A balancer of its own, without checks: that copies fail must not take an instance from those who call it.
            made[f"{target}.copies"] = {"middlewares": ["copies", "copy"], **_balancer(copied_to)}
    return made


def _whatever_serves(name: str, by_version: Mapping[str, list[Instance]]) -> Json:
    if not by_version:
        return {}
    everyone = [
        {"name": f"{version_target(name, version)}.lb", "weight": len(members)}
        for version, members in by_version.items()
    ]
    last = _balancer([one for members in by_version.values() for one in members])
    return {
        f"{name}.any": _failover(f"{name}.all", f"{name}.last"),
        f"{name}.all": {"weighted": {"healthCheck": {}, "services": everyone}},
        # Every check says no: ask all the same. On a starved machine, or after broken uploads, they are wrong.
        f"{name}.last": last,
    }


def _router(value: str, service: str) -> Json:
    router: Json = {"parentRefs": PARENTS, "rule": f"Header(`X-Tekup-Route`, `{value}`)", "service": service}
    return router if "~" in service else {**router, "middlewares": ["retry"]}


def _nobody() -> Json:
    return {PLACEHOLDER: _router("~placeholder", "nobody")}


def _failover(service: str, fallback: str) -> Json:
    return {"failover": {"service": service, "fallback": fallback}}


def _balancer(members: list[Instance], **checks: Json) -> Json:
    servers = [{"url": one.url} for one in members]
    return {"loadBalancer": {"serversTransport": "instances", "servers": servers, **checks}}


def _check(path: str, interval_s: int) -> Json:
    return {"path": path, "interval": f"{interval_s}s", "unhealthyInterval": "1s", "timeout": f"{CHECK_TIMEOUT_S}s"}


def routers_of(document: Mapping[str, object]) -> frozenset[str]:
    """Names of the routers a routes document defines."""
    return frozenset(_part(document, "routers"))


def union(old: Mapping[str, object], new: Mapping[str, object]) -> Json:
    """New routes with everything of the old ones that the new do not define: what stands while targets depart."""
    parts = {}
    for part in ("routers", "services"):
        merged = _part(old, part) | _part(new, part)
        if part == "routers" and len(merged) > 1:
            merged.pop(PLACEHOLDER, None)
        if merged:
            parts[part] = merged
    return {"http": parts}


def without(routes: Mapping[str, object], names: Collection[str]) -> Mapping[str, object]:
    """Routes without some of their routers; the services of these may stand, as nobody leads to them."""
    routers = _part(routes, "routers")
    if not routers.keys() & set(names):
        return routes
    kept = {name: router for name, router in routers.items() if name not in names}
    services = _part(routes, "services")
    return {"http": {"routers": kept or _nobody(), **({"services": services} if services else {})}}


def _part(document: Mapping[str, object], part: str) -> Json:
    http = document.get("http")
    found = http.get(part) if isinstance(http, dict) else None
    return dict(found) if isinstance(found, dict) else {}
