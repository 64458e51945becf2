"""What of a service's list may be passed on: each item judged alone, the bad ones put aside with the reason."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator
from mcp.shared.inbound import find_invalid_x_mcp_header
from mcp_types import Prompt, Resource, ResourceTemplate, Tool
from pydantic import BaseModel, ValidationError

from services.common.rights import LISTS

__all__ = ["Item", "Quarantined", "service_of", "sift"]

MAX_ITEMS: Final = 500
MAX_ITEM_BYTES: Final = 64 << 10

_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "tools/list": Tool,
    "prompts/list": Prompt,
    "resources/list": Resource,
    "resources/templates/list": ResourceTemplate,
}
_SHOWN_CHARS: Final = 120
Item = Mapping[str, Any]


@dataclass(frozen=True)
class Quarantined:
    """Something a service lists that nobody is shown.

    Args:
        service: The service.
        method: The list it stands in.
        item: Its name, or what stands in its place, shortened.
        reason: What is wrong with it.
    """

    service: str
    method: str
    item: str
    reason: str


def service_of(name: str) -> str:
    """The service a tool, prompt or resource belongs to: its name up to the first `_` or `://`, "" for none."""
    return min((name[: name.index(end)] for end in ("_", "://") if end in name), key=len, default="")


def sift(service: str, method: str, listed: Iterable[object]) -> tuple[tuple[Item, ...], tuple[Quarantined, ...]]:
    """Tell the good items of a whole list from the bad ones.

    Args:
        service: Whose list it is.
        method: Which one.
        listed: Its items as on the wire.

    Returns:
        The good ones in their order, and the others.
    """
    good: dict[str, Item] = {}
    bad: list[Quarantined] = []
    key = LISTS[method][1]
    for item in listed:
        name = item.get(key) if isinstance(item, dict) else None
        if len(good) == MAX_ITEMS:  # judging costs; a list without end must not
            problem: str | None = f"the list has more than {MAX_ITEMS} good items before it"
        elif isinstance(name, str) and name in good:
            problem = "it is listed twice; the first one counts"
        else:
            problem = _problem(service, method, key, item)
        if problem is None and isinstance(item, dict):
            good[str(name)] = item
        else:
            bad.append(Quarantined(service, method, str(name or item)[:_SHOWN_CHARS], str(problem)))
    return tuple(good.values()), tuple(bad)


def _problem(service: str, method: str, key: str, item: object) -> str | None:
    try:
        return _judged(service, method, key, item)
    except RecursionError:
        return "it is nested too deeply"


def _judged(service: str, method: str, key: str, item: object) -> str | None:
    if (size := len(json.dumps(item))) > MAX_ITEM_BYTES:
        return f"it takes {size} bytes, more than {MAX_ITEM_BYTES}"
    try:
        _MODELS[method].model_validate(item, by_name=False)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    assert isinstance(item, dict)  # noqa: S101  # a model was made of it
    if service_of(str(item[key])) != service:
        return "it carries another service's name"
    return _schema_problem(item) or find_invalid_x_mcp_header(item.get("inputSchema"))


def _schema_problem(item: Item) -> str | None:
    """Clients compile the schemas of all tools at once: one that is none would cost them every tool."""
    for member in ("inputSchema", "outputSchema"):
        if (schema := item.get(member)) is None:
            continue
        if not isinstance(schema, dict) or schema.get("type") != "object":
            return f"{member} does not describe an object"
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            return f"{member} is no JSON Schema: {error.message[:_SHOWN_CHARS]}"
    return None
