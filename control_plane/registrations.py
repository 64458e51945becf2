"""What the catalog's registrations are taken for: an instance, or nobody.

Whoever may register a service may write anything into its registration. Nothing of it reaches Traefik but address, port
and names that were checked here; what does not look like an instance's own registration is refused, and said.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from control_plane.errors import Refused
from control_plane.model import Instance, InstanceState, check_name

log = logging.getLogger(__name__)

NAME = r"[a-z0-9][a-z0-9-]{0,62}"
HOST_NAME = r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}\.)*[A-Za-z0-9-]{0,63}"
NOT_CONNECTED = "dial tcp"
"""In what Consul writes of a check that found nobody listening (Consul 1.22.5); whoever answers too late is there."""
MOST_SHOWN = 200
"""Refused registrations that are kept by name; whoever makes more of them is known by then."""


class Registrations:
    """Reads registrations, and remembers the refused ones; each is said once, and again when its reason changes."""

    def __init__(self) -> None:
        self._refused: dict[str, dict[str, str]] = {}

    def refused(self) -> dict[str, int]:
        """How many of each service's registrations are refused now; services without any are left out."""
        return {service: len(mine) for service, mine in self._refused.items() if mine}

    def only(self, services: Collection[str]) -> None:
        """Forget what was refused of services that have left the catalog."""
        self._refused = {service: mine for service, mine in self._refused.items() if service in services}

    def of(self, service: str, nodes: list[Mapping[str, Any]]) -> tuple[Instance, ...]:
        """The instances among all registrations of a service, sorted."""
        before, found = self._refused.get(service, {}), []
        now: dict[str, str] = {}
        for node in nodes:
            at = str((node.get("Service") or {}).get("ID"))[:MOST_SHOWN]
            try:
                found.append(_instance(service, node))
            except (KeyError, TypeError, ValueError, Refused) as error:
                now[at] = str(error)[:MOST_SHOWN]
        for at, why in list(now.items())[:MOST_SHOWN]:
            if before.get(at) != why:
                log.warning("registration.refused", extra={"registered": service, "id": at, "why": why})
        self._refused[service] = now
        return tuple(sorted(found))


def gate_urls(nodes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The private entrypoint of each gate among all registrations of gates, by its id."""
    found = {}
    for node in nodes:
        try:
            gate = check_name(str((node.get("ServiceMeta") or {})["gate"]), NAME, "gate")
            address = _address(node.get("ServiceAddress") or node["Address"])
            found[gate] = f"http://{address}:{_port(node.get('ServicePort'))}"
        except (KeyError, Refused) as error:
            log.warning(
                "registration.refused", extra={"registered": "gate", "id": node.get("ServiceID"), "why": str(error)}
            )
    return found


def _instance(service: str, node: Mapping[str, Any]) -> Instance:
    registered = node["Service"]
    meta = registered.get("Meta") or {}
    instance = Instance(
        service=service,
        version=check_name(str(meta.get("version")), r"[0-9A-Za-z.]{1,32}", "version"),
        id=check_name(str(meta.get("instance")), r"[0-9a-f]{6}", "instance"),
        address=_address(registered.get("Address") or node["Node"]["Address"]),
        port=_port(registered.get("Port")),
        state=InstanceState(meta.get("state", "serving")),
        passing=all(check["Status"] != "critical" for check in node["Checks"]),
        started=str(meta.get("started", ""))[:MOST_SHOWN],
        dead=any(
            check["Status"] == "critical" and NOT_CONNECTED in check.get("Output", "") for check in node["Checks"]
        ),
    )
    _refuse_disguises(instance, registered, meta)
    return instance


def _refuse_disguises(instance: Instance, registered: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    wanted = f"mcp-{instance.service}-{instance.id}"
    if registered.get("ID") != wanted:
        raise Refused(f"its id is not {wanted}, as its own meta says")
    if registered.get("Kind"):
        raise Refused(f"it is a {registered['Kind']}, and no instance")
    if tags := registered.get("Tags"):
        raise Refused(f"it has {len(tags)} tags; instances have none, and Traefik reads none")
    if foreign := sorted(str(key) for key in meta if str(key).lower().startswith("traefik")):
        raise Refused(f"its meta {foreign[0][:60]!r} means nothing here; Traefik reads none")


def _address(text: object) -> str:
    try:
        address = ip_address(str(text))
    except ValueError:
        # It ends up in Traefik's configuration, which is a template: nothing but a host name may pass.
        return check_name(str(text), HOST_NAME, "address")
    return str(address) if address.version == 4 else f"[{address}]"


def _port(number: object) -> int:
    if isinstance(number, int) and 0 < number < 65536:
        return number
    raise Refused(f"port {number!r} is not a port")
