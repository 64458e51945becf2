"""JSON Schemas made comparable: references resolved, unions opened up, each alternative of one type.

Pure, and for schemas written by strangers: what cannot be resolved stays as a keyword that nobody knows, so that the
comparison (:mod:`control_plane.schemas`) says that it cannot tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from control_plane.values import exactly, kind_of, mapping, names_in, values_of

Schema = Mapping[str, object]

ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
    | {"$defs", "definitions", "x-mcp-header", "discriminator"}
)
"""What says nothing about which values are valid; `discriminator` is OpenAPI's, `x-mcp-header` goes by itself."""

OF_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"}),
    "object": frozenset(
        {"properties", "required", "additionalProperties", "minProperties", "maxProperties", "patternProperties"}
        | {"propertyNames", "dependentRequired", "dependentSchemas"}
    ),
}
"""Keywords that mean something for values of one type only."""

NOTHING: Final[Schema] = {"not": {}}
UNRESOLVED: Final = "$ref"
OVERLAPPING: Final = "overlapping oneOf"
"""Kept on the branches of a `oneOf` of which a value may fit two and is refused: another `oneOf` refuses others."""
MOST_REFERENCES: Final = 32
MOST_ALTERNATIVES: Final = 64
SHOWN_CHARS: Final = 300


class TooMuch(Exception):
    """A schema is too large or too deep to be compared."""


def shown(value: object) -> str:
    """A part of a schema as one line for people, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = "(too deep to be shown)"
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"


def resolved(schema: object, root: object) -> Schema:
    """A schema without references and `allOf` at its top.

    Args:
        schema: The schema, or what stands in its place.
        root: The document its references point into.
    """
    if schema is True:
        return {}
    if schema is False:
        return NOTHING
    if not isinstance(schema, Mapping):
        return {UNRESOLVED: schema}
    whole: Schema = {}
    waiting: list[object] = [schema]
    for _ in range(MOST_REFERENCES):
        if not waiting:
            return whole
        part = waiting.pop()
        if part is True:
            continue
        if not isinstance(part, Mapping):
            return {**whole, UNRESOLVED: part}
        if "$ref" in part:
            waiting.append(_pointed_at(part["$ref"], root))
        together = part.get("allOf")
        if isinstance(together, list):
            waiting += together
        whole = merged(whole, {key: part[key] for key in part.keys() - {"$ref", "allOf"}})
    return {**whole, UNRESOLVED: schema.get("$ref", schema.get("allOf"))}


def _pointed_at(reference: object, root: object) -> object:
    """What a local reference points at; else what makes the schema unresolved."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return reference
    place = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, Mapping) or name not in place:
            return reference
        place = place[name]
    return place


def merged(one: Schema, other: Schema) -> Schema:
    """Both at once. What they say differently and we cannot put together goes under a keyword that nobody knows."""
    whole = dict(one)
    for key, value in other.items():
        if key not in whole or key in ANNOTATIONS or whole[key] == value:
            whole.setdefault(key, value)
            continue
        present = whole[key]
        if key == "required" and isinstance(present, list) and isinstance(value, list):
            whole[key] = [*present, *value]
        elif (
            key == "properties"
            and isinstance(present, Mapping)
            and isinstance(value, Mapping)
            and not present.keys() & value.keys()
        ):
            whole[key] = {**present, **value}
        else:
            whole[f"allOf {key}"] = [present, value]
    return whole


def alternatives(schema: Schema, root: object) -> tuple[Schema, ...]:
    """A resolved schema as schemas without unions, each of one type or of any; a value has to fit one of them.

    Raises:
        TooMuch: There are too many.
    """
    found: list[Schema] = []
    waiting: list[tuple[Schema, int]] = [(schema, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > MOST_REFERENCES or len(found) + len(waiting) > MOST_ALTERNATIVES:
            raise TooMuch(f"more than {MOST_ALTERNATIVES} alternatives")
        union = next((key for key in ("anyOf", "oneOf") if isinstance(one.get(key), list)), None)
        if union is None:
            found += _by_type(one)
            continue
        rest = {key: one[key] for key in one.keys() - {union}}
        branches = one[union]
        assert isinstance(branches, list)  # noqa: S101  # as just looked up
        if union == "oneOf" and not _all_apart([resolved(branch, root) for branch in branches], root):
            rest[OVERLAPPING] = branches
        waiting += [(merged(rest, resolved(branch, root)), depth + 1) for branch in reversed(branches)]
    return tuple(found)


def _all_apart(branches: list[Schema], root: object) -> bool:
    pairs = ((one, other) for at, one in enumerate(branches) for other in branches[at + 1 :])
    return len(branches) <= MOST_ALTERNATIVES and all(_apart(one, other, root) for one, other in pairs)


def _apart(one: Schema, other: Schema, root: object) -> bool:
    """Whether surely no value fits both: other types, other values, or other ones of a property that both require."""
    if NOTHING in (one, other) or _types_apart(one.get("type"), other.get("type")) or _values_apart(one, other):
        return True
    if (one.get("type"), other.get("type")) != ("object", "object"):
        return False  # `required` says nothing to what is no object
    mine, theirs = mapping(one.get("properties")), mapping(other.get("properties"))
    return any(
        _values_apart(resolved(mine.get(name, True), root), resolved(theirs.get(name, True), root))
        for name in set(names_in(one.get("required"))) & set(names_in(other.get("required")))
    )


def _types_apart(one: object, other: object) -> bool:
    mine, theirs = ({each} if isinstance(each, str) else set(names_in(each)) for each in (one, other))
    mine, theirs = ({"number" if each == "integer" else each for each in kinds} for kinds in (mine, theirs))
    return bool(mine and theirs and not mine & theirs)


def _values_apart(one: Schema, other: Schema) -> bool:
    mine, theirs = ({exactly(value) for value in values_of(each) or ()} for each in (one, other))
    return bool(mine and theirs and not mine & theirs)


def _by_type(schema: Schema) -> Iterable[Schema]:
    types, values = schema.get("type"), schema.get("enum")
    if types is None and isinstance(values, list) and "const" not in schema:
        kinds: dict[str, list[object]] = {}
        for value in values:
            kinds.setdefault(kind_of(value), []).append(value)
        return tuple(_relevant({**schema, "type": kind, "enum": each}) for kind, each in kinds.items())
    if types is None and "const" in schema:
        types = [kind_of(schema["const"])]
    if not isinstance(types, list):
        return (_relevant(schema),)
    return tuple(_relevant({**schema, "type": each}) for each in types)


def _relevant(schema: Schema) -> Schema:
    """Without what says nothing about values of its type."""
    kind = schema.get("type")
    if not isinstance(kind, str):
        return schema
    kind = "number" if kind == "integer" else kind
    others = frozenset[str]().union(*(words for name, words in OF_TYPE.items() if name != kind))
    return {key: value for key, value in schema.items() if key not in others}
