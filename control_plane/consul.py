"""Consul behind :mod:`control_plane.ports`: the one place that knows py-consul and its errors."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast
from urllib.parse import urlsplit

import aiohttp
import consul.aio
from consul.callback import CB
from consul.exceptions import ACLPermissionDenied, ClientError, ConsulException

from control_plane.errors import Fenced, Overtaken, Unavailable
from control_plane.model import Instance
from control_plane.ports import Entry, Fence, Listing, Write
from control_plane.registrations import Registrations, gate_urls
from control_plane.tokens import Token, TokenFile

MOST_CONNECTIONS = 800
"""A watch of each service holds one; aiohttp's own bound of 100 let leases wait behind those of a hundred services."""
T = TypeVar("T")

SERVICE_PREFIX = "mcp-"
SERVICE = r"[a-z][a-z0-9-]{0,31}"
# Callers of the gate's internal entrypoint that are no services.
RESERVED = frozenset({"control-plane"})
ANSWER_MARGIN_S = 3.0
FILTERED = "X-Consul-Results-Filtered-By-ACLs"


class Consul:
    """Store, sessions and catalog on one Consul agent.

    Args:
        url: The agent's HTTP API, ``http://127.0.0.1:8500``.
        timeout_s: How long an answer may take beyond what a blocking read asked for.
        token: The token to show, where Consul asks for one.
        ca_file: Whom to trust besides the machine's own authorities, for ``https``.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = ANSWER_MARGIN_S,
        token: TokenFile | None = None,
        ca_file: Path | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._timeout_s = timeout_s
        self._token = token
        self._accepted_s = 0.0
        self._registrations = Registrations()
        secure = parts.scheme == "https"
        with warnings.catch_warnings():
            # py-consul hands aiohttp two arguments that it calls deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._client = consul.aio.Consul(
                host=parts.hostname,
                port=parts.port or (443 if secure else 80),
                scheme=parts.scheme,
                verify=str(ca_file) if secure and ca_file else secure,
                connections_limit=MOST_CONNECTIONS,
            )

    def refused_registrations(self) -> dict[str, int]:
        """How many registrations of each service are taken for nobody now."""
        return self._registrations.refused()

    @property
    def token_accepted_s(self) -> float:
        """When the newest token that Consul has accepted was put into its file, seconds since the epoch; 0 for none."""
        return self._accepted_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.http.close()

    async def read(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> Listing:
        # py-consul's own kv.get does not tell an empty prefix from one that is hidden from this token.
        index, found = await self._listing("Value", prefix, [("recurse", "1")], after, wait_s)
        entries = {
            item["Key"].removeprefix(prefix): Entry(
                item["Value"] or b"", int(item["ModifyIndex"]), str(item.get("Session") or "")
            )
            for item in found or ()
        }
        return Listing(int(index), entries)

    async def index(self, prefix: str, *, after: int = 0, wait_s: float = 0) -> int:
        # Names up to the next slash: of all that lies there it is one, and the index is that of all.
        names = [("keys", "1"), ("separator", "/")]
        index, _ = await self._listing(False, prefix.removesuffix("/"), names, after, wait_s)
        return int(index)

    async def _listing(
        self, decode: str | Literal[False], path: str, asked: Sequence[tuple[str, str]], after: int, wait_s: float
    ) -> tuple[str, list[Any]]:
        blocking = [("index", str(after)), ("wait", f"{wait_s:g}s")] if after else []
        return await self._call(
            lambda: self._client.http.get(
                lambda response: _listed(response, decode),
                f"/v1/kv/{path}",
                params=[*asked, *blocking],
                headers=self._client.prepare_headers(),
            ),
            wait_s,
        )

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
        services = frozenset(name for name in found if re.fullmatch(SERVICE, name) and name not in RESERVED)
        self._registrations.only(services)
        return int(index), services

    async def instances(self, service: str, *, after: int = 0, wait_s: float = 0) -> tuple[int, tuple[Instance, ...]]:
        index, nodes = await self._call(
            lambda: self._client.health.service(f"{SERVICE_PREFIX}{service}", index=after or None, wait=f"{wait_s:g}s"),
            wait_s,
        )
        return int(index), self._registrations.of(service, nodes or [])

    async def register_gate(self, gate: str, address: str, port: int, check_url: str) -> None:
        """Show a gate in the catalog, for discovery by Prometheus and people."""
        await self._call(
            lambda: self._client.agent.service.register(
                "tekup-gate",
                service_id=f"tekup-gate-{gate}",
                address=address,
                port=port,
                # Registered with the token, so whoever rotates tokens sees here which one is in use.
                meta={"gate": gate, "token": f"{self._now().written_s:.3f}"},
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
        return gate_urls(nodes or ())

    async def _call(self, request: Callable[[], Awaitable[T]], wait_s: float = 0) -> T:
        shown = self._now()
        self._client.token = shown.secret or None
        # Consul adds up to wait/16 of jitter to a blocking read.
        deadline_s = wait_s * 17 / 16 + self._timeout_s
        try:
            async with asyncio.timeout(deadline_s):
                answer = await request()
            self._accepted_s = max(self._accepted_s, shown.written_s)
            return answer
        except TimeoutError as error:
            raise Unavailable(f"Consul at {self._url} did not answer within {deadline_s:.0f} s") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"Consul at {self._url} cannot be reached: {error}") from error
        except consul.exceptions.NotFound as error:
            raise _Gone(f"Consul at {self._url} does not know it: {error}") from error
        except ACLPermissionDenied as error:
            raise Unavailable(f"Consul at {self._url} refuses it: {error}; see MCP_CONSUL_TOKEN_FILE") from error
        except (ConsulException, ValueError) as error:
            raise Unavailable(f"Consul at {self._url} answered: {error}") from error

    def _now(self) -> Token:
        return self._token.current() if self._token else _NO_TOKEN


_NO_TOKEN = Token("", 0.0)


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


def _listed(response: Any, decode: str | Literal[False]) -> tuple[str, list[Any]]:
    index, found = CB.json(decode=decode, index=True)(response)
    if not found and response.headers.get(FILTERED) == "true":
        raise ACLPermissionDenied("what lies there is hidden from this token")
    return index, found or []


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
