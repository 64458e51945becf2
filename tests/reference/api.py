"""Every route of the operators' API, from its OpenAPI document and its table of routes."""

from __future__ import annotations

from typing import Any

from control_plane.api.openapi import document
from control_plane.api.routes import ROUTES
from tests.reference.table import code, heading, table


def page() -> str:
    """The page of the API."""
    told: dict[str, Any] = document(ROUTES)
    lines = heading(
        "The operators' API",
        "HTTP with JSON, on the control plane's port. `GET /v1/openapi.json` is the whole of it (OpenAPI 3.1); this "
        "page is made from that. Every call but `/health`, `/ready`, `/metrics` and the document wants "
        "`Authorization: Bearer <operator's token>`; "
        "*needs* is the least role. Problems are `application/problem+json`. "
        "[How to call it](../how-to.md#script-against-the-api), [live events](events.md).",
    )
    rows = []
    for route in ROUTES:
        operation = told["paths"][route.path][route.method.lower()]
        parameters = ", ".join(one["name"] for one in operation["parameters"] if one["in"] == "query")
        takes = _linked(route.takes.__name__) if route.takes else ""
        gives = _linked(route.gives.__name__)
        rows.append((code(f"{route.method} {route.path}"), route.summary, str(route.role), parameters, takes, gives))
    lines += ["## Routes", "", *table(("route", "what it does", "needs", "query", "takes", "gives"), rows)]
    lines += ["## What is taken and given", ""]
    for name, schema in sorted(told["components"]["schemas"].items()):
        lines += [f"### {name}", ""]
        if said := schema.get("description"):
            lines += [" ".join(said.split("Attributes:")[0].split()), ""]
        if "enum" in schema:
            lines += ["One of " + ", ".join(code(str(one)) for one in schema["enum"]) + ".", ""]
        if properties := schema.get("properties"):
            required = schema.get("required", [])
            fields = [
                (code(field), _kind(one), "yes" if field in required else "", one.get("description", ""))
                for field, one in properties.items()
            ]
            lines += table(("field", "form", "required", "what it says"), fields)
    return "\n".join(lines)


def _linked(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _kind(schema: dict[str, Any]) -> str:
    """The form of a field, in a word or two."""
    if reference := schema.get("$ref"):
        return _linked(reference.rsplit("/", 1)[1])
    for either in ("anyOf", "oneOf", "allOf"):
        if either in schema:
            return " or ".join(_kind(one) for one in schema[either])
    if "enum" in schema:
        return ", ".join(code(str(one)) for one in schema["enum"])
    if "const" in schema:
        return code(str(schema["const"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"by name: {_kind(schema['additionalProperties'])}"
    return str(schema.get("type", "anything"))
