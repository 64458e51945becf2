"""The short way of a tool call: one JSON body in, one out, past the SDK's machinery.

For a tool that does little, what the SDK does around each call (tasks, streams, models, middleware) is half of it.
Whatever is not plain goes the SDK's way, as if it had never been looked at: other methods, progress, copies and their
originals, tools that may ask their caller something, and all that is wrong, so that it is refused as ever. Callers of
the handshake era come by it too where the server serves them: for those the SDK makes a whole connection around a call.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from mcp import MCPError
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.runner import modern_error_data
from mcp.server.streamable_http import check_accept_headers
from mcp.server.transport_security import TransportSecurityMiddleware
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_METHOD_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
    validate_mcp_param_headers,
)
from mcp_types import (
    CORE_RESULT_TYPES,
    DEFAULT_NEGOTIATED_VERSION,
    INTERNAL_ERROR,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    CallToolResult,
)
from mcp_types.methods import serialize_server_result, validate_client_request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.telemetry import traces
from services.common.call import current_call
from services.common.kit import Direct, Plain
from services.common.server import Guard

__all__ = ["Short"]

CALL: Final = "tools/call"
MAX_BYTES: Final = 1 << 20
"""A longer body goes the other way, which reads it with bounds of its own."""
PING_S: Final = 15.0
"""As the SDK: so long an answer is awaited before it becomes a stream, and between two signs of life in that."""
_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params"})
_PLAIN: Final = frozenset({"name", "arguments", "_meta"})
_JSON: Final = (b"content-type", b"application/json")
_STREAM: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Short:
    """ASGI application before the SDK's.

    Args:
        app: The SDK's, for all else.
        direct: The service's tools.
        guard: Holds calls to rights.
        server: Says who answered; its first middleware traces, its session manager says which Hosts are served.
        legacy: It serves the handshake era too.
    """

    def __init__(
        self, app: ASGIApp, direct: Direct, guard: Guard, server: Server[Any], *, legacy: bool = False
    ) -> None:
        self._app = app
        self._direct = direct
        self._guard = guard
        self._server = server
        self._legacy = legacy
        self._hosts = TransportSecurityMiddleware(server.session_manager.security_settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope)
        if not await self._may_be_plain(request):
            await self._app(scope, receive, send)
            return
        read = await _read(receive)
        if read[-1]["type"] == "http.disconnect":
            return
        if (asked := self._asked(request, read)) is None:
            await self._app(scope, _again(read, receive), send)
            return
        call = asyncio.create_task(self._answer(asked))
        gone = asyncio.create_task(_gone(receive))
        try:
            await _sent(call, gone, send, {} if _is_older(request) else ERROR_CODE_HTTP_STATUS)
        finally:
            for task in (call, gone):
                task.cancel()
            await asyncio.gather(call, gone, return_exceptions=True)

    async def _may_be_plain(self, request: Request) -> bool:
        """By its headers and who calls; before anything of it is read."""
        headers, call = request.headers, current_call()
        if call.copy or call.shadow:
            return False
        if _is_older(request):
            # The SDK is stricter with these: of the modern era it takes whatever begins so.
            if not self._legacy or headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return False
        elif headers.get(MCP_METHOD_HEADER) != CALL:
            return False
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdecimal()) or int(length) > MAX_BYTES:
            return False
        if len(headers) != len(set(headers.keys())) or check_accept_headers(request) != (True, True):
            return False
        return await self._hosts.validate_request(request, is_post=True) is None

    def _asked(self, request: Request, read: list[Message]) -> Plain | None:
        """The call if it is plain and may be made."""
        try:
            body: Any = json.loads(b"".join(message.get("body", b"") for message in read))
        except (ValueError, RecursionError):
            return None
        if not _is_plain(body):
            return None
        asked = _older(request, body) if _is_older(request) else self._modern(request, body)
        if asked is None:
            return None
        try:
            validate_client_request(CALL, asked.protocol_version, asked.params)
            self._guard.admit(CALL, asked.params, current_call())
        except (ValidationError, MCPError):
            return None
        return asked

    def _modern(self, request: Request, body: Mapping[str, Any]) -> Plain | None:
        """A call whose headers say what its body does."""
        params, headers = body["params"], dict(request.headers)
        if isinstance(classify_inbound_request(body, headers=headers), InboundLadderRejection):
            return None
        schema = self._direct.schema(params["name"])
        if schema is None or validate_mcp_param_headers(schema, params.get("arguments") or {}, headers) is not None:
            return None
        meta = params["_meta"]
        return Plain(params, meta[PROTOCOL_VERSION_META_KEY], body["id"], meta, request)

    async def _answer(self, asked: Plain) -> dict[str, Any]:
        """The JSON-RPC message that answers a call, whatever becomes of it."""
        said: dict[str, Any] = {"jsonrpc": "2.0", "id": asked.request_id}
        try:
            return said | {"result": await self._result(asked)}
        except Exception as error:  # the outermost of a call: told as the SDK tells it
            return said | {"error": modern_error_data(error).model_dump(mode="json", by_alias=True, exclude_none=True)}

    async def _result(self, asked: Plain) -> dict[str, Any]:
        version = asked.protocol_version
        if not traces.tracing() and traces.TRACEPARENT not in asked.meta:  # a log line names its caller's trace
            return self._shaped(await self._direct.call(asked), version)

        async def shaped(_: ServerRequestContext[Any, Any]) -> HandlerResult:
            return self._shaped(await self._direct.call(asked), version)

        context = cast("ServerRequestContext[Any, Any]", asked)
        return cast("dict[str, Any]", await self._server.middleware[0](context, shaped))

    def _shaped(self, result: CallToolResult | dict[str, Any], version: str) -> dict[str, Any]:
        """A result as the protocol's version has it, with who answered."""
        if isinstance(result, CallToolResult):
            shaped = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        else:
            shaped = dict(result)
        kind, modern = shaped.get("resultType"), version in MODERN_PROTOCOL_VERSIONS
        if not modern or not isinstance(kind, str) or kind in CORE_RESULT_TYPES:
            try:
                shaped = serialize_server_result(CALL, version, shaped)
            except ValidationError as error:
                raise MCPError(INTERNAL_ERROR, "Handler returned an invalid result") from error
        meta = shaped.get("_meta") or {}
        if modern and isinstance(meta, dict) and meta.get(SERVER_INFO_META_KEY) is None:
            shaped["_meta"] = {**meta, SERVER_INFO_META_KEY: self._server.server_info_stamp}
        return shaped


def _is_older(request: Request) -> bool:
    """Of the handshake era; before it said so in a header it said nothing."""
    return request.headers.get(MCP_PROTOCOL_VERSION_HEADER) not in MODERN_PROTOCOL_VERSIONS


def _older(request: Request, body: Mapping[str, Any]) -> Plain | None:
    """A call that says nothing of a later era."""
    params: Mapping[str, Any] = body["params"]
    meta = params.get("_meta", {})
    if PROTOCOL_VERSION_META_KEY in meta:
        return None
    version = request.headers.get(MCP_PROTOCOL_VERSION_HEADER, DEFAULT_NEGOTIATED_VERSION)
    return Plain(params, version, body["id"], meta, request)


def _is_plain(body: Any) -> bool:
    """Whether it is a request with an id, and its parameters those of a call that wants nothing meanwhile."""
    if not isinstance(body, dict) or body.keys() != _MEMBERS or body["jsonrpc"] != "2.0" or body["method"] != CALL:
        return False
    params, identity = body["params"], body["id"]
    if not isinstance(identity, str | int) or isinstance(identity, bool):
        return False
    if not isinstance(params, dict) or not params.keys() <= _PLAIN or not isinstance(params.get("name"), str):
        return False
    meta, arguments = params.get("_meta", {}), params.get("arguments", {})
    return isinstance(meta, dict) and "progressToken" not in meta and isinstance(arguments, dict)


async def _read(receive: Receive) -> list[Message]:
    read = [await receive()]
    while read[-1].get("more_body", False):
        read.append(await receive())
    return read


def _again(read: list[Message], receive: Receive) -> Receive:
    """What has been read, and then what comes."""
    left = iter(read)

    async def receive_again() -> Message:
        return next(left, None) or await receive()

    return receive_again


async def _gone(receive: Receive) -> None:
    """Until the caller is."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _written(message: Mapping[str, Any]) -> bytes:
    """A message in UTF-8, where the SDK escapes all but ASCII, twice as long; so goes only what is no text here."""
    try:
        return to_json(message, inf_nan_mode="null")
    except PydanticSerializationError:
        return json.dumps(message, separators=(",", ":")).encode()


async def _sent(
    call: "asyncio.Task[dict[str, Any]]", gone: "asyncio.Task[None]", send: Send, statuses: Mapping[int, int]
) -> None:
    """Send the answer when it is there: as JSON, or, where it is long in coming, at the end of a stream.

    Args:
        call: The answer.
        gone: Done when its caller is.
        send: ASGI.
        statuses: HTTP's for codes of errors.
    """
    streams = False
    while not (await asyncio.wait((call, gone), timeout=PING_S, return_when=asyncio.FIRST_COMPLETED))[0]:
        if not streams:
            streams = True
            await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
        await send({"type": "http.response.body", "body": b": ping\r\n\r\n", "more_body": True})
    if not call.done():
        return
    message = call.result()
    body = _written(message)
    if streams:
        body = b"event: message\r\ndata: " + body + b"\r\n\r\n"
    else:
        status = statuses.get(message.get("error", {}).get("code"), 200)
        headers = [_JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
