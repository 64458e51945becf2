"""Which items of a service's list may be passed on, and why the others may not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import soundness
from services.common.soundness import MAX_ITEM_BYTES, MAX_ITEMS, sift, sift_instructions

pytestmark = pytest.mark.feature("A14")


def tool(name: str = "pear_a", **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def refers_to(ref: str) -> dict[str, Any]:
    inner = {"type": "array", "items": {"$ref": ref}}
    return {"type": "object", "properties": {"a": inner}, "$defs": {"a": {"$anchor": "there", "type": "object"}}}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (tool("apple_a"), "another service's name"),
        (tool("pear"), "another service's name"),
        (tool(description="x" * MAX_ITEM_BYTES), "more than"),
        ({"name": "pear_a"}, "inputSchema"),
        (tool(inputSchema={"type": "string"}), "inputSchema does not describe an object"),
        (tool(inputSchema={"type": "object", "required": 7}), "inputSchema is no JSON Schema"),
        (tool(outputSchema={"type": "object", "properties": {"a": {"type": "nothing"}}}), "outputSchema is no JSON"),
        (tool(inputSchema={"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}), "header"),
        (tool(outputSchema=refers_to("#/$defs/b")), "outputSchema refers to '#/$defs/b', which is not in it"),
        (tool(outputSchema=refers_to("https://a.example/b.json")), "which is not in it"),
        (tool(inputSchema=refers_to("#/properties/a/type/x/y")), "cannot be followed"),
        (tool(inputSchema=refers_to("http://[a")), "which is not in it"),
        (tool(inputSchema=nested(900)), "nested too deeply"),
        (tool(inputSchema=nested(40)), "nested too deeply"),
        (tool(description="\ud800"), "JSON does not have"),
        (tool("pear_\ud800"), "JSON does not have"),
        (tool(_meta={"\ud800": 1}), "JSON does not have"),
        (tool(_meta={"a": float("nan")}), "JSON does not have"),
        (7, "valid dictionary"),
        (None, "valid dictionary"),
    ],
)
def test_a_bad_item_is_put_aside_with_its_reason_and_its_neighbours_are_not(item: object, reason: str) -> None:
    good, bad = sift("pear", "tools/list", [tool("pear_first"), item, tool("pear_last")])
    assert [one["name"] for one in good] == ["pear_first", "pear_last"]
    assert len(bad) == 1
    assert reason in bad[0].reason
    assert bad[0].item.encode()
    assert len(bad[0].item) <= 120


def test_no_service_fills_everyones_answer() -> None:
    listed = [tool(f"pear_{number}", description="x" * 60_000) for number in range(40)]
    good, bad = sift("pear", "tools/list", listed)
    assert 5 < len(good) < 15
    assert len(good) + len(bad) == 40


def test_schemas_that_are_costly_to_judge_do_not_occupy_the_hub_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness, "MAX_JUDGING_S", 0.1)
    costly = {"type": "object", "allOf": [True] * 2000}
    good, bad = sift("pear", "tools/list", [tool(f"pear_{number}", inputSchema=costly) for number in range(50)])
    assert good
    assert "too long" in bad[-1].reason
    assert len(good) + len(bad) == 50


@pytest.mark.parametrize(
    ("text", "reason"), [(7, "no text"), ("\ud800", "JSON does not have"), ("x" * MAX_ITEM_BYTES, "more than")]
)
def test_instructions_that_no_answer_can_carry_are_put_aside(text: object, reason: str) -> None:
    good, bad = sift_instructions("pear", [{"instructions": text}])
    assert not good
    assert [one.item for one in bad] == ["instructions"]
    assert reason in bad[0].reason
    assert sift_instructions("pear", [{"instructions": "Fine."}]) == (({"instructions": "Fine."},), ())
    assert sift_instructions("pear", [{}]) == ((), ())


@pytest.mark.parametrize("ref", ["#", "#/$defs/a", "#there", "#/properties/a"])
def test_a_reference_within_a_schema_is_no_fault(ref: str) -> None:
    named = {"type": "object", "properties": {"$ref": {"type": "string"}}, "default": {"$ref": "text"}}
    listed = [tool(inputSchema=refers_to(ref), outputSchema=refers_to(ref)), tool("pear_b", inputSchema=named)]
    assert sift("pear", "tools/list", listed) == (tuple(listed), ())


def test_of_two_with_one_name_the_first_counts() -> None:
    good, bad = sift("pear", "tools/list", [tool(title="one"), tool(title="two")])
    assert [one["title"] for one in good] == ["one"]
    assert "twice" in bad[0].reason


def test_a_list_without_end_is_cut() -> None:
    good, bad = sift("pear", "tools/list", [tool(f"pear_{number}") for number in range(MAX_ITEMS + 3)])
    assert (len(good), len(bad)) == (MAX_ITEMS, 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
PIECES = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["pear_a", "pear_b"]) | JSON, "inputSchema": JSON, "title": JSON}
)


@given(st.lists(PIECES | JSON, max_size=6))
def test_every_item_is_either_good_or_named_with_a_reason(listed: list[object]) -> None:
    good, bad = sift("pear", "tools/list", listed)
    assert len(good) + len(bad) == len(listed)
    assert all(one.reason for one in bad)
    assert len({one["name"] for one in good}) == len(good)
