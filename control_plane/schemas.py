"""Whether every value that fits one JSON Schema fits another too, and where not. Pure.

What is not understood counts as a difference, of the sort "unsure". One thing is let pass on purpose: where a schema
does not name a property and does not forbid it, another may come to name it; that is how optional arguments are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from control_plane.shapes import (
    ANNOTATIONS,
    MOST_ALTERNATIVES,
    NOTHING,
    OVERLAPPING,
    Schema,
    TooMuch,
    alternatives,
    resolved,
)
from control_plane.values import BOUNDS, UPPER, exactly, is_of, mapping, names_in, values_of

MOST_DEEP: Final = 64
MOST_STEPS: Final = 20_000
UNDERSTOOD: Final = (
    ANNOTATIONS
    | {"type", "enum", "const", "multipleOf", "uniqueItems", "pattern", "format", "items", "prefixItems"}
    | {"properties", "required", "additionalProperties", *UPPER}
    | {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
)
RESTRICTING: Final = frozenset(
    {"not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "dependentRequired"}
    | {"dependentSchemas", "contentEncoding", "contentMediaType", OVERLAPPING}
)
"""Not compared, but taking one of them away can only allow more; for `then` and `else` `if` is compared as well."""


class Sort(StrEnum):
    """What a difference is about."""

    TYPE = "type"
    VALUES = "values"
    BOUND = "bound"
    REQUIRED = "required"
    REMOVED = "removed"
    CLOSED = "closed"
    NOTHING = "nothing"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Difference:
    """Something that fits the first schema and does not, or may not, fit the second.

    Attributes:
        sort: What it is about.
        path: Names of properties, `[]` for the items of an array.
        detail: The type, the value, or the keyword.
        first: What the first schema says there.
        second: What the second says.
    """

    sort: Sort
    path: tuple[str, ...]
    detail: str
    first: object = None
    second: object = None


def differences(first: object, second: object) -> tuple[Difference, ...]:
    """Why not every value that fits `first` fits `second`; none if every one does. Never raises."""
    comparison = _Comparison(first, second)
    try:
        found = {(each.sort, each.path, each.detail): each for each in comparison.compare(first, second, ())}
        return tuple(found.values())
    except TooMuch as error:
        return (Difference(Sort.UNSURE, (), f"it is too large to be compared ({error})"),)
    except RecursionError:
        return (Difference(Sort.UNSURE, (), "it is nested too deep to be compared"),)
    except (TypeError, ValueError, ArithmeticError) as error:  # a keyword holds what no schema may hold there
        return (Difference(Sort.UNSURE, (), f"it is no schema ({error})"),)


class _Comparison:
    """One comparison; holds the documents that references point into, and counts its steps."""

    def __init__(self, first: object, second: object) -> None:
        self._first = first
        self._second = second
        self._steps = 0
        self._begun: set[tuple[int, int]] = set()
        self._fine: dict[tuple[int, int], None] = {}
        self._held: list[object] = []

    def compare(self, first: object, second: object, path: tuple[str, ...]) -> list[Difference]:
        """Compare two schemas that stand at the same place."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise TooMuch(f"more than {MOST_STEPS} steps")
        if len(path) > MOST_DEEP:
            raise TooMuch(f"more than {MOST_DEEP} levels")
        pair = (id(first), id(second))
        if pair in self._begun or pair in self._fine:  # a schema that contains itself, or is used in many places
            return []
        self._begun.add(pair)
        self._held += (first, second)  # so that no other object gets their ids
        known = len(self._fine)
        found = self._compare(first, second, path)
        self._begun.discard(pair)
        if not found:
            self._fine[pair] = None
        else:  # what was found fine within may have rested on this pair
            while len(self._fine) > known:
                self._fine.popitem()
        return found

    def _compare(self, first: object, second: object, path: tuple[str, ...]) -> list[Difference]:
        small, large = resolved(first, self._first), resolved(second, self._second)
        if small == NOTHING or not large.keys() - ANNOTATIONS:
            return []
        if large == NOTHING:
            return [Difference(Sort.NOTHING, path, "", first, second)]
        wide = alternatives(large, self._second)
        return [
            each for one in alternatives(small, self._first) for each in self._fit(one, wide, path, (first, second))
        ]

    def _fit(
        self, one: Schema, wide: tuple[Schema, ...], path: tuple[str, ...], said: tuple[object, object]
    ) -> list[Difference]:
        """Why an alternative fits into none of the others; the nearest one says why."""
        best: list[Difference] | None = None
        for other in wide:
            if not _type_fits(one.get("type"), other.get("type")):
                continue
            found = list(self._alternative(one, other, path))
            if not found:
                return []
            if best is None or len(found) < len(best):
                best = found
        values = values_of(one) or []
        if len(wide) > 1 < len(values) <= MOST_ALTERNATIVES:  # each may fit another
            singles = ({**one, "enum": [value]} for value in values)
            return [found for single in singles for found in self._fit(single, wide, path, said)]
        if best is not None:
            return best
        kind = one.get("type")
        return [Difference(Sort.TYPE, path, kind if isinstance(kind, str) else "any type", *said)]

    def _alternative(self, one: Schema, other: Schema, path: tuple[str, ...]) -> Iterator[Difference]:
        values = values_of(one)
        if values is not None:
            yield from _values_fit(values, one, other, path)
        elif "enum" in other or "const" in other:
            yield Difference(Sort.VALUES, path, "other values", one, other)
        for keyword, holds in BOUNDS.items():
            if keyword in other and other[keyword] != one.get(keyword) and not holds(one.get(keyword), other[keyword]):
                yield Difference(Sort.BOUND, path, keyword, one.get(keyword), other[keyword])
        yield from self._items(one, other, path)
        yield from self._members(one, other, path)
        yield from self._unknown(one, other, path)

    def _items(self, one: Schema, other: Schema, path: tuple[str, ...]) -> Iterator[Difference]:
        if not {"items", "prefixItems"} & other.keys():
            return
        mine, theirs = one.get("prefixItems", []), other.get("prefixItems", [])
        if not isinstance(mine, list) or not isinstance(theirs, list):
            yield Difference(Sort.UNSURE, path, "prefixItems", mine, theirs)
            return
        within = (*path, "[]")
        for at in range(max(len(mine), len(theirs))):
            first = mine[at] if at < len(mine) else one.get("items", True)
            second = theirs[at] if at < len(theirs) else other.get("items", True)
            yield from self.compare(first, second, within)
        yield from self.compare(one.get("items", True), other.get("items", True), within)

    def _members(self, one: Schema, other: Schema, path: tuple[str, ...]) -> Iterator[Difference]:
        mine, theirs = mapping(one.get("properties")), mapping(other.get("properties"))
        rest, their_rest = one.get("additionalProperties", True), other.get("additionalProperties", True)
        had = names_in(one.get("required"))
        for name in [each for each in names_in(other.get("required")) if each not in had]:
            yield Difference(Sort.REQUIRED, (*path, name), name, mine.get(name), theirs.get(name))
        for name, schema in mine.items():
            if name in theirs:
                yield from self.compare(schema, theirs[name], (*path, str(name)))
            elif their_rest is False and schema is not False:
                yield Difference(Sort.REMOVED, (*path, str(name)), str(name), schema, None)
            else:
                yield from self.compare(schema, their_rest, (*path, str(name)))
        if isinstance(rest, Mapping) and rest:
            for name in theirs.keys() - mine.keys():
                yield from self.compare(rest, theirs[name], (*path, str(name)))
        if their_rest is False and rest is not False:
            yield Difference(Sort.CLOSED, path, "additionalProperties", rest, their_rest)
        elif their_rest is not True and rest is not False:
            yield from self.compare(rest, their_rest, (*path, "*"))

    def _unknown(self, one: Schema, other: Schema, path: tuple[str, ...]) -> Iterator[Difference]:
        for keyword in sorted((one.keys() | other.keys()) - UNDERSTOOD):
            if keyword in RESTRICTING and keyword not in other:
                continue
            if not self._same(one, other, keyword):
                yield Difference(Sort.UNSURE, path, keyword, one.get(keyword), other.get(keyword))

    def _same(self, one: Schema, other: Schema, keyword: str) -> bool:
        if keyword not in one or keyword not in other or one[keyword] != other[keyword]:
            return False
        # The same words mean something else where what they refer to has changed.
        return not _refers(one[keyword]) or _definitions(self._first) == _definitions(self._second)


def _type_fits(first: object, second: object) -> bool:
    return second is None or first == second or (first == "integer" and second == "number")


def _values_fit(values: list[object], one: Schema, other: Schema, path: tuple[str, ...]) -> Iterator[Difference]:
    theirs = values_of(other)
    kept = None if theirs is None else {exactly(value) for value in theirs}
    for value in values:
        kind = other.get("type")
        if one.get("type") is not None and not is_of(value, one["type"]):
            continue  # never valid in the first place
        if (kind is not None and not is_of(value, kind)) or (kept is not None and exactly(value) not in kept):
            yield Difference(Sort.VALUES, path, repr(value) if not isinstance(value, str) else value, values, theirs)


def _refers(value: object) -> bool:
    if isinstance(value, Mapping):
        return "$ref" in value or any(_refers(each) for each in value.values())
    return isinstance(value, list) and any(_refers(each) for each in value)


def _definitions(root: object) -> tuple[object, object]:
    document = mapping(root)
    return document.get("$defs"), document.get("definitions")
