"""Schemas without the titles that pydantic makes out of names: a fifth of a list of tools that every client reads."""

from collections.abc import Mapping
from typing import Any, Final

from mcp.server.mcpserver.tools import Tool

__all__ = ["slim", "slimmed"]

_NAMED: Final = frozenset({"properties", "$defs", "patternProperties"})
"""Below these, a key is a name and not a keyword (JSON Schema 2020-12, core, 10.3.2)."""


def slim(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema without titles; a property that is called `title` stays.

    Args:
        schema: A JSON Schema.
    """
    return {key: _names(value) if key in _NAMED else _part(value) for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))}  # fmt: skip


def slimmed(tool: Tool) -> Tool:
    """A tool that lists its schemas so, and behaves as before."""
    known = tool.fn_metadata
    output = slim(known.output_schema) if known.output_schema else known.output_schema
    told = known.model_copy(update={"output_schema": output})
    return tool.model_copy(update={"parameters": slim(tool.parameters), "fn_metadata": told})


def _names(value: Any) -> Any:
    return {name: _part(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def _part(value: Any) -> Any:
    if isinstance(value, Mapping):
        return slim(value)
    return [_part(one) for one in value] if isinstance(value, list) else value
