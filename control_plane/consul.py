"""Consul behind :mod:`control_plane.ports`: the one place that knows py-consul and its errors."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Self, TypeVar, cast
from urllib.parse import urlsplit

import aiohttp
import consul.aio
from consul.callback import CB
from consul.exceptions import ClientError, ConsulException

from control_plane.errors import Fenced, Overtaken, Refused, Unavailable
from control_plane.model import Instance, InstanceState, check_name
from control_plane.ports import Entry, Fence, Listing, Write

T = TypeVar("T")
log = logging.getLogger(__name__)

SERVICE_PREFIX = "mcp-"
SERVICE = r"[a-z][a-z0-9-]{0,31}"
NAME = r"[a-z0-9][a-z0-9-]{0,62}"
# Callers of the gate's internal entrypoint that are no services.
RESERVED = frozenset({"control-plane"})
HOST_NAME = r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}\.)*[A-Za-z0-9-]{0,63}"
ANSWER_MARGIN_S = 3.0


class Consul:
    """Store, sessions and catalog on one Consul agent.

    Args:
        url: The agent's HTTP API, ``http://127.0.0.1:8500``.
        timeout_s: How long an answer may take beyond what a blocking read asked for.
    """

    def __init__(self, url: str, *, timeout_s: float = ANSWER_MARGIN_S) -> None:
        parts = urlsplit(url)
        self._url = url
        self._timeout_s = timeout_s
        self._client = consul.aio.Consul(
            host=parts.hostname, port=parts.port, scheme=parts.scheme, verify=parts.scheme == "https"
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.http.close()

    async def read(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> Listing:
        index, found = await self._call(
            lambda: self._client.kv.get(prefix, recurse=True, index=after or None, wait=f"{wait_s:g}s"), wait_s
        )
        entries = {
            item["Key"].removeprefix(prefix): Entry(
                item["Value"] or b"", int(item["ModifyIndex"]), str(item.get("Session") or "")
            )
            for item in found or ()
        }
        return Listing(int(index), entries)

    async def commit(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
        operations = [_operation(write) for write in writes]
        if fence:
            operations.insert(0, {"KV": {"Verb": "check-session", "Key": fence.key, "Session": fence.session}})
        # py-consul's own txn.put sends no token, so the request is made from its parts.
        try:
            answer = await self._call(
                lambda: self._client.http.put(
                    _transaction_outcome, "/v1/txn", headers=self._client.prepare_headers(), data=json.dumps(operations)
                )
            )
        except Unavailable as error:
            raise Unavailable(f"{error}; the change may or may not be written: read it again") from error
        _raise_for(answer, fence)

    async def open_session(self, name: str, ttl_s: int, *, keys_go_too: bool = False) -> str:
        # py-consul refuses a TTL below 10 s, which servers allow by session_ttl_min.
        behavior = "delete" if keys_go_too else "release"
        body = json.dumps({"Name": name, "TTL": f"{ttl_s}s", "LockDelay": "0s", "Behavior": behavior})
        session = await self._call(
            lambda: self._client.http.put(
                CB.json(is_id=True), "/v1/session/create", headers=self._client.prepare_headers(), data=body
            )
        )
        return str(session)

    async def renew_session(self, session: str) -> bool:
        try:
            await self._call(lambda: self._client.session.renew(session))
        except _Gone:
            return False
        return True

    async def close_session(self, session: str) -> None:
        await self._call(lambda: self._client.session.destroy(session))

    async def lock(self, key: str, value: bytes, session: str) -> bool:
        return bool(await self._call(lambda: self._client.kv.put(key, value, acquire=session)))

    async def service_names(self, *, after: int = 0, wait_s: float = 0) -> tuple[int, frozenset[str]]:
        index, names = await self._call(
            lambda: self._client.catalog.services(index=after or None, wait=f"{wait_s:g}s"), wait_s
        )
        found = (name.removeprefix(SERVICE_PREFIX) for name in names if name.startswith(SERVICE_PREFIX))
        # Whoever may register may choose a name; one that makes no sense is nobody's service.
        return int(index), frozenset(name for name in found if re.fullmatch(SERVICE, name) and name not in RESERVED)

    async def instances(self, service: str, *, after: int = 0, wait_s: float = 0) -> tuple[int, tuple[Instance, ...]]:
        index, nodes = await self._call(
            lambda: self._client.health.service(f"{SERVICE_PREFIX}{service}", index=after or None, wait=f"{wait_s:g}s"),
            wait_s,
        )
        found = (_instance(service, node) for node in nodes or ())
        return int(index), tuple(sorted(instance for instance in found if instance))

    async def register_gate(self, gate: str, address: str, port: int, check_url: str) -> None:
        """Show a gate in the catalog, for discovery by Prometheus and people."""
        await self._call(
            lambda: self._client.agent.service.register(
                "tekup-gate",
                service_id=f"tekup-gate-{gate}",
                address=address,
                port=port,
                meta={"gate": gate},
                check={
                    "http": check_url,
                    "interval": "2s",
                    "timeout": "2s",
                    "deregister_critical_service_after": "10m",
                },
            )
        )

    async def gate_urls(self) -> dict[str, str]:
        """The private entrypoint of each gate in the catalog, by its id."""
        _, nodes = await self._call(lambda: self._client.catalog.service("tekup-gate"))
        return {gate: url for node in nodes or () for gate, url in _gate(node)}

    async def _call(self, request: Callable[[], Awaitable[T]], wait_s: float = 0) -> T:
        # Consul adds up to wait/16 of jitter to a blocking read.
        deadline_s = wait_s * 17 / 16 + self._timeout_s
        try:
            async with asyncio.timeout(deadline_s):
                return await request()
        except TimeoutError as error:
            raise Unavailable(f"Consul at {self._url} did not answer within {deadline_s:.0f} s") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"Consul at {self._url} cannot be reached: {error}") from error
        except consul.exceptions.NotFound as error:
            raise _Gone(f"Consul at {self._url} does not know it: {error}") from error
        except (ConsulException, ValueError) as error:
            raise Unavailable(f"Consul at {self._url} answered: {error}") from error


class _Gone(Unavailable):
    """Consul answered 404 where something should have been."""


def _operation(write: Write) -> dict[str, dict[str, object]]:
    key: dict[str, object] = {"Key": write.key}
    if write.value is not None:
        key["Value"] = base64.b64encode(write.value).decode()
    if write.expected_index is None:
        verb = "delete" if write.value is None else "set"
    else:
        verb = "delete-cas" if write.value is None else "cas"
        key["Index"] = write.expected_index
    return {"KV": {"Verb": verb, **key}}


def _transaction_outcome(response: Any) -> Mapping[str, Any]:
    if response.code in (200, 409):
        return cast("Mapping[str, Any]", json.loads(response.body))
    raise ClientError(f"{response.code} {response.body}")


def _raise_for(answer: Mapping[str, Any], fence: Fence | None) -> None:
    errors = answer.get("Errors") or ()
    if not errors:
        return
    said = "; ".join(str(error["What"]) for error in errors)
    if fence and any(error["OpIndex"] == 0 for error in errors):
        raise Fenced(f"the session that holds {fence.key} is gone, nothing was written ({said})")
    raise Overtaken(f"it was changed by somebody else in the meantime, nothing was written ({said}); read it again")


def _instance(service: str, node: Mapping[str, Any]) -> Instance | None:
    registered = node["Service"]
    meta = registered.get("Meta") or {}
    try:
        return Instance(
            service=service,
            version=check_name(str(meta.get("version")), r"[0-9A-Za-z.]{1,32}", "version"),
            id=check_name(str(meta.get("instance")), r"[0-9a-f]{6}", "instance"),
            address=_address(registered.get("Address") or node["Node"]["Address"]),
            port=_port(registered.get("Port")),
            state=InstanceState(meta.get("state", "serving")),
            passing=all(check["Status"] != "critical" for check in node["Checks"]),
            admin_port=_admin_port(str(meta.get("admin", ""))),
        )
    except (KeyError, TypeError, ValueError, Refused) as error:
        log.warning("registration.ignored", extra={"id": registered.get("ID"), "why": str(error)})
        return None


def _gate(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        gate = check_name(str((node.get("ServiceMeta") or {})["gate"]), NAME, "gate")
        address = _address(node.get("ServiceAddress") or node["Address"])
        yield gate, f"http://{address}:{_port(node.get('ServicePort'))}"
    except (KeyError, Refused) as error:
        log.warning("registration.ignored", extra={"id": node.get("ServiceID"), "why": str(error)})


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


def _admin_port(text: str) -> int:
    """0 for what is no port: calls do not need it, so an instance is not lost for it."""
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65536 else 0
