"""The hub as a service on the kit: settings, server, handlers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.inbound import mcp_param_headers, x_mcp_header_map
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CompleteRequestParams,
    GetPromptRequestParams,
    PaginatedRequestParams,
    ReadResourceRequestParams,
)
from mcp_types.methods import is_input_required
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common import Kit, ServiceSettings, ServiceSpec, current_call
from services.common.jsonrpc import HEADER_MISMATCH
from services.common.metrics import UNKNOWN_TOOL, Outcome
from services.common.rights import LISTS, may_cover, used_name
from services.common.server import LIST_HINTS
from services.hub.catalogue import Catalogue, service_of
from services.hub.upstream import Progress, Upstream, http_client

__all__ = ["SPEC", "HubSettings"]

INSTRUCTIONS: Final = (
    "Tools of several services behind one address; a tool's name starts with its service. "
    "A handle that a tool returns belongs to the service that returned it."
)
_FAULTS: Final = frozenset({502, 503, 504, INTERNAL_ERROR})  # ours; every other protocol error is the caller's
Context = ServerRequestContext[Any, Any]


class HubSettings(ServiceSettings):
    """What the hub is told beside the kit's settings."""

    model_config = SettingsConfigDict(env_prefix="MCP_HUB_", frozen=True)

    gate_internal_url: str = Field(validation_alias="MCP_GATE_INTERNAL_URL", pattern=r"^https?://[^/]+")
    list_ttl_s: float = Field(default=5.0, gt=0)
    service_deadline_s: float = Field(default=2.0, gt=0)


class Hub:
    """Answers for all services.

    Args:
        kit: Counts and logs its calls.
        upstream: Reaches the services.
        catalogue: Knows their lists.
    """

    def __init__(self, kit: Kit, upstream: Upstream, catalogue: Catalogue) -> None:
        self._kit = kit
        self._upstream = upstream
        self._catalogue = catalogue

    def server(self) -> Server[Any]:
        """The low-level server with every handler."""
        server: Server[Any] = Server(
            self._kit.name, version=self._kit.version, instructions=INSTRUCTIONS, cache_hints=LIST_HINTS
        )
        for method in LISTS:
            server.add_request_handler(method, PaginatedRequestParams, self._list)
        server.add_request_handler("tools/call", CallToolRequestParams, self._call_tool)
        server.add_request_handler("prompts/get", GetPromptRequestParams, self._pass_on)
        server.add_request_handler("resources/read", ReadResourceRequestParams, self._pass_on)
        server.add_request_handler("completion/complete", CompleteRequestParams, self._pass_on)
        server.middleware.append(self._introduce)
        return server

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
        mine = {name: text for name, text in said.items() if _sees_some_of(name)}
        return {**result, "instructions": "\n\n".join([INSTRUCTIONS, *(f"{name}: {t}" for name, t in mine.items())])}

    async def _list(self, ctx: Context, params: PaginatedRequestParams) -> HandlerResult:
        """One list over all services; the kit's guard narrows it to the client's rights."""
        del params  # one page: what a gate carries fits
        items = await self._catalogue.listing(ctx.method, _scope(ctx))
        return {LISTS[ctx.method][0]: [dict(item) for item in items], "resultType": "complete"}

    async def _call_tool(self, ctx: Context, params: CallToolRequestParams) -> HandlerResult:
        """A tool call of a handshake-era client."""
        schema = await self._catalogue.input_schema(params.name)
        with self._kit.calls.record(params.name if schema else UNKNOWN_TOOL) as record:
            try:
                result = await self._call_by_schema(ctx, params, schema)
            except MCPError as error:
                record.outcome = Outcome.ERROR if error.error.code in _FAULTS else Outcome.TOOL_ERROR
                raise
            record.outcome = Outcome.TOOL_ERROR if result.get("isError") is True else Outcome.OK
            return result

    async def _call_by_schema(
        self, ctx: Context, params: CallToolRequestParams, schema: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Call with the `Mcp-Param-*` headers that the tool's schema asks for."""
        arguments = params.arguments or {}
        try:
            return await self._send(ctx, mcp_param_headers(x_mcp_header_map(schema), arguments))
        except MCPError as error:
            if error.error.code != HEADER_MISMATCH:
                raise
        # The tool wants other headers than its list said. It has not run, so it can be called again.
        self._catalogue.forget(service_of(params.name))
        schema = await self._catalogue.input_schema(params.name)
        return await self._send(ctx, mcp_param_headers(x_mcp_header_map(schema), arguments))

    async def _pass_on(self, ctx: Context, params: object) -> HandlerResult:
        del params  # validated by the SDK; the wire form goes on unchanged
        return await self._send(ctx, {})

    async def _send(self, ctx: Context, headers: Mapping[str, str]) -> dict[str, Any]:
        name = used_name(ctx.method, ctx.params) or ""
        result = await self._upstream.request(
            await self._owner(name, _scope(ctx)),
            ctx.method,
            ctx.params or {},
            name=None if ctx.method == "completion/complete" else name,
            grant=_grant(ctx),
            headers=headers,
            progress=_progress(ctx),
        )
        if is_input_required(result):
            text = f"{name} asks its user a question, which needs a client of protocol 2026-07-28"
            raise MCPError(INVALID_PARAMS, text)
        return result

    async def _owner(self, name: str, scope: str) -> str:
        service = service_of(name)
        if scope and service != scope:
            raise MCPError(INVALID_PARAMS, f"{name[:80]!r} is not of {scope}, whose address this is; use /mcp")
        if service not in await self._catalogue.services():
            known = ", ".join(sorted(await self._catalogue.services())) or "none"
            raise MCPError(INVALID_PARAMS, f"{name[:80]!r} is of no service that is here; these are: {known}")
        return service


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


def _sees_some_of(service: str) -> bool:
    call = current_call()
    return call.internal or any(may_cover(call.allow, start) for start in (f"{service}_", f"{service}://"))


@asynccontextmanager
async def build(kit: Kit, settings: HubSettings) -> AsyncIterator[None]:
    """Serve all services' lists, and handshake-era clients."""
    async with http_client() as client:
        upstream = Upstream(
            settings.gate_internal_url.rstrip("/"), kit.keyring.caller_proof(), client, version=kit.version
        )
        catalogue = Catalogue(upstream, ttl_s=settings.list_ttl_s, deadline_s=settings.service_deadline_s)
        kit.serve(Hub(kit, upstream, catalogue).server(), legacy=True)
        try:
            yield
        finally:
            await catalogue.close()


SPEC = ServiceSpec(name="hub", settings=HubSettings, build=build, instructions=INSTRUCTIONS)
