"""Rights are globs, and what a client sees is what it may use."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.rights import allows, may_cover, narrow, used_name

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


def test_no_right_covers_nothing() -> None:
    assert not allows((), "")
    assert not allows((), "a")


@given(globs=st.lists(GLOBS, max_size=4), name=NAMES)
def test_globs_agree_with_the_standard_library_where_both_know_only_the_star(globs: list[str], name: str) -> None:
    assert allows(tuple(globs), name) == any(fnmatch.fnmatchcase(name, glob) for glob in globs)


@given(glob=GLOBS, name=st.text(alphabet="ab/", max_size=6))
def test_a_template_is_shown_whenever_one_of_its_uris_may_be_read(glob: str, name: str) -> None:
    if allows((glob,), f"a://{name}"):
        assert may_cover((glob,), "a://{+name}")


def test_lists_keep_only_what_is_covered_and_everything_else_of_the_result() -> None:
    result: dict[str, Any] = {"tools": [{"name": "a_x"}, {"name": "b_x"}, "odd"], "ttlMs": 5, "nextCursor": "c"}
    assert narrow("tools/list", result, ("a_*",)) == {"tools": [{"name": "a_x"}], "ttlMs": 5, "nextCursor": "c"}
    assert narrow("resources/list", {"resources": [{"uri": "a://1"}, {"uri": "b://1"}]}, ("b://*",)) == {
        "resources": [{"uri": "b://1"}]
    }
    assert narrow("tools/call", result, ()) == result


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
