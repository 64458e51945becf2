"""What a service declares: its tools, resources, prompts, probes and kinds of handles.

A `Kit` only collects. Declarations are checked when they are made, so that a mistake stops the start; serving them is
`common.server`'s work.
"""

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from mcp.server.lowlevel import Server
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, ToolAnnotations
from starlette.requests import Request

from services.common.cache import FreshnessOf, ListCache
from services.common.calls import Calls
from services.common.declared import AsyncFunction, KitTool, Probe, PromptDeclaration, ResourceDeclaration
from services.common.drills import Drills
from services.common.errors import DeclarationError
from services.common.handles import Handles
from services.common.identity import Identity
from services.common.metrics import Metrics
from services.common.settings import KitSettings, ServiceSettings
from services.common.signing import Keyring
from services.common.slim import slimmed

__all__ = ["Direct", "Kit", "OwnServer", "Plain", "ServiceSpec"]

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")
F = TypeVar("F", bound=AsyncFunction)
AnnotationsOf = Callable[[str], Mapping[str, object] | None]
"""What a tool says of itself, as on the wire; None for no tool of this service."""


@dataclass(frozen=True)
class Plain:
    """A checked tool call that wants nothing but its result; named as in the SDK's context, for which it stands.

    Attributes:
        params: Its parameters, as on the wire.
        protocol_version: The revision its caller speaks.
        request_id: Its id.
        meta: `_meta` of its parameters.
        request: With which it came.
        method: JSON-RPC method.
    """

    params: Mapping[str, Any]
    protocol_version: str
    request_id: str | int
    meta: Mapping[str, Any]
    request: Request
    method: str = "tools/call"


@dataclass(frozen=True)
class Direct:
    """How an own server's tools are called without it.

    Attributes:
        schema: A tool's input schema by the tool's name, for calls of the modern era; None for no tool.
        call: From a call to its result, a model or as on the wire; raises what is told the caller.
    """

    schema: Callable[[str], Mapping[str, Any] | None]
    call: Callable[[Plain], Awaitable[CallToolResult | dict[str, Any]]]


@dataclass(frozen=True)
class OwnServer:
    """A service's own low-level server."""

    server: Server[Any]
    legacy: bool
    open_names: tuple[str, ...]
    freshness: FreshnessOf | None
    annotations: AnnotationsOf | None
    direct: Direct | None


class Kit:
    """One instance of a service, as its `build` sees it.

    Args:
        name: The service.
        settings: The kit's settings.
        keyring: The service's keys.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, name: str, settings: KitSettings, keyring: Keyring, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.settings = settings
        self.instance = settings.instance
        self.version = settings.version
        self.keyring = keyring
        self.tools: dict[str, KitTool] = {}
        self.resources: list[ResourceDeclaration] = []
        self.prompts: list[PromptDeclaration] = []
        self.probes: list[Probe] = []
        self.checks: list[Callable[[], Awaitable[str | None]]] = []
        self.completions: list[AsyncFunction] = []
        self.handle_kinds: list[Handles[object]] = []
        self.metrics = Metrics(service=name, version=self.version, instance=self.instance)
        self.drills = Drills(settings.drill_file)
        self.calls = Calls(self.metrics, self.drills, clock)
        self.lists = ListCache(self.metrics)
        self.own_server: OwnServer | None = None
        self.leaving: list[Callable[[], None]] = []
        self.state: Callable[[], Mapping[str, object]] = dict
        self._clock = clock
        self.identity: Identity | None = None

    def tool(
        self,
        *,
        title: str,
        read_only: bool = False,
        destructive: bool = False,
        idempotent: bool = False,
        open_world: bool = False,
        deadline_s: float | None = None,
    ) -> Callable[[F], F]:
        """Declare an async function to be a tool.

        Its name must start with the service's (`filesystem_read_file`; a dash in the service's name is an
        underscore in Python), its docstring is what the model reads, its return annotation gives the output schema.
        Arguments it does not know are refused with their names. Raise `ToolError` for what can be foreseen.

        Args:
            title: Name for people.
            read_only: It changes nothing.
            destructive: It may lose something.
            idempotent: Doing it twice is doing it once.
            open_world: It reaches beyond this platform.
            deadline_s: Cancelled after so many seconds; `MCP_TOOL_DEADLINE_S` when not given.

        Returns:
            The decorator, which gives the function back unchanged.

        Raises:
            DeclarationError: The function cannot be a tool of this service.
        """
        annotations = ToolAnnotations(
            title=title,
            read_only_hint=read_only,
            destructive_hint=destructive,
            idempotent_hint=idempotent,
            open_world_hint=open_world,
        )

        def register(function: F) -> F:
            name = self._public_name(function)
            if name in self.tools:
                raise DeclarationError(f"{self.name}: tool {name} is declared twice")
            made = Tool.from_function(
                function, name=name, title=title, description=inspect.getdoc(function), annotations=annotations
            )
            tool = slimmed(made)
            tool.parameters["additionalProperties"] = False
            parameters = frozenset(tool.parameters.get("properties", {}))
            self.tools[name] = KitTool(tool, deadline_s or self.settings.tool_deadline_s, parameters)
            self.metrics.expect(name)
            self.lists.drop()
            return function

        return register

    def resource(self, uri_template: str, *, title: str, mime_type: str) -> Callable[[F], F]:
        """Declare an async function to be a resource, or a template of resources when the URI has `{…}`.

        Raises:
            DeclarationError: The URI is not the service's, or the function is not async.
        """
        if not uri_template.startswith(f"{self.name}://"):
            raise DeclarationError(f"{self.name}: resource {uri_template} must start with {self.name}://")

        def register(function: F) -> F:
            self._check_async(function)
            self.resources.append(ResourceDeclaration(uri_template, title, mime_type, function))
            self.lists.drop()
            return function

        return register

    def prompt(self, *, title: str) -> Callable[[F], F]:
        """Declare an async function to be a prompt; named as a tool is.

        Raises:
            DeclarationError: The function cannot be a prompt of this service.
        """

        def register(function: F) -> F:
            self.prompts.append(PromptDeclaration(self._public_name(function), title, function))
            self.lists.drop()
            return function

        return register

    def completion(self, function: F) -> F:
        """Declare the async function that completes arguments of prompts and resource templates, as the SDK's
        `MCPServer.completion` takes it.

        Raises:
            DeclarationError: There is one already, or it is not async.
        """
        self._check_async(function)
        if self.completions:
            raise DeclarationError(f"{self.name}: completions are declared twice")
        self.completions.append(function)
        return function

    def serve(
        self,
        server: Server[Any],
        *,
        legacy: bool,
        open_names: tuple[str, ...] = (),
        freshness: FreshnessOf | None = None,
        annotations: AnnotationsOf | None = None,
        direct: Direct | None = None,
    ) -> None:
        """Serve an own low-level server instead of declared tools; for the hub and for bridges.

        Its handlers may use `Kit.calls.record` to be counted and logged as tools are.

        Args:
            server: The server. The kit puts its guard around every handler.
            legacy: Whether it serves the handshake era too, statelessly.
            open_names: Names that need no right, because what they lead to needs its own.
            freshness: Says what the answer to a list or to discovery is made from, so that the kit may keep it; None
                for one that has to be made. Such a server's lists depend on nothing of a client but its grant, and not
                on who it is. Nothing is kept of a server without.
            annotations: Says what its tools say of themselves, for clients that may call read-only tools only and for
                copies of calls; None for a server that has no tools of its own.
            direct: Its tools, for plain calls to go past it (`common.short`); None for a server that wants all itself.

        Raises:
            DeclarationError: Tools, resources or prompts are declared as well.
        """
        if self.tools or self.resources or self.prompts:
            raise DeclarationError(f"{self.name}: an own server and declared tools do not mix")
        self.own_server = OwnServer(server, legacy, open_names, freshness, annotations, direct)

    def at_leaving(self, leave: Callable[[], None]) -> None:
        """Declare what ends answers that would not end by themselves; called when the instance stops and nothing new
        comes any more, so that what its callers begin anew reaches another instance."""
        self.leaving.append(leave)

    def show(self, state: Callable[[], Mapping[str, object]]) -> None:
        """Declare what operators see on the admin port's `/state`, as JSON."""
        self.state = state

    def probe(self, tool: str, arguments: Mapping[str, object]) -> None:
        """Declare a call that must work for the instance to be ready.

        Args:
            tool: A tool declared before.
            arguments: Its arguments; choose a cheap call without side effects.

        Raises:
            DeclarationError: There is no such tool.
        """
        if tool not in self.tools:
            raise DeclarationError(f"{self.name}: the probe calls {tool}, which is not declared")
        self.probes.append(Probe(tool, MappingProxyType(dict(arguments))))

    def ready_when(self, check: Callable[[], Awaitable[str | None]]) -> None:
        """Declare what else has to hold for the instance to be ready: why it does not, None when it does."""
        self.checks.append(check)

    def annotations_of(self, tool: str) -> Mapping[str, object] | None:
        """What a tool of this service says of itself, as on the wire; None for no tool of it."""
        if (declared := self.tools.get(tool)) is not None:
            return declared.annotations
        own = self.own_server
        return own.annotations(tool) if own is not None and own.annotations is not None else None

    def handles(
        self,
        kind: str,
        close: Callable[[T], Awaitable[None]],
        *,
        idle_s: float,
        total_s: float,
        per_client: int,
        most: int | None = None,
    ) -> Handles[T]:
        """Declare a kind of handles; the kit expires them, and closes them when the instance stops.

        Args:
            kind: What one stands for, as callers should read it: "page".
            close: Frees a value.
            idle_s: Closed when unused for so long.
            total_s: Closed when so old.
            per_client: The most one client may hold in this instance.
            most: The most the service lets be open in this instance; only shown. None for no bound.

        Returns:
            The handles of that kind.
        """
        made = Handles(
            kind,
            close,
            idle_s=idle_s,
            total_s=total_s,
            per_client=per_client,
            instance=self.instance,
            keyring=self.keyring,
            clock=self._clock,
        )
        self.metrics.watch_handles(kind, made.__len__, most)
        self.handle_kinds.append(made)  # type: ignore[arg-type]  # only its own values ever reach its close()
        return made

    def _public_name(self, function: AsyncFunction) -> str:
        self._check_async(function)
        prefix = f"{self.name.replace('-', '_')}_"
        name = getattr(function, "__name__", "")
        if not name.startswith(prefix) or name == prefix:
            raise DeclarationError(f"{self.name}: {name} must be named {prefix}<verb>…")
        return f"{self.name}_{name.removeprefix(prefix)}"

    def _check_async(self, function: AsyncFunction) -> None:
        if not inspect.iscoroutinefunction(function):
            raise DeclarationError(f"{self.name}: {function!r} must be an async def, or it would hold up every call")


@dataclass(frozen=True)
class ServiceSpec(Generic[S]):
    """A service on the kit.

    Args:
        name: `[a-z][a-z0-9-]{0,31}`.
        settings: Its settings class.
        build: Declares tools and the rest before its `yield`, cleans up after it.
        instructions: What a model should know before it uses the service.
    """

    name: str
    settings: type[S]
    build: Callable[[Kit, S], AbstractAsyncContextManager[None]]
    instructions: str
