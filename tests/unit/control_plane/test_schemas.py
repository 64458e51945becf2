"""What the comparison of two schemas lets pass is held against a validator, for schemas and values made at random."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from control_plane.schemas import Sort, differences

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [
        {},
        True,
        False,
        {"type": "string"},
        {"type": "string", "enum": ["x", "yy"]},
        {"type": ["string", "null"], "maxLength": 1},
        {"minLength": 2},
        {"pattern": "x"},
        {"type": "boolean"},
        {"type": "number", "maximum": 2},
        {"type": "number", "multipleOf": 2},
        {"type": "integer", "minimum": 1},
        {"type": "integer", "exclusiveMinimum": 1},
        {"type": ["integer", "string"], "minimum": 1},
        {"enum": ["x", 1, None, 1.5]},
        {"enum": ["x"]},
        {"const": 2},
        {"not": {"type": "string"}},
        {"type": "array", "maxItems": 1},
        {"uniqueItems": True},
        {"maxProperties": 1},
        {"$ref": "#/$defs/D"},
    ]
)
# Closed objects: that an open one may come to name a property is let pass on purpose.
DEFS = {
    "$defs": {
        "D": {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/D"}, "b": {"type": "integer"}, "c": {}},
            "additionalProperties": False,
        }
    }
}


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda items, first: {"items": items, "prefixItems": first}, inner, several),
        *(st.builds(lambda parts, union=union: {union: parts}, several) for union in ("anyOf", "oneOf", "allOf")),
        st.builds(lambda parts, more: {"anyOf": parts, **(more if isinstance(more, dict) else {})}, several, LEAVES),
        st.builds(
            lambda members, required, rest: {
                "type": "object",
                "properties": members,
                "required": sorted(required),
                "additionalProperties": rest,
            },
            st.dictionaries(NAMES, inner, max_size=3),
            st.sets(NAMES, max_size=2),
            st.one_of(st.just(False), inner),
        ),
    )


SCHEMAS = st.recursive(LEAVES, _grown, max_leaves=5)
VALUES = st.recursive(
    st.sampled_from([None, True, 1, 2, 0, 1.5, 2.0, 3, 4, "x", "yy", ""]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


def whole(schema: object) -> object:
    return {**schema, **DEFS} if isinstance(schema, dict) else schema


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=1, max_size=8), st.sampled_from(["other", "wider", "narrower"]))
def test_what_is_let_pass_takes_every_value_that_was_taken(
    first: Any, second: Any, values: list[object], kind: str
) -> None:
    if kind == "wider":
        second = {"anyOf": [second, first]}
    elif kind == "narrower" and isinstance(first, dict) and isinstance(second, dict):
        first = {**second, **first}
    before, after = whole(first), whole(second)
    assume(not differences(before, after))
    old, new = Draft202012Validator(before), Draft202012Validator(after)
    for value in values:
        assert not old.is_valid(value) or new.is_valid(value), value


@settings(deadline=None)
@given(SCHEMAS)
def test_a_schema_takes_what_it_takes(schema: Any) -> None:
    assert not differences(whole(schema), whole(copy.deepcopy(schema)))


def test_what_was_fine_within_a_branch_that_failed_is_looked_at_again() -> None:
    def tree(value: object, branches: list[str]) -> object:
        leaf = {"type": "object", "properties": {"up": {"$ref": "#/$defs/Node"}}, "additionalProperties": False}
        node = {
            "type": "object",
            "properties": {"leaf": {"$ref": "#/$defs/Leaf"}, "value": value},
            "additionalProperties": False,
        }
        any_of = {"type": "object", "additionalProperties": True}
        defs = {"Leaf": leaf, "Node": node, "Any": any_of}
        first = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in branches]}
        return {"$defs": defs, "prefixItems": [first, {"$ref": "#/$defs/Leaf"}], "type": "array"}

    found = differences(tree({"type": ["string", "null"]}, ["Node"]), tree({"type": "string"}, ["Node", "Any"]))
    assert [(each.sort, each.path) for each in found] == [(Sort.TYPE, ("[]", "up", "value"))]


def test_one_branch_among_overlapping_ones_cannot_be_told_wherever_it_stands() -> None:
    cases: tuple[object, ...] = ({"oneOf": [{}, {}]}, {"anyOf": [{"oneOf": [{}, {"type": "string"}]}]})
    for overlapping in cases:
        assert [each.sort for each in differences({}, overlapping)] == [Sort.UNSURE]
