"""One connection to a bridged server: handshake in either era, requests as on the wire, progress, signs of life.

Every failure comes out as `MCPError` where the server said it, and as `Lost` where the connection or the server is what
failed. Requests and results stay as they are on the wire, so that what the SDK's models do not know gets through.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import anyio
import httpx2
from mcp import ClientSession, MCPError
from mcp.client.auth import OAuthFlowError
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    encode_header_value,
)
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    PROTOCOL_VERSION_META_KEY,
    REQUEST_TIMEOUT,
    Implementation,
    PromptListChangedNotification,
    ResourceListChangedNotification,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from observability.telemetry import traces
from services.bridge.child import Link, Usage
from services.bridge.declaration import BadDeclaration, Declaration, Era
from services.bridge.wire import CLOSED, Wire

__all__ = ["Connect", "Lost", "Peer", "Progress"]

logger = logging.getLogger(__name__)

Progress = ProgressFnT
Connect = Callable[[Declaration], AbstractAsyncContextManager[Link]]
_CHANGED: Final = (ToolListChangedNotification, PromptListChangedNotification, ResourceListChangedNotification)
_NAMED: Final[Mapping[str, str]] = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_SESSION_GONE: Final = re.compile(r"session.*(terminated|not found|expired|unknown)|(unknown|invalid) session", re.I)
WHY_WITHIN_S: Final = 2.0
_REASON_CHARS: Final = 300


class Lost(Exception):
    """The server did not answer, and it is its or the connection's fault.

    Args:
        reason: Why, as a sentence about it.
        ran: Whether the request may have run.
    """

    def __init__(self, reason: str, *, ran: bool) -> None:
        super().__init__(reason)
        self.ran = ran


class Peer:
    """A connection; `live` is its life, in a task of its own.

    Args:
        declaration: To what.
        connect: Connects.
        version: The bridge's version, told to the server.
        changed: Called when the server says that its lists have changed.
    """

    def __init__(
        self, declaration: Declaration, connect: Connect, version: str, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._declaration = declaration
        self._connect = connect
        self._info = Implementation(name="tekup-bridge", version=version)
        self._changed = changed
        self._dispatcher: JSONRPCDispatcher[Any] | None = None
        self._link: Link | None = None
        self._closing = asyncio.Event()
        self._modern = False
        self._version = ""
        self._unanswered_since: float | None = None
        self.expired = False
        self.capabilities: Mapping[str, Any] = {}
        self.instructions = ""
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()
        self.problem = ""

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.connected.is_set() and not self.ended.is_set() and not self._closing.is_set()

    @property
    def usage(self) -> Usage:
        """What the child uses."""
        return self._link.usage() if self._link is not None else Usage()

    def overdue(self, for_s: float) -> bool:
        """Whether it was asked and has not said anything for so long."""
        since = self._unanswered_since
        return since is not None and time.monotonic() - since >= for_s

    def close(self, problem: str = "") -> None:
        """Begin to end it."""
        self.problem = self.problem or problem
        self._closing.set()

    async def live(self) -> None:
        """From connecting to the last of the child; `problem` says afterwards why it ended."""
        try:
            async with self._connect(self._declaration) as link:
                self._link = link
                dispatcher = self._dispatcher = JSONRPCDispatcher[Any](link.read, link.write)
                async with ClientSession(
                    dispatcher=dispatcher, message_handler=self._on_message, client_info=self._info
                ) as session:
                    await self._introduce(session, link)
                    self.connected.set()
                    await _first(link.ended.wait(), self._closing.wait())
                    self._note(link)
        except (
            BadDeclaration, OSError, MCPError, OAuthFlowError, httpx2.HTTPError, ValidationError, RuntimeError,
        ) as error:  # fmt: skip
            self.problem = self.problem or self._told(error)
        except BaseExceptionGroup as group:
            self.problem = self.problem or self._told(_leaf(group))
            if group.subgroup(asyncio.CancelledError) is not None:
                raise
        finally:
            self.ended.set()

    def _note(self, link: Link) -> None:
        if link.ended.is_set() and not self._closing.is_set():
            self.problem = self.problem or link.why()

    def _told(self, error: BaseException) -> str:
        link = self._link
        if link is not None and link.ended.is_set():
            return link.why()
        return f"it cannot be used: {str(error)[:_REASON_CHARS] or type(error).__name__}"

    async def _introduce(self, session: ClientSession, link: Link) -> None:
        """The handshake; old servers do not bear to be asked anything before it, so it is tried first."""
        try:
            async with asyncio.timeout(self._declaration.start_s):
                over = asyncio.create_task(link.ended.wait())
                greeting = asyncio.create_task(self._greet(session))
                try:
                    await asyncio.wait({over, greeting}, return_when=asyncio.FIRST_COMPLETED)
                    if not greeting.done():
                        raise MCPError(CONNECTION_CLOSED, link.why())
                    error = greeting.exception()
                    if isinstance(error, MCPError) and error.error.message != CLOSED:
                        self.problem = self.problem or self._told(error)  # now, since the end that follows is ours
                    greeting.result()
                finally:
                    for task in (over, greeting):
                        task.cancel()
                    await asyncio.gather(over, greeting, return_exceptions=True)
        except TimeoutError:
            self.problem = f"it did not answer the handshake within {self._declaration.start_s:g} s"
            raise MCPError(REQUEST_TIMEOUT, self.problem) from None
        self._version = session.protocol_version or ""
        self._modern = self._version in MODERN_PROTOCOL_VERSIONS
        capabilities = session.server_capabilities
        self.capabilities = capabilities.model_dump(by_alias=True, exclude_none=True) if capabilities else {}
        self.instructions = session.instructions or ""

    async def _greet(self, session: ClientSession) -> None:
        era = self._declaration.era
        if era is not Era.MODERN:
            try:
                await session.initialize()
            except MCPError as error:
                if era is Era.LEGACY or error.error.message == CLOSED:
                    raise
            else:
                return
        while True:  # until the start's own deadline: the SDK gives up after ten seconds, and some begin slowly
            try:
                await session.discover()
            except MCPError as error:
                if error.error.code != REQUEST_TIMEOUT:
                    raise
            else:
                return

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        capabilities: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        deadline_s: float,
    ) -> dict[str, Any]:
        """Send one request and wait for its result; whoever stops waiting has cancelled it.

        Args:
            method: JSON-RPC method.
            params: Its parameters.
            headers: `Mcp-Param-*`, for a modern server at a URL.
            capabilities: The caller's, for a modern server, which may answer that it needs something of it.
            progress: Told of progress meanwhile.
            deadline_s: The most it may take.

        Raises:
            MCPError: The server refused.
            Lost: It did not answer.
        """
        if self._dispatcher is None or not self.alive:
            raise Lost(self.problem or "it is not connected", ran=False)
        options: CallOptions = {"headers": {MCP_PROTOCOL_VERSION_HEADER: self._version}}
        if progress is not None:
            options["on_progress"] = self._noting(progress)
        sent = dict(params)
        if self._modern:
            sent["_meta"] = {**(sent.get("_meta") or {}), **self._meta(capabilities or {})}
            options["headers"] |= {**_routing(method, sent), **(headers or {})}
        if self._unanswered_since is None:
            self._unanswered_since = time.monotonic()
        wire = self._link.wire if self._link is not None else None
        try:
            async with asyncio.timeout(deadline_s):
                if wire is not None and progress is None:
                    result = await _over(wire, method, sent)
                else:
                    result = await self._dispatcher.send_raw_request(method, sent, options)
        except TimeoutError:
            raise Lost(f"it did not answer within {deadline_s:g} s", ran=True) from None
        except MCPError as error:
            self._unanswered_since = None
            raise await self._explained(error) from error
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, httpx2.HTTPError) as error:
            raise Lost(str(error) or type(error).__name__, ran=True) from error
        self._unanswered_since = None
        return result

    async def sign_of_life(self, within_s: float) -> str | None:
        """Why it does not answer, None when it does. Any answer is one, a refusal too."""
        try:
            await self.request("server/discover" if self._modern else "ping", {}, deadline_s=within_s)
        except MCPError:
            return None
        except Lost as error:
            return str(error)
        return None

    async def _explained(self, error: MCPError) -> Exception:
        code, message = error.error.code, error.error.message
        # Servers use the same code for errors of their own.
        if code == CONNECTION_CLOSED and message == CLOSED:
            if self._link is not None:  # why comes a moment after its pipes have closed
                await _first(self._closing.wait(), self._link.ended.wait(), asyncio.sleep(WHY_WITHIN_S))
            ended = self._link is not None and self._link.ended.is_set()
            self.close(self._link.why() if self._link is not None and ended else message)
            return Lost(self.problem, ran=True)
        if code == INVALID_REQUEST and _SESSION_GONE.search(message):
            self.expired = True
            self.close("its session is over")
            return Lost("its session is over", ran=False)
        return error

    def _noting(self, tell: Progress) -> Progress:
        async def told(progress: float, total: float | None, message: str | None) -> None:
            self._unanswered_since = time.monotonic()
            await tell(progress, total, message)

        return told

    def _meta(self, capabilities: Mapping[str, Any]) -> dict[str, Any]:
        return {
            PROTOCOL_VERSION_META_KEY: self._version,
            CLIENT_INFO_META_KEY: self._info.model_dump(by_alias=True, exclude_none=True),
            CLIENT_CAPABILITIES_META_KEY: dict(capabilities),
        }

    async def _on_message(self, message: object) -> None:
        if isinstance(message, _CHANGED):
            self._changed()
        elif isinstance(message, Exception):
            logger.info("peer.garbage", extra={"reason": str(message)[:_REASON_CHARS]})


async def _over(wire: Wire, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A request on the child's pipes, with its place in the trace, as the SDK's dispatcher says it (SEP-414)."""
    name = params.get("name")
    with traces.span(f"MCP send {method} {name}" if name else f"MCP send {method}", client=True):
        place = traces.outgoing()
        sent = {**params, "_meta": {**(params.get("_meta") or {}), **place}} if place else params
        return await wire.request(method, sent)


def _routing(method: str, params: Mapping[str, Any]) -> dict[str, str]:
    headers = {MCP_METHOD_HEADER: method}
    name = params.get(_NAMED.get(method, ""))
    return {**headers, MCP_NAME_HEADER: encode_header_value(name)} if isinstance(name, str) else headers


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first


async def _first(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
