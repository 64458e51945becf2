"""The SDK's server for what a `Kit` declared, and the guard in front of every service's handlers."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from mcp import MCPError
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.request_state import RequestStateSecurity
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, InputRequiredResult
from mcp_types import Tool as ListedTool
from mcp_types.methods import CacheableMethod
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import AnyUrl
from starlette.types import ASGIApp

from services.common.cache import CACHED, DISCOVER, LIST_TTL_MS, Freshness, FreshnessOf, key_of, scoped
from services.common.call import CONTROL_PLANE_CLIENT, Call, current_call
from services.common.calls import Calls, ToolResult
from services.common.front import MAX_BODY_BYTES
from services.common.kit import Direct, Kit, Plain
from services.common.metrics import UNKNOWN_TOOL, Outcome
from services.common.request_state import RingCodec
from services.common.rights import Rights, narrow, used_name

__all__ = ["LIST_HINTS", "Guard", "KitServer", "mcp_app"]

_Context = ServerRequestContext[Any, Any]
FORBIDDEN: Final = 403
PROBE_META: Final = "dev.tekup/probe"

# Newest first, as the gate says it when it refuses a version: older clients are served at every address, by the hub.
GATE_VERSIONS: Final = tuple(sorted((*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS), reverse=True))

# Private: what a client sees depends on its rights. What a service says of itself is the same for all.
LIST_HINTS: Final[Mapping[CacheableMethod, CacheHint]] = {
    DISCOVER: CacheHint(ttl_ms=LIST_TTL_MS, scope="public"),
    "tools/list": CacheHint(ttl_ms=LIST_TTL_MS, scope="private"),
    "prompts/list": CacheHint(ttl_ms=LIST_TTL_MS, scope="private"),
    "resources/list": CacheHint(ttl_ms=LIST_TTL_MS, scope="private"),
    "resources/templates/list": CacheHint(ttl_ms=LIST_TTL_MS, scope="private"),
    "resources/read": CacheHint(ttl_ms=0, scope="private"),
}


class Guard:
    """Holds each request to its client's rights: what it uses, and what it sees in lists. Copies only read.

    Args:
        kit: What the service declared.
        open_names: Names that need no right.
        freshness: What lists and discovery are made from; without, none is kept.
    """

    def __init__(self, kit: Kit, open_names: tuple[str, ...] = (), *, freshness: FreshnessOf | None = None) -> None:
        self._kit = kit
        self._open_names = open_names
        self._freshness = freshness

    async def __call__(self, ctx: _Context, call_next: CallNext) -> HandlerResult:
        """The SDK's middleware.

        Raises:
            MCPError: It has no right to the name it uses. The gate has checked that before; this holds where a method
                carries the name in its body only (`completion/complete`), and if the gate is ever wrong. Or it is the
                copy of a call that may change something.
        """
        call = current_call()
        if call.copy and ctx.method == "tools/call":
            self._admit_copy(used_name(ctx.method, ctx.params) or "")
        if call.internal:
            return await call_next(ctx)
        if ctx.method in CACHED and self._freshness is not None and (fresh := await self._freshness(ctx)) is not None:
            return await self._kept(ctx, call_next, call, fresh)
        return await self._held_to_rights(ctx, call_next, call)

    def admit(self, method: str, params: Mapping[str, Any] | None, call: Call) -> Rights:
        """Let through what the caller has a right to.

        Returns:
            Its rights, with what needs none.

        Raises:
            MCPError: It has none to this.
        """
        rights = replace(call.rights, open_names=self._open_names) if self._open_names else call.rights
        if call.internal:
            return rights
        name = used_name(method, params)
        if name is not None and not rights.cover(name):
            text = f"client {call.client} has no right to {name[:200]!r}; ask an operator to allow it"
            raise MCPError(FORBIDDEN, text)
        if method == "tools/call" and name is not None:
            self._admit(name, call.client, rights)
        return rights

    async def _held_to_rights(self, ctx: _Context, call_next: CallNext, call: Call) -> HandlerResult:
        rights = self.admit(ctx.method, ctx.params, call)
        result = await call_next(ctx)
        if not isinstance(result, dict):
            return result
        if ctx.method == DISCOVER:
            return announcing(result)
        return dict(scoped(ctx.method, narrow(ctx.method, result, rights)))

    async def _kept(self, ctx: _Context, call_next: CallNext, call: Call, fresh: Freshness) -> HandlerResult:
        """A list or discovery as it was answered last to somebody with these rights, else made and kept."""
        lists, key = self._kit.lists, key_of(ctx, call, fresh)
        made_from = (lists.since, *fresh.made_from)
        result: HandlerResult = None if key is None else lists.get(ctx.method, key, made_from)
        if result is None:
            result = await self._held_to_rights(ctx, call_next, call)
            if key is not None and isinstance(result, dict):
                lists.put(ctx.method, key, made_from, result)
        # What is kept counts as fresh for less and less; older protocols know no such member.
        return {**result, "ttlMs": fresh.ttl_ms} if isinstance(result, dict) and "ttlMs" in result else result

    def _admit(self, name: str, client: str, rights: Rights) -> None:
        """What a tool says of itself; the hub has no tools, those it leads to are asked where they are."""
        said = self._kit.annotations_of(name)
        if said is not None and not rights.permit(name, said):
            text = f"client {client} may call {rights.access} tools only, and {name} says that it is not one"
            raise MCPError(FORBIDDEN, f"{text}; ask an operator for more (tekup clients set)")

    def _admit_copy(self, name: str) -> None:
        said = self._kit.annotations_of(name)
        if said is None or said.get("readOnlyHint") is not True:
            self._kit.metrics.count_copy(name if said is not None else UNKNOWN_TOOL, Outcome.REFUSED, 0.0)
            raise MCPError(
                FORBIDDEN, f"{name[:80]!r} does not say that it only reads, so a copy of a call to it does not run"
            )


def announcing(discovered: Mapping[str, Any]) -> dict[str, Any]:
    """A discovery answer that says what listening brings and which versions are served, whatever path it is asked on.

    The gate leads `subscriptions/listen` of every path to the hub, which tells of changed lists and of nothing else.
    """
    capabilities = dict(discovered.get("capabilities") or {})
    for kind in ("tools", "prompts", "resources"):
        if kind in capabilities:
            capabilities[kind] = {**capabilities[kind], "listChanged": True}
    if "resources" in capabilities:
        capabilities["resources"]["subscribe"] = False
    return {**discovered, "capabilities": capabilities, "supportedVersions": list(GATE_VERSIONS)}


async def _declared(ctx: _Context) -> Freshness:
    """Of what is declared once and for all."""
    return Freshness(shared=ctx.method == DISCOVER)


class KitServer(MCPServer[dict[str, Any]]):
    """The SDK's server, its tool calls run by `Calls`.

    Args:
        kit: What the service declared.
        calls: Runs its tools.
        instructions: What a model should know first.
    """

    def __init__(self, kit: Kit, calls: Calls, *, instructions: str) -> None:
        self.guard = Guard(kit, freshness=_declared)
        super().__init__(
            kit.name,
            instructions=instructions,
            version=kit.version,
            tools=[declared.tool for declared in kit.tools.values()],
            # Shared by the service's instances, so that any of them can go on with another's half-done call.
            request_state_security=RequestStateSecurity(codec=RingCodec(kit.keyring)),
            cache_hints=LIST_HINTS,
            subscriptions=False,  # change announcements are the hub's
            middleware=[self.guard],
        )
        self._kit = kit
        self._calls = calls
        for resource in kit.resources:
            self.resource(resource.uri_template, title=resource.title, mime_type=resource.mime_type)(resource.function)
        for prompt in kit.prompts:
            self.prompt(prompt.name, title=prompt.title)(prompt.function)
        for complete in kit.completions:
            self.completion()(complete)  # type: ignore[no-untyped-call]  # the SDK's is not annotated

    @property
    def lowlevel(self) -> Server[Any]:
        """The server beneath it, which says who answers."""
        return self._lowlevel_server

    def direct(self) -> Direct:
        """How its tools are called without it, those that ask their caller nothing."""

        def schema(name: str) -> Mapping[str, Any] | None:
            declared = self._kit.tools.get(name)
            return declared.tool.parameters if declared is not None and declared.asks_nothing else None

        async def call(asked: Plain) -> CallToolResult:
            name = asked.params["name"]
            result = await self.call_tool(name, asked.params.get("arguments") or {})
            if isinstance(result, InputRequiredResult):  # its state is sealed by the SDK's server alone
                raise MCPError(INTERNAL_ERROR, f"{name} asks its caller something and does not declare it")
            return result

        return Direct(schema, call)

    async def list_tools(self) -> list[ListedTool]:
        """The tools; the control plane also sees with which arguments one can be probed, which is nobody else's."""
        listed = await super().list_tools()
        if current_call().client != CONTROL_PLANE_CLIENT:
            return listed
        probes = {probe.tool: dict(probe.arguments) for probe in reversed(self._kit.probes)}
        return [
            tool.model_copy(update={"meta": {**(tool.meta or {}), PROBE_META: {"arguments": probes[tool.name]}}})
            if tool.name in probes
            else tool
            for tool in listed
        ]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[dict[str, Any], Any] | None = None
    ) -> ToolResult:
        """Run a tool; the SDK's entry for every `tools/call`, and the instance's own for its probes.

        Raises:
            MCPError: There is no such tool (specification 2026-07-28, server/tools: a protocol error).
        """
        declared = self._kit.tools.get(name)
        if declared is None:
            self._kit.metrics.count(UNKNOWN_TOOL, Outcome.TOOL_ERROR, 0.0)
            known = ", ".join(sorted(tool for tool in self._kit.tools if current_call().may_use(tool))) or "none"
            raise MCPError(INVALID_PARAMS, f"Unknown tool {name[:80]!r}; {self._kit.name} has: {known}")
        given = context or Context(mcp_server=self)
        return await self._calls.run(declared, arguments, lambda: declared.tool.run(arguments, given))

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[dict[str, Any], Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource; what it says of its own type goes before what its template says.

        Raises:
            ResourceError: There is no such resource, or it cannot be read.
        """
        read = await super().read_resource(uri, context)
        if isinstance(read, InputRequiredResult):
            return read
        return [replace(item, mime_type=getattr(item.content, "mime_type", item.mime_type)) for item in read]


@asynccontextmanager
async def mcp_app(server: KitServer | Server[Any], *, host: str, standalone: bool) -> AsyncIterator[ASGIApp]:
    """The SDK's HTTP side of `server`, which works inside the block; the handshake era is answered statelessly.

    The SDK's check of Host and Origin stays off behind the gate, where Host is the gate's own name: what it guards
    against, a web page that reaches a local port, cannot make the gate's proof. A stand-alone service has no proof, so
    there the check is on.

    Args:
        server: The kit's, or a service's own low-level one.
        host: Where it listens.
        standalone: Whether it serves without a gate.
    """
    server.streamable_http_app(
        json_response=False,  # with it on, a caller that hangs up would not cancel its tool
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=None if standalone else TransportSecuritySettings(enable_dns_rebinding_protection=False),
        host=host,
    )
    async with server.session_manager.run():
        yield server.session_manager.asgi_app
