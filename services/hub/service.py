"""The hub as a service on the kit: settings, server, handlers."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final, cast

from mcp import MCPError
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.inbound import mcp_param_headers, x_mcp_header_map
from mcp_types import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    GetPromptRequestParams,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    SubscriptionsListenRequestParams,
    TextContent,
)
from mcp_types.methods import is_input_required
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import SettingsConfigDict

from services.common import Kit, ServiceSettings, ServiceSpec, current_call
from services.common.background import beside
from services.common.cache import DISCOVER, LIST_TTL_MS, Freshness
from services.common.calls import Record, failed
from services.common.identity import GATE_HOST
from services.common.jsonrpc import HEADER_MISMATCH
from services.common.kit import Direct, Plain
from services.common.metrics import UNKNOWN_TOOL, Outcome
from services.common.rights import LISTS, used_name
from services.common.server import LIST_HINTS
from services.common.soundness import Item, service_of
from services.common.tls import GATE
from services.hub.catalogue import Catalogue
from services.hub.changes import Changes
from services.hub.finding import CALL, DOORS, FIND, MOST, found_text, size_of, summary
from services.hub.metrics import UNKNOWN_SERVICE, HubMetrics
from services.hub.upstream import Progress, Upstream, http_client

__all__ = ["SPEC", "HubSettings"]

INSTRUCTIONS: Final = (
    "Tools of several services behind one address; a tool's name starts with its service. "
    "A handle that a tool returns belongs to the service that returned it."
)
# What it says of itself tells a client of those services that its rights reach.
HINTS: Final = {**LIST_HINTS, DISCOVER: CacheHint(ttl_ms=LIST_TTL_MS, scope="private")}
_NOT_FOR_OLDER: Final[Mapping[str, str]] = {
    "resources/subscribe": "read the resource again instead",
    "resources/unsubscribe": "there is no subscription",
    "logging/setLevel": "tools report by progress and results",
}
Context = ServerRequestContext[Any, Any]


class HubSettings(ServiceSettings):
    """What the hub is told beside the kit's settings."""

    model_config = SettingsConfigDict(env_prefix="MCP_HUB_", frozen=True)

    gate_internal_url: str = Field(validation_alias="MCP_GATE_INTERNAL_URL", pattern=r"^https?://[^/]+")
    list_ttl_s: float = Field(default=5.0, gt=0)
    service_deadline_s: float = Field(default=2.0, gt=0)
    list_budget_bytes: int = Field(default=150_000, ge=0)
    listen_s: float = Field(default=600.0, gt=0)


class _Find(BaseModel):
    """Arguments of the finding tool."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(max_length=500)
    limit: int = Field(default=5, ge=1, le=MOST)


class _Call(BaseModel):
    """Arguments of the calling tool."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200)
    arguments: dict[str, Any] = Field(default_factory=dict)


class Hub:
    """Answers for all services.

    Args:
        kit: Counts and logs its calls.
        upstream: Reaches the services.
        catalogue: Knows their lists.
        changes: Announces when they change.
        metrics: Counts what goes to services.
        list_budget_bytes: A longer list of tools is replaced by the tools of `finding`; 0 for never.
    """

    def __init__(
        self,
        kit: Kit,
        upstream: Upstream,
        catalogue: Catalogue,
        changes: Changes,
        metrics: HubMetrics,
        *,
        list_budget_bytes: int,
    ) -> None:
        self._kit = kit
        self._upstream = upstream
        self._catalogue = catalogue
        self._changes = changes
        self._metrics = metrics
        self._list_budget_bytes = list_budget_bytes

    def server(self) -> Server[Any]:
        """The low-level server with every handler."""
        server: Server[Any] = Server(
            self._kit.name, version=self._kit.version, instructions=INSTRUCTIONS, cache_hints=HINTS
        )
        for method in LISTS:
            server.add_request_handler(method, PaginatedRequestParams, self._list)
        server.add_request_handler("tools/call", CallToolRequestParams, self._call_tool)
        server.add_request_handler("prompts/get", GetPromptRequestParams, self._pass_on)
        server.add_request_handler("resources/read", ReadResourceRequestParams, self._pass_on)
        server.add_request_handler("completion/complete", CompleteRequestParams, self._pass_on)
        server.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, self._listen)
        server.middleware.append(_explain_loss)
        server.middleware.append(self._introduce)
        return server

    async def freshness(self, ctx: Context) -> Freshness | None:
        """What the answer to a list or to discovery is made from; None while nobody knows."""
        scope = _scope(ctx)
        # Discovery tells how many tools there are where they are too many to list.
        methods = (DISCOVER, "tools/list") if ctx.method == DISCOVER else (ctx.method,)
        try:
            found = [await self._catalogue.made_from(method, scope) for method in methods]
        except MCPError:
            return None
        left_s = min(left_s for _, left_s in found)
        parts = tuple(part for made_from, _ in found for part in made_from)
        return Freshness(parts, min(LIST_TTL_MS, int(left_s * 1000)), place=scope)

    async def _introduce(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Put the services' own instructions into the answers that open a conversation."""
        result = await call_next(ctx)
        if ctx.method not in ("initialize", "server/discover") or not isinstance(result, dict):
            return result
        scope = _scope(ctx)
        try:
            said = await self._catalogue.instructions(scope)
        except MCPError:  # named in the log; a conversation can begin without
            return result
        if scope:
            return {**result, "instructions": said.get(scope, INSTRUCTIONS)}
        parts = [INSTRUCTIONS, *(f"{name}: {text}" for name, text in said.items() if _sees_some_of(name))]
        tools = await self._my_tools()
        if self._is_too_long(tools):
            parts.insert(1, summary(tools))
        return {**result, "instructions": "\n\n".join(parts)}

    async def _list(self, ctx: Context, params: PaginatedRequestParams) -> HandlerResult:
        """One list over all services; the kit's guard narrows it to the client's rights."""
        del params  # one page: what a gate carries fits
        scope = _scope(ctx)
        items: Sequence[Item] = await self._catalogue.listing(ctx.method, scope)
        if ctx.method == "tools/list" and not scope and self._is_too_long(_usable(items)):
            items = DOORS
        return {LISTS[ctx.method][0]: [dict(item) for item in items], "resultType": "complete"}

    async def _my_tools(self, scope: str = "") -> list[Item]:
        """What the caller may use of all services' tools."""
        return _usable(await self._catalogue.listing("tools/list", scope))

    def _is_too_long(self, tools: Sequence[Item]) -> bool:
        return 0 < self._list_budget_bytes < size_of(tools)

    async def _listen(self, ctx: Context, params: SubscriptionsListenRequestParams) -> HandlerResult:
        return await self._changes.listen(ctx, params, _scope(ctx))

    async def _call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult | dict[str, Any]:
        """A tool call of a handshake-era client, or by one of the doors of `finding`."""
        try:
            if params.name == FIND:
                return await self._find(ctx, _Find.model_validate(params.arguments or {}))
            if params.name == CALL:
                wanted = _Call.model_validate(params.arguments or {})
                return await self._call(ctx, wanted.name, wanted.arguments)
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            return failed(f"{params.name}: {'; '.join(problems)}")
        return await self._call(ctx, params.name, params.arguments or {})

    async def call_plainly(self, asked: Plain) -> CallToolResult | dict[str, Any]:
        """A call that wants nothing but its result, past the SDK's server.

        Raises:
            MCPError: It is refused.
        """
        name, arguments = asked.params["name"], asked.params.get("arguments")
        return await self._call_tool(cast("Context", asked), CallToolRequestParams(name=name, arguments=arguments))

    async def _find(self, ctx: Context, wanted: _Find) -> CallToolResult:
        with self._kit.calls.record(FIND) as record:
            tools = await self._my_tools(_scope(ctx))
            # Many tools and words nobody knows take a while, in which the hub has others to answer.
            text = await asyncio.to_thread(found_text, tools, wanted.query, wanted.limit)
            record.outcome = Outcome.OK
            return CallToolResult(content=[TextContent(type="text", text=text)])

    async def _call(self, ctx: Context, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        schema = await self._catalogue.input_schema(name)
        service = await self._known_service(name)
        with (
            self._kit.calls.record(name if schema else UNKNOWN_TOOL) as record,
            self._metrics.counted(legacy=_is_legacy(ctx), service=service, record=record),
        ):
            if (
                not schema
                and current_call().may_use(name)
                and (reason := self._catalogue.why_left_out(name)) is not None
            ):
                raise MCPError(INVALID_PARAMS, f"{name[:80]!r} is out of use until its service is mended: {reason}")
            result = await self._call_by_schema(ctx, name, arguments, schema)
            record.outcome = Outcome.TOOL_ERROR if result.get("isError") is True else Outcome.OK
            return result

    async def _call_by_schema(
        self, ctx: Context, name: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Call with the `Mcp-Param-*` headers that the tool's schema asks for."""
        params = {**(ctx.params or {}), "name": name, "arguments": arguments}
        try:
            return await self._send(ctx, name, params, mcp_param_headers(x_mcp_header_map(schema), arguments))
        except MCPError as error:
            if error.error.code != HEADER_MISMATCH:
                raise
        # The tool wants other headers than its list said. It has not run, so it can be called again.
        self._catalogue.forget(service_of(name))
        schema = await self._catalogue.input_schema(name)
        return await self._send(ctx, name, params, mcp_param_headers(x_mcp_header_map(schema), arguments))

    async def _pass_on(self, ctx: Context, params: object) -> HandlerResult:
        del params  # validated by the SDK; the wire form goes on unchanged
        name, record = used_name(ctx.method, ctx.params) or "", Record()
        service = await self._known_service(name)
        with self._metrics.counted(legacy=_is_legacy(ctx), service=service, record=record):
            result = await self._send(ctx, name, ctx.params or {}, {})
            record.outcome = Outcome.OK
            return result

    async def _known_service(self, name: str) -> str:
        try:
            known = await self._catalogue.services()
        except MCPError:  # whoever needs the list says so
            known = {}
        return service_of(name) if service_of(name) in known else UNKNOWN_SERVICE

    async def _send(
        self, ctx: Context, name: str, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        result = await self._upstream.request(
            await self._owner(name, _scope(ctx)),
            ctx.method,
            params,
            name=None if ctx.method == "completion/complete" else name,
            grant=_grant(ctx),
            headers=headers,
            progress=_progress(ctx),
        )
        if is_input_required(result):
            raise MCPError(INVALID_PARAMS, f"{name} asks its user a question, which {_why_not_asked(ctx)}")
        return result

    async def _owner(self, name: str, scope: str) -> str:
        service = service_of(name)
        if scope and service != scope:
            raise MCPError(INVALID_PARAMS, f"{name[:80]!r} is not of {scope}, whose address this is; use /mcp")
        if service not in await self._catalogue.services():
            known = ", ".join(sorted(await self._catalogue.services())) or "none"
            raise MCPError(INVALID_PARAMS, f"{name[:80]!r} is of no service that is here; these are: {known}")
        return service


def _of_nobody(tool: str) -> None:
    """Modern callers' tools are at their services; the doors, which are here, are not called often."""


async def _explain_loss(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Say what older clients do not get, and what to do instead; "Method not found" alone looks like a fault."""
    if ctx.method in _NOT_FOR_OLDER and _is_legacy(ctx):
        text = f"{ctx.method} is not served to clients of protocol versions before {LATEST_MODERN_VERSION}"
        raise MCPError(METHOD_NOT_FOUND, f"{text}; {_NOT_FOR_OLDER[ctx.method]}")
    return await call_next(ctx)


def _is_legacy(ctx: Context) -> bool:
    return ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS


def _header(ctx: Context, name: str) -> str | None:
    """A header of the gate; `common.trust` has made sure that it is the gate's."""
    value = ctx.request.headers.get(name) if ctx.request is not None else None
    return value if isinstance(value, str) else None


def _scope(ctx: Context) -> str:
    return _header(ctx, "x-tekup-scope") or ""


def _grant(ctx: Context) -> str | None:
    return None if current_call().internal else _header(ctx, "x-tekup-grant")


def _progress(ctx: Context) -> Progress | None:
    wanted = ctx.meta is not None and ctx.meta.get("progress_token") is not None
    return ctx.session.report_progress if wanted else None


def _why_not_asked(ctx: Context) -> str:
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return f"{CALL} does not pass on; call it by its own name"
    return "needs a client of protocol 2026-07-28"


def _usable(tools: Sequence[Item]) -> list[Item]:
    call = current_call()
    return [
        tool
        for tool in tools
        if call.internal
        or (call.may_use(str(tool["name"])) and call.rights.permit(str(tool["name"]), tool.get("annotations")))
    ]


def _sees_some_of(service: str) -> bool:
    call = current_call()
    return call.internal or any(call.rights.may_cover(start) for start in (f"{service}_", f"{service}://"))


@asynccontextmanager
async def build(kit: Kit, settings: HubSettings) -> AsyncIterator[None]:
    """Serve all services' lists, and handshake-era clients."""
    identity = kit.identity
    async with http_client(identity.client(GATE) if identity else None) as client:
        upstream = Upstream(
            settings.gate_internal_url.rstrip("/"),
            kit.keyring.caller_proof,
            client,
            version=kit.version,
            host=GATE_HOST if identity else "",
        )
        catalogue = Catalogue(upstream, ttl_s=settings.list_ttl_s, deadline_s=settings.service_deadline_s)
        changes = Changes(catalogue, life_s=settings.listen_s)
        metrics = HubMetrics(
            kit.metrics.registry,
            quarantined=lambda: (one.service for one in catalogue.quarantined()),
            listening=changes.__len__,
        )
        hub = Hub(kit, upstream, catalogue, changes, metrics, list_budget_bytes=settings.list_budget_bytes)
        kit.serve(
            hub.server(),
            legacy=True,
            open_names=(CALL, FIND),
            freshness=hub.freshness,
            direct=Direct(_of_nobody, hub.call_plainly),
        )
        kit.at_leaving(changes.end)
        kit.show(lambda: {"quarantined": [asdict(one) for one in catalogue.quarantined()]})
        try:
            await catalogue.warm()
            async with beside(changes.watch()):
                yield
        finally:
            await catalogue.close()


SPEC = ServiceSpec(name="hub", settings=HubSettings, build=build, instructions=INSTRUCTIONS)
