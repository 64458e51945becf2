"""Rights are globs, and what a client sees is what it may use."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.rights import Access, Rights, allows, narrow, used_name

NAMES = st.text(alphabet="ab_/:.*", max_size=12)
GLOBS = st.text(alphabet="ab_/:.*", max_size=8)


@pytest.mark.feature("A6")
@pytest.mark.parametrize(
    ("glob", "name", "covered"),
    [
        ("*", "anything://at/all", True),
        ("search_*", "search_text", True),
        ("search_*", "searching", False),
        ("filesystem://*", "filesystem://a/b/c", True),
        ("filesystem://*", "filesystem_read", False),
        ("a.b", "axb", False),
        ("a[b]", "ab", False),
        ("a?", "ab", False),
        ("", "a", False),
        ("a*", "a\nb", True),
    ],
)
def test_a_star_is_the_only_special_character(glob: str, name: str, covered: bool) -> None:
    assert allows((glob,), name) is covered


@pytest.mark.timeout(30)
def test_many_stars_and_a_long_name_take_no_longer_than_others() -> None:
    assert not allows(("*a" * 40 + "*b",), "a" * 100_000)
    assert allows(("*a" * 40 + "*",), "a" * 100_000)


def test_no_right_covers_nothing() -> None:
    assert not allows((), "")
    assert not allows((), "a")


@given(globs=st.lists(GLOBS, max_size=4), name=NAMES)
def test_globs_agree_with_the_standard_library_where_both_know_only_the_star(globs: list[str], name: str) -> None:
    assert allows(tuple(globs), name) == any(fnmatch.fnmatchcase(name, glob) for glob in globs)


@given(glob=GLOBS, name=st.text(alphabet="ab/", max_size=6))
def test_a_template_is_shown_whenever_one_of_its_uris_may_be_read(glob: str, name: str) -> None:
    if allows((glob,), f"a://{name}"):
        assert Rights((glob,)).may_cover("a://{+name}")


def test_lists_keep_only_what_is_covered_and_everything_else_of_the_result() -> None:
    result: dict[str, Any] = {"tools": [{"name": "a_x"}, {"name": "b_x"}, "odd"], "ttlMs": 5, "nextCursor": "c"}
    assert narrow("tools/list", result, Rights(("a_*",))) == {"tools": [{"name": "a_x"}], "ttlMs": 5, "nextCursor": "c"}
    assert narrow("resources/list", {"resources": [{"uri": "a://1"}, {"uri": "b://1"}]}, Rights(("b://*",))) == {
        "resources": [{"uri": "b://1"}]
    }
    assert narrow("tools/call", result, Rights()) == result


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/call", {"name": "a_x"}, "a_x"),
        ("prompts/get", {"name": "a_p"}, "a_p"),
        ("resources/read", {"uri": "a://x"}, "a://x"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "a_p"}}, "a_p"),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "a://{x}"}}, "a://{x}"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "a_p", "uri": "b://x"}}, "a_p"),
        ("completion/complete", {"ref": {"type": "ref/resource", "name": "b_p", "uri": "a://x"}}, "a://x"),
        ("completion/complete", {"ref": {"type": "ref/resource", "name": "b_p"}}, ""),
        ("completion/complete", {"ref": {"type": "ref/prompt", "uri": "b://x"}}, ""),
        ("completion/complete", {"ref": {"type": ["ref/prompt"], "name": "b_p"}}, ""),
        ("completion/complete", {"ref": {"name": "b_p"}}, ""),
        ("completion/complete", {"ref": 7}, ""),
        ("completion/complete", None, ""),
        ("tools/call", {"name": 7}, ""),
        ("tools/call", None, ""),
        ("tools/list", {"name": "a_x"}, None),
    ],
)
def test_the_used_name_is_found_or_is_empty(method: str, params: dict[str, object] | None, name: str | None) -> None:
    assert used_name(method, params) == name


READS: dict[str, object] = {"readOnlyHint": True}
ADDS: dict[str, object] = {"readOnlyHint": False, "destructiveHint": False}
DESTROYS: dict[str, object] = {"readOnlyHint": False, "destructiveHint": True}


@pytest.mark.feature("A6")
@pytest.mark.parametrize(
    ("access", "permitted"),
    [
        (Access.ALL, [READS, ADDS, DESTROYS, {}, None]),
        (Access.NON_DESTRUCTIVE, [READS, ADDS]),
        (Access.READ_ONLY, [READS]),
    ],
)
def test_what_a_tool_does_not_say_counts_as_the_protocol_has_it(access: Access, permitted: list[object]) -> None:
    everything: list[object] = [READS, ADDS, DESTROYS, {}, None, {"readOnlyHint": "true"}, "readOnlyHint"]
    expected = everything if access is Access.ALL else permitted
    assert [said for said in everything if access.permits(said)] == expected


@pytest.mark.feature("A11")
def test_scopes_narrow_what_a_client_may_and_never_widen_it() -> None:
    rights = Rights(("a_*", "a://*"), within=("a_read*", "b_*"))
    assert [name for name in ("a_read", "a_write", "b_read", "a://x") if rights.cover(name)] == ["a_read"]
    assert not Rights(("*",), within=()).cover("a_read")
    assert not rights.may_cover("a://{x}")
    assert Rights(("*",), within=("a://d*",)).may_cover("a://{x}")


def test_open_names_need_no_right() -> None:
    rights = Rights((), (), Access.READ_ONLY, open_names=("hub_call_tool",))
    assert rights.cover("hub_call_tool")
    assert rights.permit("hub_call_tool", DESTROYS)
    assert not rights.cover("hub_call_tool2")
    tools = {"tools": [{"name": "hub_call_tool", "annotations": DESTROYS}, {"name": "a_x", "annotations": READS}]}
    assert narrow("tools/list", tools, rights)["tools"] == tools["tools"][:1]


@pytest.mark.feature("A6")
def test_a_client_that_only_reads_sees_the_tools_that_only_read() -> None:
    tools = [{"name": f"a_{i}", "annotations": said} for i, said in enumerate((READS, ADDS, DESTROYS))] + [
        {"name": "a_3"}
    ]
    seen = narrow("tools/list", {"tools": tools}, Rights(("*",), access=Access.READ_ONLY))["tools"]
    assert isinstance(seen, list)
    assert [tool["name"] for tool in seen] == ["a_0"]
