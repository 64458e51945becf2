"""The OpenAPI 3.1 document, made from the route table and its models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from control_plane.api.bodies import Done, Problem
from control_plane.api.events import KINDS
from control_plane.api.forward import IDEMPOTENCY_KEY
from control_plane.api.route import REASON, ApiRoute

REF = "#/components/schemas/{model}"
Json = dict[str, object]
ONCE: Json = {
    "schema": {"type": "string", "pattern": r"^[!#-\[\]-~]{1,128}$"},
    "description": "Asked again under the same key, a change is made once and answered as before (docs/contracts.md).",
}


def document(routes: Iterable[ApiRoute]) -> Json:
    """Describe the routes.

    Returns:
        An OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0).
    """
    table = tuple(routes)
    models = {model for route in table for model in (route.gives, route.takes) if model} | {Problem}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in ordered], ref_template=REF)
    paths: dict[str, Json] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    paths["/v1/events"] = {"get": _events()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "TekUp MCP control plane", "version": _version()},
        "security": [{"operator": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"operator": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: ApiRoute) -> Json:
    parameters = [_parameter("path", name, required=True) for name in re.findall(r"{(\w+)}", route.path)]
    if route.method == "DELETE":
        parameters.append(_parameter("query", "reason", required=True) | {"schema": REASON.json_schema()})
        parameters.append(_parameter("query", "dry_run", required=False) | {"schema": {"type": "boolean"}})
    for name, said in route.query.items():
        number = {"schema": {"type": "integer", "minimum": 0}, "description": said}
        parameters.append(_parameter("query", name, required=False) | number)
    if route.about and route.method != "GET":
        tag = {"description": "The ETag that was read; refused with 412 if it is another by now."}
        parameters.append(_parameter("header", "If-Match", required=False) | tag)
    if route.changes:
        parameters.append(_parameter("header", IDEMPOTENCY_KEY, required=False) | ONCE)
    responses: Json = {"200": {"description": "Done", "content": _json(route.gives)}}
    if issubclass(route.gives, Done):
        late = "Written, but not yet in force on the gates of waiting_for"
        responses["202"] = {"description": late, "content": _json(route.gives)}
    responses["default"] = {"description": "Problem", "content": _json(Problem, "application/problem+json")}
    operation: Json = {
        "summary": route.summary,
        "operationId": route.answer.__name__,
        "parameters": parameters,
        "responses": responses,
    }
    if route.takes:
        operation["requestBody"] = {"required": True, "content": _json(route.takes)}
    return operation


def _events() -> Json:
    """The one route that does not end: an event stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    last = {"description": "The id of the last event that was heard; told is what came after it, or `reset`."}
    kinds = ", ".join(f"`{kind}`" for kind in KINDS)
    said = (
        f"What changes from now on, as events of the kinds {kinds}; the data of each is a JSON object that says what it"
        " is about (docs/contracts.md). A comment comes each 15 s, and the stream ends after 15 minutes."
    )
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "summary": "Live events",
        "description": said,
        "operationId": "events",
        "parameters": [_parameter("header", "Last-Event-ID", required=False) | last],
        "responses": {
            "200": {"description": "Events", "content": stream},
            "default": {"description": "Problem", "content": _json(Problem, "application/problem+json")},
        },
    }


def _parameter(place: str, name: str, *, required: bool) -> Json:
    return {"in": place, "name": name, "required": required, "schema": {"type": "string"}}


def _json(model: type[BaseModel], media_type: str = "application/json") -> Json:
    return {media_type: {"schema": {"$ref": REF.format(model=model.__name__)}}}


def _version() -> str:
    try:
        return version("tekup-mcp")
    except PackageNotFoundError:
        return "0"
