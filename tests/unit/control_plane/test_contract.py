"""The contract check: what a new version may change, and what a client would notice."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from control_plane.contract import Breach, Kind, Offer, Waiver, breaches, waived

Json = dict[str, Any]
TOOL = "notes_write"


def offer(*tools: Json, **more: Any) -> Offer:
    given = {"version": "1.0.0", "protocols": frozenset({"2026-07-28"})} | more
    return Offer(tools={tool["name"]: tool for tool in tools}, **given)


def tool(properties: Json | None = None, *, name: str = TOOL, **more: Any) -> Json:
    schema = {"type": "object", "properties": properties or {}, "additionalProperties": False}
    return {"name": name, "inputSchema": schema | more.pop("schema", {})} | more


def changed(before: Json, after: Json) -> list[tuple[Kind, str]]:
    """Kinds and sentences of the breaches between two tools."""
    found = breaches(offer(before), offer(after))
    assert {each.subject for each in found} <= {TOOL}
    return [(each.kind, each.sentence.removeprefix(f"{TOOL}: ")) for each in found]


def argument(before: object, after: object) -> list[tuple[Kind, str]]:
    return changed(tool({"a": before}), tool({"a": after}))


def output(before: object, after: object) -> list[tuple[Kind, str]]:
    return changed(tool(outputSchema=before), tool(outputSchema=after))


@pytest.mark.feature("C6")
def test_a_tool_a_prompt_or_a_resource_that_is_gone_is_a_breach() -> None:
    stable = offer(tool(), prompts={"notes_sum": {"name": "notes_sum"}}, resources=frozenset({"notes://{id}"}))
    found = breaches(stable, offer())
    assert [(each.subject, each.kind, each.sentence) for each in found] == [
        (TOOL, Kind.GONE, f"tool {TOOL} is gone"),
        ("notes_sum", Kind.GONE, "prompt notes_sum is gone"),
        ("notes://{id}", Kind.GONE, "resource notes://{id} is gone"),
    ]


@pytest.mark.feature("C6")
def test_a_new_required_argument_is_a_breach_and_shows_what_it_is() -> None:
    before, after = tool({"a": {}}), tool({"a": {}, "b": {"type": "string"}}, schema={"required": ["b"]})
    (found,) = breaches(offer(before), offer(after))
    assert (found.kind, found.sentence) == (Kind.REQUIRED, f"{TOOL}: argument b is required now")
    assert (found.before, found.after) == ("", '{"type": "string"}')


def test_an_argument_that_becomes_required_is_a_breach() -> None:
    assert changed(tool({"a": {}}), tool({"a": {}}, schema={"required": ["a"]})) == [
        (Kind.REQUIRED, "argument a is required now")
    ]


def test_an_argument_that_is_gone_is_a_breach_only_where_unknown_ones_are_refused() -> None:
    gone = changed(tool({"a": {}, "b": {}}), tool({"a": {}}))
    assert gone == [(Kind.REMOVED, "argument b is gone, and unknown arguments are refused")]
    lenient: Json = {"schema": {"additionalProperties": True}}
    assert not changed(tool({"a": {}, "b": {}}, **lenient), tool({"a": {}}, **lenient))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"type": ["string", "null"]}, {"type": "string"}, "argument a no longer takes null"),
        ({}, {"type": "string"}, "argument a no longer takes any type"),
        ({"type": "number"}, {"type": "integer"}, "argument a no longer takes number"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string"}, "argument a no longer takes null"),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, "argument a no longer takes b"),
        ({"type": "string"}, {"type": "string", "enum": ["a"]}, "argument a no longer takes other values"),
        ({"type": "string"}, {"const": "a"}, "argument a no longer takes other values"),
        ({"type": "integer"}, {"type": "integer", "minimum": 1}, "argument a: minimum is stricter"),
        ({"type": "integer", "maximum": 9}, {"type": "integer", "maximum": 8}, "argument a: maximum is stricter"),
        ({"type": "string"}, {"type": "string", "maxLength": 8}, "argument a: maxLength is stricter"),
        ({"type": "string"}, {"type": "string", "pattern": "^a"}, "argument a: pattern is stricter"),
        ({"type": "string"}, {"type": "string", "format": "uri"}, "argument a: format is stricter"),
        ({"type": "array"}, {"type": "array", "uniqueItems": True}, "argument a: uniqueItems is stricter"),
        (
            {"type": "array", "items": {"type": ["string", "integer"]}},
            {"type": "array", "items": {"type": "string"}},
            "argument a[] no longer takes integer",
        ),
        (
            {"type": "array"},
            {"type": "array", "prefixItems": [{"type": "null"}]},
            "argument a[] no longer takes any type",
        ),
        (
            {"type": "integer", "multipleOf": 2},
            {"type": "integer", "multipleOf": 4},
            "argument a: multipleOf is stricter",
        ),
        (
            {"type": "object"},
            {"type": "object", "additionalProperties": False},
            "argument a: what is not named is refused now",
        ),
        ({"type": "string"}, False, "argument a: nothing is taken any more"),
    ],
)
def test_an_argument_that_takes_less_is_a_breach(before: object, after: object, said: str) -> None:
    assert argument(before, after) == [(Kind.NARROWED, said)]
    assert not argument(after, before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"type": "string", "minLength": 1}, {"type": ["string", "null"], "minLength": 1}),
        ({"type": "integer"}, {"type": "number"}),
        ({"const": "a"}, {"enum": ["a", "b"]}),
        ({"enum": ["a", 1, None]}, {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}),
        ({"enum": ["a", "b"]}, {"anyOf": [{"const": "a"}, {"const": "b"}]}),
        ({"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "array"}]}),
        (
            {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]},
            {"type": ["null", "string"], "minLength": 1},
        ),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"type": "object", "properties": {"x": {"type": "number"}}},
        ),
        ({"type": "string", "title": "Old", "default": "x"}, {"type": "string", "description": "new"}),
        ({"allOf": [{"type": "string"}], "maxLength": 3}, {"type": "string"}),
        ({"not": {"type": "null"}}, {}),
    ],
)
def test_an_argument_that_takes_as_much_or_more_is_none(before: object, after: object) -> None:
    assert not argument(before, after)


def test_a_nested_argument_is_named_with_its_path() -> None:
    before = {"type": "object", "properties": {"b": {"type": "array", "items": {"properties": {"c": {}}}}}}
    after = copy.deepcopy(before)
    after["properties"]["b"]["items"]["required"] = ["c"]  # type: ignore[index]
    assert argument(before, after) == [(Kind.REQUIRED, "argument a.b[].c is required now")]


def test_references_are_followed_on_both_sides() -> None:
    def referring(kind: str) -> Json:
        return tool({"a": {"$ref": "#/$defs/A", "default": None}}, schema={"$defs": {"A": {"type": kind}}})

    assert changed(referring("string"), referring("integer")) == [(Kind.NARROWED, "argument a no longer takes string")]
    assert not changed(referring("string"), tool({"a": {"type": "string"}}))


def test_a_schema_that_contains_itself_is_compared() -> None:
    def tree(more: Json) -> Json:
        node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "value": more}}
        return tool({"a": {"$ref": "#/$defs/Node"}}, schema={"$defs": {"Node": node}})

    assert not changed(tree({"type": "integer"}), tree({"type": "number"}))
    found = changed(tree({"type": "number"}), tree({"type": "integer"}))
    assert (Kind.NARROWED, "argument a.value no longer takes number") in found
    assert len(found) == 2  # the other is its `next`


def test_another_pattern_is_a_breach_in_either_direction() -> None:
    a, b = ({"type": "string", "pattern": each} for each in ("^a", "^b"))
    assert argument(a, b) == argument(b, a) == [(Kind.NARROWED, "argument a: pattern is stricter")]


@pytest.mark.parametrize("keyword", ["if", "not", "patternProperties", "unevaluatedProperties", "someday"])
def test_a_change_nobody_understands_is_said_to_be_one(keyword: str) -> None:
    found = argument({keyword: {"type": "string"}}, {keyword: {"type": "integer"}})
    assert found == [(Kind.CANNOT_TELL, f"argument a: what a change of {keyword} means cannot be told")]


def test_the_same_words_over_another_definition_cannot_be_told() -> None:
    def refused(kind: str) -> Json:
        return tool({"a": {"not": {"$ref": "#/$defs/A"}}}, schema={"$defs": {"A": {"type": kind}}})

    assert [kind for kind, _ in changed(refused("string"), refused("integer"))] == [Kind.CANNOT_TELL]


def test_a_new_branch_of_one_of_is_fine_only_if_it_is_apart_from_the_others() -> None:
    def shape(*kinds: str) -> Json:
        tagged = ({"properties": {"kind": {"const": kind}}, "required": ["kind"], "type": "object"} for kind in kinds)
        return {"oneOf": list(tagged)}

    assert not argument(shape("circle"), shape("circle", "square"))
    assert [kind for kind, _ in argument(shape("circle", "square"), shape("circle"))] == [Kind.NARROWED]
    overlapping = {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}
    assert [kind for kind, _ in argument({"type": "string"}, overlapping)] == [Kind.CANNOT_TELL]


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: int | None = None


class Square(BaseModel):
    kind: Literal["square"]


class Before(BaseModel):
    name: str
    mode: Literal["x", "y"] = "x"
    tags: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    shape: Annotated[Circle | Square, Field(discriminator="kind")]
    pair: tuple[int, str] | None = None


class Triangle(BaseModel):
    kind: Literal["triangle"]


class After(BaseModel):
    """As services declare their arguments, and what they usually change."""

    name: str | None = None
    mode: Literal["x", "y", "z"] = "y"
    tags: list[str | int] = []
    counts: dict[str, float | None] = {}
    shape: Annotated[Circle | Square | Triangle, Field(discriminator="kind")]
    pair: tuple[int, str] | None = None
    new: Square | None = None


def test_what_pydantic_makes_of_a_services_arguments_is_understood() -> None:
    before, after = (tool(schema=model.model_json_schema()) for model in (Before, After))
    assert not changed(before, after)
    assert changed(after, before) == [
        (Kind.REQUIRED, "argument name is required now"),
        (Kind.NARROWED, "argument name no longer takes null"),
        (Kind.NARROWED, "argument mode no longer takes z"),
        (Kind.NARROWED, "argument tags[] no longer takes integer"),
        (Kind.NARROWED, "argument counts.* no longer takes number"),
        (Kind.NARROWED, "argument counts.* no longer takes null"),
        (Kind.NARROWED, "argument shape.kind no longer takes triangle"),
        (Kind.REMOVED, "argument new is gone, and unknown arguments are refused"),
    ]


RESULT: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (RESULT | {"required": []}, "output n is not always there any more"),
        ({"type": "object"}, "output n is not always there any more"),
        (RESULT | {"properties": {"n": {"type": ["integer", "null"]}}}, "output n can be null now"),
        (RESULT | {"properties": {"n": {"type": "number"}}}, "output n can be number now"),
        (None, "it no longer has an output schema"),
    ],
)
def test_an_output_that_promises_less_is_a_breach(after: object, said: str) -> None:
    assert (Kind.OUTPUT, said) in output(RESULT, after)


def test_an_output_that_promises_more_is_none() -> None:
    more = RESULT | {"properties": {"n": {"type": "integer", "minimum": 0}, "m": {}}, "required": ["n", "m"]}
    assert not output(RESULT, more)
    assert not output(None, RESULT)


def test_a_changed_header_of_an_argument_is_a_breach() -> None:
    plain: Json = {"type": "string"}
    marked, renamed = plain | {"x-mcp-header": "Handle"}, plain | {"x-mcp-header": "Page"}
    for before, after in ((plain, marked), (marked, plain), (marked, renamed)):
        assert [kind for kind, _ in argument(before, after)] == [Kind.HEADER]
    assert argument(marked, renamed)[0][1] == "argument a: x-mcp-header was handle, is page"
    assert not argument(marked, plain | {"x-mcp-header": "HANDLE"})
    assert not changed(tool({}), tool({"a": marked}))


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ({"readOnlyHint": True}, {"readOnlyHint": False}, 3),  # destructive and not idempotent by default then
        ({"readOnlyHint": True}, None, 3),
        ({"readOnlyHint": True}, {"readOnlyHint": True, "destructiveHint": True}, 0),
        ({"destructiveHint": False}, {"destructiveHint": True}, 1),
        ({"destructiveHint": False}, {}, 1),
        ({"idempotentHint": True}, {"idempotentHint": False}, 1),
        ({"openWorldHint": False}, None, 1),
        (None, {"openWorldHint": True, "destructiveHint": True}, 0),
        (None, {"readOnlyHint": True, "openWorldHint": False}, 0),
    ],
)
def test_side_effects_that_grow_are_breaches_by_the_specifications_defaults(
    before: object, after: object, count: int
) -> None:
    found = changed(tool(annotations=before), tool(annotations=after))
    assert [kind for kind, _ in found] == [Kind.EFFECT] * count


def test_a_protocol_that_is_no_longer_spoken_is_a_breach() -> None:
    older = offer(protocols=frozenset({"2026-07-28", "2027-01-01"}))
    assert [(each.subject, each.sentence) for each in breaches(older, offer())] == [
        ("protocol", "protocol 2027-01-01 is no longer spoken")
    ]
    assert not breaches(offer(), older)


def test_a_prompts_argument_newly_required_or_gone_is_a_breach() -> None:
    def prompt(*arguments: Json) -> Offer:
        return offer(prompts={"notes_sum": {"name": "notes_sum", "arguments": list(arguments)}})

    may, must = {"name": "of"}, {"name": "of", "required": True}
    assert [each.kind for each in breaches(prompt(may), prompt(must))] == [Kind.REQUIRED]
    assert [each.kind for each in breaches(prompt(), prompt(must))] == [Kind.REQUIRED]
    assert [each.kind for each in breaches(prompt(may), prompt())] == [Kind.REMOVED]
    assert not breaches(prompt(must), prompt(may))


def test_a_waiver_excuses_a_subject_or_one_kind_of_its_breaches() -> None:
    found = (
        Breach("notes_write", Kind.NARROWED, "a"),
        Breach("notes_write", Kind.REQUIRED, "b"),
        Breach("notes_read", Kind.GONE, "c"),
        Breach("notes://{id}", Kind.GONE, "d"),
    )
    one, all_of, idle = (
        Waiver(what=what, reason="agreed") for what in ("notes_write:narrowed", "notes_r*", "notes_wr")
    )
    after = waived(found, [one, all_of, idle])
    assert [each.sentence for each in after.standing] == ["b", "d"]
    assert after.excused == ((found[0], one), (found[2], all_of))
    assert after.unused == (idle,)
    assert not waived(found, [Waiver(what="*", reason="a big change")]).standing


# -- what holds for all offers

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [
        {},
        {"type": "string"},
        {"type": "integer", "minimum": 1},
        {"type": ["string", "null"], "maxLength": 4},
        {"enum": ["x", 1, None]},
        {"const": 2},
        {"$ref": "#/$defs/D"},
        {"type": "boolean"},
        True,
    ]
)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda members, required, open_: {
                "type": "object",
                "properties": members,
                "required": sorted(required & members.keys()),
                "additionalProperties": open_,
            },
            st.dictionaries(NAMES, inner, max_size=3),
            st.sets(NAMES),
            st.booleans(),
        ),
    )


SCHEMAS = st.recursive(LEAVES, _grown, max_leaves=8)
DEFS = {"D": {"type": "object", "properties": {"again": {"$ref": "#/$defs/D"}, "n": {"type": "integer"}}}}
TOOLS = st.builds(
    lambda members, out, hints: tool(members, schema={"$defs": DEFS}, outputSchema=out, annotations=hints),
    st.dictionaries(NAMES, SCHEMAS, max_size=3),
    st.one_of(st.none(), st.builds(lambda out: {"$defs": DEFS, "anyOf": [out]}, SCHEMAS)),
    st.dictionaries(st.sampled_from(["readOnlyHint", "openWorldHint"]), st.booleans()),
)


@settings(deadline=None)
@given(TOOLS)
def test_equal_offers_break_nothing_however_they_are_written(given_tool: Json) -> None:
    # A description, so that they are not equal as documents and every part is compared.
    assert not breaches(offer(given_tool), offer(copy.deepcopy(given_tool) | {"description": "other words"}))


@settings(deadline=None)
@given(TOOLS, SCHEMAS)
def test_to_add_what_is_optional_breaks_nothing(given_tool: Json, schema: object) -> None:
    after = copy.deepcopy(given_tool)
    after["inputSchema"]["properties"]["new"] = schema
    more = {"resources": frozenset({"notes://x"}), "prompts": {"notes_p": {"name": "notes_p"}}}
    assert not breaches(offer(given_tool), offer(after, tool(name="notes_other"), **more))


Mutation = tuple[str, Kind]
MUTATIONS: Mapping[str, tuple[Kind, Any]] = {
    "required": (Kind.REQUIRED, lambda it: it["inputSchema"].update(required=["fixed"])),
    "removed": (Kind.REMOVED, lambda it: it["inputSchema"]["properties"].pop("fixed")),
    "type": (Kind.NARROWED, lambda it: it["inputSchema"]["properties"]["fixed"].update(type="string")),
    "enum": (Kind.NARROWED, lambda it: it["inputSchema"]["properties"]["fixed"].update(enum=["only"])),
    "minimum": (Kind.NARROWED, lambda it: it["inputSchema"]["properties"]["fixed"].update(minimum=3)),
    "pattern": (Kind.NARROWED, lambda it: it["inputSchema"]["properties"]["fixed"].update(pattern="x")),
    "unknown": (Kind.CANNOT_TELL, lambda it: it["inputSchema"]["properties"]["fixed"].update(someday=1)),
    "header": (Kind.HEADER, lambda it: it["inputSchema"]["properties"]["fixed"].update({"x-mcp-header": "F"})),
    "output": (Kind.OUTPUT, lambda it: it.pop("outputSchema")),
    "output type": (Kind.OUTPUT, lambda it: it.update(outputSchema={"type": ["object", "null"]})),
    "effect": (Kind.EFFECT, lambda it: it["annotations"].update(destructiveHint=True)),
}


@settings(deadline=None)
@given(TOOLS, st.sampled_from(sorted(MUTATIONS)))
def test_each_single_mutation_is_a_breach_that_names_its_subject(given_tool: Json, mutation: str) -> None:
    given_tool = given_tool | {"outputSchema": {"type": "object"}, "annotations": {"destructiveHint": False}}
    given_tool["inputSchema"]["properties"]["fixed"] = {"type": ["string", "integer"], "maximum": 9}
    after = copy.deepcopy(given_tool)
    kind, mutate = MUTATIONS[mutation]
    mutate(after)
    found = breaches(offer(given_tool), offer(after))
    assert kind in {each.kind for each in found}
    assert {each.subject for each in found} == {TOOL}
    assert all(TOOL in each.sentence for each in found)


KEYWORDS = [
    "type",
    "properties",
    "required",
    "items",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "enum",
    "const",
    "minimum",
    "additionalProperties",
    "$defs",
    "prefixItems",
    "multipleOf",
    "x-mcp-header",
    "not",
]
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), LEAVES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JUNK, JUNK, JUNK)
def test_nothing_that_a_stranger_lists_makes_it_raise(one: object, other: object, third: object) -> None:
    before = offer({"name": TOOL, "inputSchema": one, "outputSchema": other, "annotations": third})
    after = offer({"name": TOOL, "inputSchema": other, "outputSchema": one, "annotations": one})
    breaches(before, after)
    assert not breaches(before, before)


def deep(levels: int, end: object) -> object:
    for _ in range(levels):
        end = {"type": "object", "properties": {"a": end}}
    return end


@pytest.mark.parametrize("levels", [63, 300, 20_000])
def test_a_schema_nested_too_deep_cannot_be_told(levels: int) -> None:
    found = argument(deep(levels, {"type": "string"}), deep(levels, {"type": "null"}))
    assert [kind for kind, _ in found] in ([Kind.CANNOT_TELL], [Kind.NARROWED])
    assert levels < 64 or found[0][0] is Kind.CANNOT_TELL


def test_a_reference_to_itself_or_to_nothing_cannot_be_told_unless_it_stays() -> None:
    def loop(name: str) -> Json:
        defs = {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}
        return tool({"a": {"$ref": name}}, schema={"$defs": defs})

    assert not changed(loop("#/$defs/A"), loop("#/$defs/A") | {"title": "x"})
    assert [kind for kind, _ in changed(loop("#/$defs/A"), loop("https://elsewhere"))] == [Kind.CANNOT_TELL]


def test_a_huge_schema_is_compared_within_bounds() -> None:
    layers = {f"L{n}": {"anyOf": [{"$ref": f"#/$defs/L{n + 1}"}] * 20} for n in range(20)} | {"L20": {"type": "null"}}
    before = tool({"a": {"$ref": "#/$defs/L0"}}, schema={"$defs": layers})
    after = tool({"a": {"type": "null"}})
    assert [kind for kind, _ in changed(before, after)] == [Kind.CANNOT_TELL]
    wide = {f"p{n}": {"type": ["string", "null"]} for n in range(3000)}
    narrow = {f"p{n}": {"type": "string"} for n in range(3000)}
    found = changed(tool(wide), tool(narrow))
    assert found[-1] == (Kind.NARROWED, "2980 more of kind narrowed")
    assert len(json.dumps(found)) < 10_000
