"""The bridge as a service on the kit: handlers in front of the connections, readiness, what operators see."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from mcp import MCPError
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.inbound import mcp_param_headers, x_mcp_header_map
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    GetPromptRequestParams,
    PaginatedRequestParams,
    ReadResourceRequestParams,
)
from mcp_types.methods import is_input_required
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from services.bridge.child import Place, running
from services.bridge.declaration import Declaration
from services.bridge.metrics import BridgeMetrics
from services.bridge.names import rewritten, there_uri
from services.bridge.offer import Offer, read_offer
from services.bridge.peer import Lost, Peer, Progress
from services.bridge.pool import Down, Pool
from services.bridge.remote import connected
from services.common import Kit, ServiceSettings, ServiceSpec, ToolError, current_call
from services.common.background import beside
from services.common.cache import DISCOVER, Freshness
from services.common.call import CONTROL_PLANE_CLIENT, PROBE_CLIENT
from services.common.calls import Record, failed
from services.common.kit import Direct, Plain
from services.common.metrics import UNKNOWN_TOOL, Outcome
from services.common.rights import LISTS
from services.common.server import LIST_HINTS, PROBE_META
from services.common.soundness import Item

__all__ = ["Bridge", "BridgeSettings", "spec_of"]

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        method: JSON-RPC method.
        params: Its parameters, as on the wire.
        progress: Told of progress, where the caller wants it.
    """

    method: str
    params: Mapping[str, Any]
    progress: Progress | None = None

    @classmethod
    def by(cls, ctx: Context) -> "Asked":
        """The one that the SDK has read."""
        wanted = ctx.meta is not None and ctx.meta.get("progress_token") is not None
        return cls(ctx.method, ctx.params or {}, ctx.session.report_progress if wanted else None)


READ_AGAIN_S: Final = 60.0
"""Not every server says when its lists change."""
LIST_DEADLINE_S: Final = 15.0
DOWN: Final = 503
LOST: Final = 502
_OF_THE_HOP: Final = frozenset({HEADER_MISMATCH, UNSUPPORTED_PROTOCOL_VERSION})
"""Errors about one connection, which the caller's is not."""
_FAILURES: Final = (Down, Lost)


class BridgeSettings(ServiceSettings):
    """What a bridge is told beside the kit's settings: where its declaration is, and what it runs in.

    Attributes:
        file: The declaration.
        user: Whom children become where none is declared.
        proxy: A proxy's URL, the server's one way out.
    """

    model_config = SettingsConfigDict(env_prefix="MCP_BRIDGE_", frozen=True)

    file: Path
    user: str = ""
    proxy: str = Field(default="", pattern=r"^(https?://[^\s/]+/?)?$")


class Bridge:
    """Answers for one bridged server.

    Args:
        kit: Counts and logs its calls.
        declaration: What is bridged.
        place: Where.
    """

    def __init__(self, kit: Kit, declaration: Declaration, place: Place) -> None:
        self._kit = kit
        self._place = place
        self._declaration = declaration
        self._changed = asyncio.Event()
        self.offer = Offer()
        self.pool = Pool(declaration, self._make_peer, self._read)
        self._metrics = BridgeMetrics(
            kit.metrics.registry,
            children=self.pool.__len__,
            usage=self.pool.usage,
            quarantined=lambda: len(self.offer.bad),
        )
        self.pool.started = self._metrics.starts.inc
        self.pool.idled = self._metrics.ends.labels("idle").inc
        self.pool.failed = self._metrics.ends.labels("failed").inc
        self._server: Server[Any] = Server(kit.name, version=kit.version, cache_hints=LIST_HINTS)

    def server(self) -> Server[Any]:
        """The low-level server with every handler."""
        server = self._server
        for method in LISTS:
            server.add_request_handler(method, PaginatedRequestParams, self._list)
        server.add_request_handler("tools/call", CallToolRequestParams, self._call_tool)
        server.add_request_handler("prompts/get", GetPromptRequestParams, self._get_prompt)
        server.add_request_handler("resources/read", ReadResourceRequestParams, self._read_resource)
        server.add_request_handler("completion/complete", CompleteRequestParams, self._complete)
        return server

    async def freshness(self, ctx: Context) -> Freshness | None:
        """What the answer to a list or to discovery is made from."""
        return Freshness((self.offer,), shared=ctx.method == DISCOVER)

    def annotations(self, tool: str) -> Mapping[str, object] | None:
        """What a tool says of itself; None for no tool."""
        item = self.offer.tool(tool)
        return None if item is None else item.get("annotations") or {}

    async def problem(self) -> str | None:
        """Why the instance should get no calls: its server does not answer, or the declared call fails."""
        slot = self.pool.base
        if slot.peer is None or not slot.peer.alive:
            return f"{self._about}: {slot.problem or 'it is starting'}"
        if (silent := await slot.peer.sign_of_life(self._declaration.answer_s)) is not None:
            return f"{self._about}: {silent}"
        probe = self._declaration.probe
        if probe is None:
            return None
        try:
            result = await slot.peer.request(
                "tools/call",
                {"name": probe.tool, "arguments": probe.arguments},
                deadline_s=self._declaration.answer_s,
            )
        except (Lost, MCPError) as error:
            return f"probe {probe.tool}: {error}"
        return f"probe {probe.tool}: {str(result.get('content'))[:200]}" if result.get("isError") else None

    def state(self) -> dict[str, object]:
        """What operators see on `/state`."""
        slot, usage = self.pool.base, self.pool.usage()
        return {
            "bridged": self._declaration.url or list(self._declaration.command),
            "mode": self._declaration.mode.value,
            "children": len(self.pool),
            "problem": slot.problem,
            "usage": asdict(usage),
            "tools": dict(self.offer.tools),
            "quarantined": [asdict(one) for one in self.offer.bad],
        }

    async def keep_reading(self) -> None:
        """Read the lists anew whenever the server says that they changed, and now and then besides; until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(READ_AGAIN_S):
                    await self._changed.wait()
            self._changed.clear()
            if (peer := self.pool.base.peer) is not None and peer.alive:
                await self._read(peer)

    @property
    def _about(self) -> str:
        return "the server behind this bridge" if self._declaration.url else "the bridged server"

    def _make_peer(self) -> Peer:
        proxy = self._place.proxy
        connect = partial(connected, proxy=proxy) if self._declaration.url else partial(running, place=self._place)
        return Peer(self._declaration, connect, self._kit.version, self._changed.set)

    async def _read(self, peer: Peer) -> None:
        try:
            offer = await read_offer(self._kit.name, peer, LIST_DEADLINE_S)
        except (Lost, MCPError) as error:
            logger.warning("bridge.lists_unread", extra={"reason": str(error)})
            if not self.offer.lists:
                peer.close(f"its lists cannot be read: {error}")
            return
        if offer == self.offer:
            return
        for bad in offer.bad:
            if bad not in self.offer.bad:
                logger.warning("bridge.quarantined", extra=asdict(bad))
        self.offer = offer
        self._server.instructions = self._declaration.instructions or offer.instructions or None
        for item in offer.lists.get("tools/list", ()):
            self._kit.metrics.expect(str(item["name"]))
        logger.info("bridge.lists_read", extra={"tools": len(offer.tools), "quarantined": len(offer.bad)})

    async def _list(self, ctx: Context, params: PaginatedRequestParams) -> HandlerResult:
        """One list; the kit's guard narrows it to the client's rights."""
        del params  # one page: what is kept of a list fits
        items = [dict(item) for item in self.offer.lists.get(ctx.method, ())]
        probe = self._declaration.probe
        if ctx.method == "tools/list" and probe is not None and current_call().client == CONTROL_PLANE_CLIENT:
            items = [self._with_probe(item, probe.tool, probe.arguments) for item in items]
        return {LISTS[ctx.method][0]: items, "resultType": "complete"}

    def _with_probe(self, item: Item, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if self.offer.tools.get(str(item["name"])) != tool:
            return dict(item)
        return {**item, "_meta": {**(item.get("_meta") or {}), PROBE_META: {"arguments": dict(arguments)}}}

    async def _call_tool(self, ctx: Context, params: CallToolRequestParams) -> HandlerResult:
        return await self._call(Asked.by(ctx), params.name, params.arguments or {})

    def schema(self, tool: str) -> Mapping[str, Any] | None:
        """What a tool takes; None for no tool."""
        item = self.offer.tool(tool)
        return None if item is None else item["inputSchema"]

    async def call(self, asked: Plain) -> CallToolResult | dict[str, Any]:
        """A call that wants nothing but its result.

        Raises:
            MCPError: It is refused.
        """
        params = asked.params
        return await self._call(Asked(asked.method, params), params["name"], params.get("arguments") or {})

    async def _call(self, asked: Asked, name: str, arguments: Mapping[str, Any]) -> CallToolResult | dict[str, Any]:
        item = self.offer.tool(name)
        with self._kit.calls.record(name if item else UNKNOWN_TOOL) as record:
            if item is None:
                record.outcome = Outcome.TOOL_ERROR
                raise MCPError(INVALID_PARAMS, self._unknown(name))
            result = await self._called(asked, arguments, item, record)
            if current_call().shadow and isinstance(result, CallToolResult):
                record.compared = result
            return result

    async def _called(
        self, asked: Asked, arguments: Mapping[str, Any], item: Item, record: Record
    ) -> CallToolResult | dict[str, Any]:
        name = str(item["name"])
        sent = _without_hop(asked.params) | {"name": self.offer.tools[name]}
        headers = self._headers(item, arguments)
        try:
            await self._kit.drills.apply(name, probe=current_call().client == PROBE_CLIENT)
            result = await self._ask(asked, sent, headers)
            if is_input_required(result):
                return result
            checked = CallToolResult.model_validate(result, by_name=False)
        except ToolError as error:
            record.outcome = Outcome.TOOL_ERROR
            return failed(str(error))
        except _FAILURES as error:
            record.outcome = Outcome.DEADLINE if "did not answer within" in str(error) else Outcome.ERROR
            return failed(f"{name} {self._failure(error)}")
        except ValidationError as error:
            record.outcome = Outcome.SCHEMA
            logger.warning("bridge.garbage", extra={"tool": name, "reason": str(error)[:500]})
            return failed(f"{name} ran, but what it answered is no result of a tool and is withheld")
        except MCPError:
            record.outcome = Outcome.TOOL_ERROR
            raise
        record.outcome = Outcome.TOOL_ERROR if checked.is_error else Outcome.OK
        return result if not current_call().shadow else checked

    def _headers(self, item: Item, arguments: Mapping[str, Any]) -> dict[str, str]:
        """`Mcp-Param-*`, which only a server at a URL is sent."""
        return mcp_param_headers(x_mcp_header_map(item["inputSchema"]), arguments) if self._declaration.url else {}

    def _unknown(self, name: str) -> str:
        if (reason := self.offer.why_left_out(name)) is not None:
            return f"{name[:80]!r} is out of use until its server is mended: {reason}"
        known = ", ".join(tool for tool in sorted(self.offer.tools) if current_call().may_use(tool)) or "none"
        return f"Unknown tool {name[:80]!r}; {self._kit.name} has: {known[:2000]}"

    def _failure(self, error: Exception) -> str:
        if isinstance(error, Lost) and error.ran:
            return f"was not answered: {self._about}: {error}; it may have run, so look before you call again"
        return f"was not run: {self._about}: {error}"

    async def _get_prompt(self, ctx: Context, params: GetPromptRequestParams) -> HandlerResult:
        there = self.offer.prompts.get(params.name)
        if there is None:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt {params.name[:80]!r}")
        return await self._passed_on(ctx, {"name": there})

    async def _read_resource(self, ctx: Context, params: ReadResourceRequestParams) -> HandlerResult:
        there = there_uri(self._kit.name, str(params.uri))
        if not there:
            raise MCPError(INVALID_PARAMS, f"Unknown resource {str(params.uri)[:200]!r}")
        return await self._passed_on(ctx, {"uri": there})

    async def _complete(self, ctx: Context, params: CompleteRequestParams) -> HandlerResult:
        if not self.offer.completes:
            return {"completion": {"values": []}, "resultType": "complete"}
        ref = (ctx.params or {}).get("ref", {})
        if params.ref.type == "ref/prompt":
            ref = {**ref, "name": self.offer.prompts.get(params.ref.name, "")}
        else:
            ref = {**ref, "uri": there_uri(self._kit.name, params.ref.uri)}
        return await self._passed_on(ctx, {"ref": ref})

    async def _passed_on(self, ctx: Context, changed: Mapping[str, Any]) -> HandlerResult:
        try:
            return await self._ask(Asked.by(ctx), {**_without_hop(ctx.params), **changed}, {})
        except _FAILURES as error:
            code = LOST if isinstance(error, Lost) and error.ran else DOWN
            raise MCPError(code, f"{ctx.method} {self._failure(error)}") from error

    async def _ask(self, asked: Asked, params: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        """Ask the caller's connection; once more where its session had expired before anything ran."""
        try:
            return await self._ask_once(asked, params, headers)
        except Lost as error:
            if error.ran:
                raise
        self._metrics.retried.inc()
        return await self._ask_once(asked, params, headers)

    async def _ask_once(self, asked: Asked, params: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        async with self.pool.use(current_call().client) as peer:
            try:
                result = await peer.request(
                    asked.method,
                    params,
                    headers=headers,
                    capabilities=(asked.params.get("_meta") or {}).get(CLIENT_CAPABILITIES_META_KEY),
                    progress=asked.progress,
                    deadline_s=self._kit.settings.tool_deadline_s,
                )
            except MCPError as error:
                if error.error.code in _OF_THE_HOP:
                    raise MCPError(INTERNAL_ERROR, f"{self._about} and its bridge disagree: {error}") from error
                raise
        # Older servers do not say it; whoever asked a newer one has to be told.
        return {"resultType": "complete", **rewritten(self._kit.name, result)}


def _without_hop(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Parameters without what belongs to the caller's own connection."""
    sent = dict(params or {})
    meta = {
        key: value
        for key, value in (sent.pop("_meta", None) or {}).items()
        if key != "progressToken" and not key.startswith("io.modelcontextprotocol/")
    }
    return {**sent, "_meta": meta} if meta else sent


def spec_of(declaration: Declaration) -> ServiceSpec[BridgeSettings]:
    """The service that a declaration describes."""

    @asynccontextmanager
    async def build(kit: Kit, settings: BridgeSettings) -> AsyncIterator[None]:
        bridge = Bridge(kit, declaration, Place(settings.user, settings.proxy))
        kit.serve(
            bridge.server(),
            legacy=False,
            freshness=bridge.freshness,
            annotations=bridge.annotations,
            direct=Direct(bridge.schema, bridge.call),
        )
        kit.ready_when(bridge.problem)
        kit.show(bridge.state)
        async with bridge.pool.running(), beside(bridge.keep_reading()):
            yield

    return ServiceSpec(
        name=declaration.name, settings=BridgeSettings, build=build, instructions=declaration.instructions
    )
