"""The door of `/mcp`: who calls, in which era, and every refusal as a JSON-RPC error.

Pure ASGI, because it is on the path of every call. In order: method, trust, era. Then the SDK; what it answers in plain
text or not at all (too large a body, a wrong Content-Type or Accept) is put into JSON-RPC on its way out.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.telemetry import traces
from services.common.activity import Activity
from services.common.call import CONTROL_PLANE_CLIENT, PROBE_CLIENT, restore_call, set_call
from services.common.drills import Drills
from services.common.jsonrpc import HEADER_MISMATCH, UNSUPPORTED_VERSION, Refusal, refuse
from services.common.metrics import Metrics
from services.common.telling import Telling
from services.common.trust import TRUST_HEADERS, Trust

__all__ = ["MAX_BODY_BYTES", "Front", "check_era", "read_away", "read_headers"]

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_READ_AWAY_BYTES: Final = 32 * 1024 * 1024
_READ_AWAY_S: Final = 5.0
_VERSION_HEADER: Final = MCP_PROTOCOL_VERSION_HEADER.encode()
_NAME_HEADER: Final = b"mcp-name"
_TRACEPARENT: Final = traces.TRACEPARENT.encode()
_DECIDING: Final = TRUST_HEADERS | {_VERSION_HEADER, _NAME_HEADER}
_PLAIN: Final = {
    400: "Content-Type must be application/json",
    405: "only POST is served here",
    406: "Accept must list both application/json and text/event-stream",
    413: f"the request body is larger than {MAX_BODY_BYTES} bytes; send less, or in parts",
    421: "this Host is not served; a stand-alone service answers localhost only",
}
# Not 503, which says that a call was not sent: this one had begun.
_STOPPING: Final = Refusal(
    502, 502, "the instance stopped before the call was done; it may have run, so look before you call again"
)


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that decide who calls and in which era, each once.

    Args:
        headers: The request's, names in lower case.

    Raises:
        Refusal: One of them is repeated: first-copy and last-copy readers would disagree.
    """
    said: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _DECIDING:
            if name in said:
                raise Refusal(400, HEADER_MISMATCH, f"{name.decode()} is given more than once; send it once")
            said[name] = value
    return said


def check_era(requested: str, *, legacy: bool) -> None:
    """Let through only the eras that are served.

    The SDK never validates `Mcp-*` of the legacy era, so an old version must end here (MCP specification 2026-07-28,
    basic/transports/streamable-http, note for intermediaries).

    Args:
        requested: `MCP-Protocol-Version`, "" for none.
        legacy: Whether the handshake era is served too.

    Raises:
        Refusal: Another era.
    """
    if requested in MODERN_PROTOCOL_VERSIONS:
        return
    if legacy and (not requested or requested in HANDSHAKE_PROTOCOL_VERSIONS):
        return
    served = (*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS) if legacy else MODERN_PROTOCOL_VERSIONS
    message = f"protocol version {requested or 'of the initialize handshake'} is not served here, only {served}"
    if requested in HANDSHAKE_PROTOCOL_VERSIONS or not requested:
        message += "; the gate serves older clients on the same URL"
    raise Refusal(400, UNSUPPORTED_VERSION, message, data={"supported": list(served), "requested": requested})


class Front:
    """ASGI application in front of the SDK's.

    Args:
        app: The SDK's.
        trust: Says who calls.
        activity: Told of every admitted request.
        metrics: Told of every refusal.
        drills: May refuse requests.
        legacy: Serve the handshake era too.
        whose: Headers that name this instance; the control plane gets them with every answer, for it asks one target
            and has to know whether another answered in its place.
        telling: Answers what the control plane asks of the instance itself; None for nothing.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        trust: Trust,
        activity: Activity,
        metrics: Metrics,
        drills: Drills,
        legacy: bool,
        whose: Sequence[tuple[bytes, bytes]] = (),
        telling: Telling | None = None,
    ) -> None:
        self._app = app
        self._trust = trust
        self._activity = activity
        self._metrics = metrics
        self._drills = drills
        self._legacy = legacy
        self._whose = tuple(whose)
        self._telling = telling
        metrics.in_flight.set_function(lambda: activity.in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            if scope["method"] != "POST":
                raise Refusal(405, 405, _PLAIN[405], headers=((b"allow", b"POST"),))
            headers = read_headers(scope["headers"])
            call = self._trust.call_of(headers)
            check_era(headers.get(_VERSION_HEADER, b"").decode("latin-1"), legacy=self._legacy)
            name = headers.get(_NAME_HEADER, b"").decode("latin-1")
            if status := self._drills.status(name, probe=call.client == PROBE_CLIENT):
                raise Refusal(status, status, "a drill refuses this call")
            # Before it counts as a call: nobody's load is what watching it costs.
            if (
                call.client == CONTROL_PLANE_CLIENT
                and self._telling
                and (tell := self._telling.asked(scope["headers"]))
            ):
                await self._telling.answer(tell, self._whose, receive, send)
                return
        except Refusal as refusal:
            self._metrics.refused.labels(str(refusal.status)).inc()
            await read_away(receive)
            await refuse(refusal, send)
            return
        token = set_call(call)
        # Of those who proved themselves above: that it is the gate's span makes it the parent, or a link (MCP.md, 4).
        joined = traces.join(_traceparent(scope["headers"])) if traces.tracing() else None
        whose = self._whose if call.client == CONTROL_PLANE_CLIENT else ()
        answer = _Answer(receive, send, None if call.copy else self._metrics, whose)
        task = self._activity.begin()
        try:
            await self._app(scope, answer.receive, answer.send)
        except asyncio.CancelledError:
            if not self._activity.was_cut_off(task):
                raise
            if not answer.started:
                await refuse(_STOPPING, send)
        finally:
            self._activity.end(task)
            traces.leave(joined)
            restore_call(token)


class _Answer:
    """Passes an answer on, and puts plain-text errors into JSON-RPC."""

    def __init__(
        self, receive: Receive, send: Send, metrics: Metrics | None, whose: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self._receive = receive
        self._send = send
        self._metrics = metrics
        self._whose = whose
        self.started = False
        self._replaced = False
        self._body_read = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._body_read = self._body_read or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            status: int = message["status"]
            if status >= 400:
                if self._metrics:
                    self._metrics.refused.labels(str(status)).inc()
                if not _is_json(message):
                    self._replaced = True
                    if not self._body_read:
                        await read_away(self._receive)
                    code = {400: -32600}.get(status, status)
                    await refuse(Refusal(status, code, _PLAIN.get(status, f"HTTP {status}")), self._send)
                    return
            if self._whose:
                message = {**message, "headers": [*message.get("headers", ()), *self._whose]}
        elif self._replaced:
            return
        await self._send(message)


async def read_away(receive: Receive) -> None:
    """Read the rest of a body, within bounds: a client that is still sending would see a reset, not the answer."""
    read = 0
    with anyio.move_on_after(_READ_AWAY_S):
        while read < _READ_AWAY_BYTES:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                return
            read += len(message.get("body", b""))


def _traceparent(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The one that the gate sent, which replaces a caller's."""
    for name, value in headers:
        if name == _TRACEPARENT:
            return value
    return b""


def _is_json(start: Message) -> bool:
    return any(name.lower() == b"content-type" and b"json" in value for name, value in start.get("headers", ()))
