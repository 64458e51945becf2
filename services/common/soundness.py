"""What of a service's list may be passed on: each item judged alone, the bad ones put aside with the reason."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator
from mcp.shared.inbound import find_invalid_x_mcp_header
from mcp_types import Prompt, ResourceTemplate, Tool
from mcp_types import Resource as McpResource
from pydantic import BaseModel, ValidationError
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from services.common.cache import DISCOVER
from services.common.rights import LISTS

__all__ = ["Item", "Quarantined", "service_of", "shown", "sift", "sift_instructions"]

MAX_ITEMS: Final = 500
MAX_ITEM_BYTES: Final = 64 << 10
MAX_LIST_BYTES: Final = 512 << 10  # all clients get all lists as one answer, and some read no more than 1 MiB
MAX_DEPTH: Final = 50  # within an answer; some clients read no more than 64
MAX_JUDGING_S: Final = 5.0  # of a processor: a schema of 64 KiB can take seconds

_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "tools/list": Tool,
    "prompts/list": Prompt,
    "resources/list": McpResource,
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
    taken, until = 0, time.thread_time() + MAX_JUDGING_S
    for item in listed:
        name = item.get(key) if isinstance(item, dict) else None
        if len(good) == MAX_ITEMS or taken > MAX_LIST_BYTES:
            problem: str | None = f"before it the list has {len(good)} good items of {taken} bytes, as many as fit"
        elif time.thread_time() > until:
            problem = "judging the items before it took too long"
        elif isinstance(name, str) and name in good:
            problem = "it is listed twice; the first one counts"
        else:
            problem = _problem(service, method, key, item)
        if problem is None and isinstance(item, dict):
            good[str(name)] = item
            taken += _size(item)
        else:
            bad.append(Quarantined(service, method, shown(str(name or item)), shown(str(problem))))
    return tuple(good.values()), tuple(bad)


def sift_instructions(service: str, listed: Iterable[object]) -> tuple[tuple[Item, ...], tuple[Quarantined, ...]]:
    """As `sift`, for what a service says about itself: every client gets all services' instructions as one text."""
    texts = [told["instructions"] for told in listed if isinstance(told, dict) and told.get("instructions") is not None]
    bad = [Quarantined(service, DISCOVER, "instructions", problem) for text in texts if (problem := _unfit_text(text))]
    return tuple({"instructions": text} for text in texts if not bad), tuple(bad)


def shown(text: str) -> str:
    """Short enough for a message, and without what no answer can carry."""
    return text[:_SHOWN_CHARS].encode(errors="backslashreplace").decode()


def _problem(service: str, method: str, key: str, item: object) -> str | None:
    try:
        return _judged(service, method, key, item)
    except RecursionError:
        return "it is nested too deeply"


def _judged(service: str, method: str, key: str, item: object) -> str | None:
    if (problem := _unfit(item)) is not None:
        return problem
    try:
        _MODELS[method].model_validate(item, by_name=False)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    assert isinstance(item, dict)  # noqa: S101  # a model was made of it
    if service_of(str(item[key])) != service:
        return "it carries another service's name"
    return _schema_problem(item) or find_invalid_x_mcp_header(item.get("inputSchema"))


def _unfit_text(text: object) -> str | None:
    return _unfit(text) if isinstance(text, str) else "they are no text"


def _unfit(value: object) -> str | None:
    """Why an answer that holds it would reach nobody."""
    try:
        size = _size(value)
    except ValueError:
        return "it holds a number or a character that JSON does not have"
    if size > MAX_ITEM_BYTES:
        return f"it takes {size} bytes, more than {MAX_ITEM_BYTES}"
    return "it is nested too deeply" if _depth(value) > MAX_DEPTH else None


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


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
        whole = DRAFT202012.create_resource(schema)
        try:
            ref = _dangling(whole, Registry().with_resource("", whole).resolver())
        except (LookupError, TypeError, ValueError):  # what the library makes of odd ones
            return f"{member} holds a reference that cannot be followed"
        if ref is not None:
            return f"{member} refers to {ref[:_SHOWN_CHARS]!r}, which is not in it"
    return None


def _dangling(schema: Resource[Any], resolver: Any) -> str | None:
    """A reference that leads nowhere within the schema, None without one."""
    contents = schema.contents
    ref = contents.get("$ref") if isinstance(contents, dict) else None
    if isinstance(ref, str):
        try:
            resolver.lookup(ref)
        except Unresolvable:
            return ref
    inner = (_dangling(sub, resolver.in_subresource(sub)) for sub in schema.subresources())
    return next((found for found in inner if found is not None), None)
