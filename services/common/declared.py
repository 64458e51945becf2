"""What a service can declare, as values."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from mcp.server.mcpserver.resolve import returns_input_required
from mcp.server.mcpserver.tools import Tool

__all__ = [
    "AsyncFunction",
    "KitTool",
    "Probe",
    "PromptDeclaration",
    "ResourceDeclaration",
    "TypedBytes",
    "TypedText",
]

AsyncFunction = Callable[..., Awaitable[object]]


@dataclass(frozen=True)
class KitTool:
    """A declared tool.

    Args:
        tool: The SDK's description of it.
        deadline_s: Seconds after which it is cancelled.
        parameters: Names of its parameters.
    """

    tool: Tool
    deadline_s: float
    parameters: frozenset[str]

    @cached_property
    def annotations(self) -> Mapping[str, object]:
        """What it says of itself, as on the wire."""
        said = self.tool.annotations
        return said.model_dump(by_alias=True, exclude_none=True) if said is not None else {}

    @cached_property
    def asks_nothing(self) -> bool:
        """Whether it has no means to ask its caller something before it answers."""
        tool = self.tool
        return tool.context_kwarg is None and not tool.resolved_params and not returns_input_required(tool.fn)

    @property
    def read_only(self) -> bool:
        """Whether it says that it changes nothing."""
        return self.tool.annotations is not None and self.tool.annotations.read_only_hint is True


@dataclass(frozen=True)
class Probe:
    """A declared call behind `/ready`."""

    tool: str
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class ResourceDeclaration:
    """A declared resource or resource template."""

    uri_template: str
    title: str
    mime_type: str
    function: AsyncFunction


@dataclass(frozen=True)
class PromptDeclaration:
    """A declared prompt."""

    name: str
    title: str
    function: AsyncFunction


class TypedText(str):
    """A resource's text that says itself what it is, in place of what its template says."""

    mime_type: str

    def __new__(cls, content: str, mime_type: str) -> "TypedText":
        made = super().__new__(cls, content)
        made.mime_type = mime_type
        return made


class TypedBytes(bytes):
    """A resource's bytes that say themselves what they are, in place of what its template says."""

    mime_type: str

    def __new__(cls, content: bytes, mime_type: str) -> "TypedBytes":
        made = super().__new__(cls, content)
        made.mime_type = mime_type
        return made
