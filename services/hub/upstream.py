"""The gate's internal entrypoint, as the hub uses it: the one module here that knows aiohttp.

Every failure comes out as an `MCPError`: the gate's and the services' own errors with code, message and data kept, and
for everything below them one that names the service: 503 for what was never sent, 502 for what may have run.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from mcp import MCPError
from mcp.shared.inbound import encode_header_value
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    INVALID_PARAMS,
    PROTOCOL_VERSION_META_KEY,
    ProgressNotificationParams,
)
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import BaseModel, ConfigDict, ValidationError

from observability.telemetry.traces import outgoing, span, tracing

__all__ = ["Progress", "Upstream", "http_client"]

logger = logging.getLogger(__name__)

UNAVAILABLE: Final = 503
LOST: Final = 502
MAX_ANSWER_BYTES: Final = 64 << 20
MAX_OWN_ANSWER_BYTES: Final = 8 << 20  # lists and instructions
_NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_PROGRESS_TOKEN: Final = "p"  # noqa: S105  # one request per response stream, so any constant tells them apart
# A service answers or sends a keep-alive comment every 15 s; three missed ones mean nobody is there.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=5.0, sock_connect=2.0, sock_read=45.0)
_IDLE_S: Final = 60.0  # the gate keeps idle connections longer
MOST_PER_SERVICE: Final = 128
PLACE_WITHIN_S: Final = 2.0

Progress = Callable[[float, float | None, str | None], Awaitable[None]]
JsonObject = dict[str, Any]


class _Services(BaseModel):
    model_config = ConfigDict(extra="ignore")

    class _Service(BaseModel):
        stable: str = ""

    services: dict[str, _Service]


def http_client(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """A pooled client for the entrypoint; close it after use.

    Args:
        tls: With mutual TLS, whom we are and whom we expect.
    """
    # Each service has its places; a bound over all would let one service take them from the others.
    connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit=0, keepalive_timeout=_IDLE_S)
    # No proxy from the environment: the entrypoint is beside us, and the proof must not travel elsewhere.
    return aiohttp.ClientSession(
        connector=connector,
        timeout=_TIMEOUT,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept-Encoding",),  # it is beside us, and what is read is counted as it is sent
    )


class Upstream:
    """Modern requests to services, through the gate.

    Args:
        url: The internal entrypoint.
        proof: Makes the hub's proof to it; asked each time, since its key may be renewed.
        client: Pooled connections.
        version: The hub's version, told to the services.
        host: With mutual TLS, the name by which the entrypoint is asked for; the certificate is the proof then.
    """

    def __init__(
        self, url: str, proof: Callable[[], str], client: aiohttp.ClientSession, *, version: str, host: str = ""
    ) -> None:
        self._url = url
        self._client = client
        self._carried: dict[str, asyncio.Semaphore] = {}
        self._make_proof = proof
        self._host = host
        self._name = host or None
        self._meta = {
            PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION,
            CLIENT_CAPABILITIES_META_KEY: {},
            CLIENT_INFO_META_KEY: {"name": "tekup-hub", "version": version},
        }

    def _proof(self) -> dict[str, str]:
        if self._host:
            return {"host": self._host}
        return {"x-tekup-caller": "hub", "x-tekup-proof": self._make_proof()}

    async def services(self) -> dict[str, str]:
        """All services: name → stable target, "" while nobody serves it.

        Raises:
            MCPError: The gate cannot be asked.
        """
        try:
            async with self._client.get(
                f"{self._url}/tekup/services",
                headers=self._proof() | outgoing(quiet=True),
                server_hostname=self._name,
                allow_redirects=False,
            ) as answer:
                body = b"".join([chunk async for chunk in _bounded(answer, "the gate", MAX_OWN_ANSWER_BYTES)])
            if answer.status != HTTPStatus.OK:
                raise _error_of(answer.status, body, "the gate")
            found = _Services.model_validate_json(body)
        except (aiohttp.ClientError, ValidationError) as error:
            raise _unavailable("the gate's list of services", error) from error
        return {name: service.stable for name, service in found.services.items() if name != "hub"}

    async def request(
        self,
        service: str,
        method: str,
        params: Mapping[str, Any],
        *,
        name: str | None = None,
        grant: str | None = None,
        headers: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Send one request to `service` and wait for its result.

        Args:
            service: The service.
            method: JSON-RPC method.
            params: Its parameters; `_meta` is completed.
            name: What `Mcp-Name` carries, for the methods that have it.
            grant: The client's grant; None asks as the hub itself.
            headers: `Mcp-Param-*`.
            progress: Told of progress meanwhile.

        Returns:
            The result as on the wire.

        Raises:
            MCPError: The gate or the service refused, or could not be reached.
        """
        sent = {**self._proof(), **self._mcp_headers(method, name), **(headers or {})}
        if grant is not None:
            sent["x-tekup-grant"] = grant
        meta = {**(params.get("_meta") or {}), **self._meta}
        meta.pop("progressToken", None)
        if progress is not None:
            meta["progressToken"] = _PROGRESS_TOKEN
        if tracing():
            # It was the hub's parent. The service's is the gate's span of this request, or the trace would skip both.
            meta.pop("traceparent", None)
            meta.pop("tracestate", None)
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        with span(f"call {service}", client=True, tekup_service=service, tekup_method=method):
            return await self._sent(service, {**sent, **outgoing(quiet=True)}, body, progress, own=grant is None)

    async def _sent(
        self, service: str, headers: Mapping[str, str], body: JsonObject, progress: Progress | None, *, own: bool
    ) -> JsonObject:
        at_most = MAX_OWN_ANSWER_BYTES if own else MAX_ANSWER_BYTES
        try:
            async with (
                self._place(service),
                self._client.post(
                    f"{self._url}/{service}/mcp",
                    headers=headers,
                    data=json.dumps(body).encode(),
                    server_hostname=self._name,
                    allow_redirects=False,
                ) as answer,
            ):
                return await _result(answer, service, progress, at_most)
        except aiohttp.ClientError as error:
            raise _unavailable(service, error) from error

    @asynccontextmanager
    async def _place(self, service: str) -> AsyncIterator[None]:
        """One of the service's own places: a service that answers nothing holds up its callers and nobody else's."""
        places = self._carried.setdefault(service, asyncio.Semaphore(MOST_PER_SERVICE))
        try:
            async with asyncio.timeout(PLACE_WITHIN_S):
                await places.acquire()
        except TimeoutError:
            text = f"{service} already has {MOST_PER_SERVICE} calls of older clients waiting here; call again later"
            raise MCPError(UNAVAILABLE, text) from None
        try:
            yield
        finally:
            places.release()

    @staticmethod
    def _mcp_headers(method: str, name: str | None) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": LATEST_MODERN_VERSION,
            "mcp-method": method,
        }
        if name is not None:
            headers["mcp-name"] = encode_header_value(name)
        return headers


async def _result(answer: aiohttp.ClientResponse, service: str, progress: Progress | None, at_most: int) -> JsonObject:
    chunks = _bounded(answer, service, at_most)
    if not answer.headers.get("content-type", "").lower().startswith("text/event-stream"):
        return _unwrap(answer.status, b"".join([chunk async for chunk in chunks]), service)
    async for message in _events(chunks):
        if "id" in message:
            return _unwrap(answer.status, json.dumps(message).encode(), service)
        if progress is not None and message.get("method") == "notifications/progress":
            try:
                told = ProgressNotificationParams.model_validate(message.get("params"))
            except ValidationError:  # no reason to lose the call
                continue
            await progress(told.progress, told.total, told.message)
    raise MCPError(
        LOST, f"{service} ended its answer in the middle; the call may have run, so look before you call again"
    )


async def _bounded(answer: aiohttp.ClientResponse, service: str, at_most: int) -> AsyncIterator[bytes]:
    read = 0
    async for chunk in answer.content.iter_any():
        read += len(chunk)
        if read > at_most:
            logger.warning("upstream.too_large", extra={"service": service, "bytes": read})
            raise MCPError(LOST, f"{service} answered with more than {at_most} bytes; ask it for less")
        yield chunk


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[JsonObject]:
    """The messages of an event stream; ours send each as one `data:` line."""
    rest: list[bytes] = []
    async for chunk in chunks:
        *ended, tail = chunk.split(b"\n")
        for line in ended:
            message = _message(b"".join([*rest, line]))
            rest = []
            if message is not None:
                yield message
        rest.append(tail)


def _message(line: bytes) -> JsonObject | None:
    return _loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else None


def _unwrap(status: int, body: bytes, service: str) -> JsonObject:
    message = _loads(body)
    result = message.get("result") if message is not None else None
    if isinstance(result, dict):
        return result
    raise _error_of(status, body, service)


def _error_of(status: int, body: bytes, whose: str) -> MCPError:
    """The error an answer carries, else what its status says."""
    message = _loads(body) or {}
    error = message.get("error")
    if isinstance(error, dict) and isinstance(error.get("code"), int) and isinstance(error.get("message"), str):
        return MCPError(error["code"], error["message"], error.get("data"))
    logger.warning("upstream.no_jsonrpc", extra={"service": whose, "status": status})
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        text = f"{whose} was not called: the request is not acceptable (HTTP {status}), likely for an argument too long"
        return MCPError(INVALID_PARAMS, text)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return MCPError(UNAVAILABLE, f"{whose} did not answer in JSON-RPC (HTTP {status}); call again later")
    text = f"{whose} did not answer in JSON-RPC (HTTP {status}); the call may have run, so look before you call again"
    return MCPError(LOST, text)


def _unavailable(whose: str, error: Exception) -> MCPError:
    logger.warning("upstream.unreachable", extra={"service": whose, "reason": f"{type(error).__name__}: {error}"})
    if isinstance(error, _NEVER_SENT):
        return MCPError(UNAVAILABLE, f"{whose} cannot be reached now; call again later")
    return MCPError(LOST, f"the answer of {whose} was lost; the call may have run, so look before you call again")


def _loads(body: bytes) -> JsonObject | None:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
