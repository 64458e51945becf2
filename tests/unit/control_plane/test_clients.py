"""What operators change of a client, and what follows from its rights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.clients import (
    CLASSES,
    LISTS,
    Amendment,
    amended,
    globs_of,
    may,
    merge_patch,
    said,
    with_limit,
    without_limit,
)
from control_plane.errors import Refused
from control_plane.model import Access, ClientPolicy, Limit

CI = ClientPolicy(
    id="ci",
    allow=("search_*", "filesystem_read_*", "filesystem://*"),
    access=Access.READ_ONLY,
    roots=("/srv/a", "/srv/b"),
    limits=(Limit(name="search", tools=("search_*",), per_s=5, burst=10), Limit(name="all", concurrent=8)),
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_rfc_7396_lists(target: object, patch: object, result: object) -> None:
    assert merge_patch(target, patch) == result


def test_only_what_is_named_changes() -> None:
    changed = amended(CI, Amendment({"cohort": "beta"}, {"allow": ("browser_*",)}, {"roots": ("/srv/a",)}))
    assert changed == CI.model_copy(update={"cohort": "beta", "allow": (*CI.allow, "browser_*"), "roots": ("/srv/b",)})


def test_a_null_gives_a_field_its_default() -> None:
    assert amended(CI, Amendment({"allow": None, "access": None})).allow == ("*",)


@given(st.sampled_from(LISTS), st.lists(st.sampled_from(["/x", "/y", "/z"]), max_size=4))
def test_what_is_changed_twice_is_as_if_changed_once(name: str, entries: list[str]) -> None:
    values = tuple(f"https://e.example{one}" if name == "oauth" else one for one in entries)
    values = tuple(one.strip("/") for one in values) if name == "hosts" else values
    amendment = Amendment(add={name: values})
    once = amended(CI, amendment)
    assert amended(once, amendment) == once
    assert len(set(getattr(once, name))) == len(getattr(once, name))


@pytest.mark.parametrize(
    ("amendment", "why"),
    [
        (Amendment({"id": "other"}), "its id cannot change"),
        (Amendment({"alow": []}), "alow: Extra inputs are not permitted"),
        (Amendment({"allow": "search_*"}), "allow: Input should be a valid array"),
        (Amendment({"access": "writes"}), "access: Input should be 'all', 'non-destructive' or 'read-only'"),
        (Amendment({"limits": [{"name": "x"}]}), "limit x limits nothing"),
        (Amendment({"oauth": ["ftp://x"]}), "oauth.0: String should match pattern"),
        (Amendment(add={"allow": ("a[b]",)}), "allow.3: String should match pattern"),
        (Amendment(remove={"roots": ("/srv/a", "/srv/b")}), "it would be wider, not narrower"),
        (Amendment(add={"hosts": ("a",)}, remove={"hosts": ("a",)}), "a is to be added to hosts and taken out"),
        (Amendment({"allow": [f"{'x' * 64}{n}" for n in range(60)]}), "more than 4096; use fewer or broader globs"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(amendment: Amendment, why: str) -> None:
    with pytest.raises(Refused, match="client ci") as refused:
        amended(CI, amendment)
    assert why in str(refused.value)


def test_roots_are_emptied_where_that_is_said_outright() -> None:
    assert amended(CI, Amendment({"roots": []})).roots == ()


@pytest.mark.feature("A7")
def test_a_limit_takes_the_place_of_the_one_of_its_name() -> None:
    changed = with_limit(CI, Limit(name="search", per_s=1))
    assert [(one.name, one.per_s) for one in changed.limits] == [("search", 1), ("all", 0)]
    assert [one.name for one in with_limit(CI, Limit(name="new", per_s=1)).limits] == ["search", "all", "new"]
    assert [one.name for one in without_limit(CI, "search").limits] == ["all"]
    assert without_limit(CI, "unknown") == CI


@pytest.mark.feature("A7")
def test_a_seventeenth_limit_is_refused() -> None:
    full = ClientPolicy(id="ci", limits=tuple(Limit(name=f"l{n}", per_s=1) for n in range(16)))
    with pytest.raises(Refused, match="limits: Tuple should have at most 16 items"):
        with_limit(full, Limit(name="more", per_s=1))


@pytest.mark.parametrize(
    ("name", "glob", "limits", "needs"),
    [
        ("search_code", "search_*", ["search", "all"], "if it is a tool, only one annotated as reading only"),
        ("filesystem_read_file", "filesystem_read_*", ["all"], "if it is a tool, only one annotated as reading only"),
        ("filesystem://notes/a", "filesystem://*", ["all"], ""),
        ("filesystem_write_file", "", [], ""),
    ],
)
def test_what_a_client_may_is_told_with_glob_and_limits(name: str, glob: str, limits: list[str], needs: str) -> None:
    told = may(CI, name)
    assert (told.glob, [one.name for one in told.limits], told.needs) == (glob, limits, needs)
    assert told.allowed is bool(glob)


def test_a_class_of_tools_stands_for_its_globs() -> None:
    assert globs_of(["search", "cheap"]) == ("search_*", "filesystem_*")
    with pytest.raises(Refused, match=f"there is no class 'dear' of tools; classes are {', '.join(CLASSES)}"):
        globs_of(["dear"])


def test_a_limit_is_told_in_a_few_words() -> None:
    assert said(Limit(name="x", per_s=0.5, burst=3, concurrent=2)) == "0.5/s, 3 at one moment, 2 under way"
