"""Single values and bounds of JSON Schemas, as JSON sees them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def is_number(value: object) -> bool:
    """Whether JSON would call it a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: object) -> str:
    """The JSON type of a value, the narrowest."""
    if is_number(value):
        return "integer" if isinstance(value, int) or float(value).is_integer() else "number"  # type: ignore[arg-type]
    kinds = {bool: "boolean", str: "string", type(None): "null", list: "array"}
    return kinds.get(type(value), "object")


def mapping(value: object) -> Mapping[str, object]:
    """An object, empty if it is none."""
    return value if isinstance(value, Mapping) else {}


def names_in(value: object) -> list[str]:
    """The texts of a list."""
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def values_of(schema: Mapping[str, object]) -> list[object] | None:
    """The values a schema names one by one, None if it does not."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def exactly(value: object) -> tuple[str, str]:
    """JSON equality: `1` and `1.0` are one value, `1` and `true` are not."""
    if is_number(value):
        return "number", repr(float(value)) if abs(value) < 2**53 else repr(value)  # type: ignore[arg-type]
    return type(value).__name__, repr(value)


_PYTHON: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list, tuple),
    "object": (dict,),
}


def is_of(value: object, kind: object) -> bool:
    """Whether a value is of a JSON type."""
    if kind in ("number", "integer"):
        return is_number(value) and (kind == "number" or float(value).is_integer())  # type: ignore[arg-type]
    return isinstance(kind, str) and isinstance(value, _PYTHON.get(kind, ()))


def _at_least(first: object, second: object) -> bool:
    return is_number(first) and is_number(second) and first >= second  # type: ignore[operator]


def _counts_at_least(first: object, second: object) -> bool:
    return second == 0 or _at_least(first, second)


def _at_most(first: object, second: object) -> bool:
    return is_number(first) and is_number(second) and first <= second  # type: ignore[operator]


def _multiple(first: object, second: object) -> bool:
    return isinstance(first, int) and isinstance(second, int) and second > 0 and first % second == 0


def _never(_first: object, second: object) -> bool:
    return second is False  # `uniqueItems: false` asks for nothing; a pattern or format is no boolean


BOUNDS: Final[Mapping[str, Callable[[object, object], bool]]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum"), _at_least),
    **dict.fromkeys(("minLength", "minItems", "minProperties"), _counts_at_least),
    **dict.fromkeys(UPPER, _at_most),
    "multipleOf": _multiple,
    **dict.fromkeys(("format", "pattern", "uniqueItems"), _never),
}
"""Keyword → whether its first value asks for as much as its second or more; the first is None where there is none."""
