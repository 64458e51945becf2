"""Names of a bridged server's things, there and here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bridge.names import MOST_CHARS, here, public_name, public_uri, rewritten, there_uri

pytestmark = pytest.mark.feature("B11")


@pytest.mark.parametrize(
    ("there", "public"),
    [("status", "git_status"), ("git_status", "git_status"), ("get.now", "git_get_now"), ("ä b", "git___b")],
)
def test_a_name_gets_the_services_prefix_once(there: str, public: str) -> None:
    assert public_name("git", there) == public


@given(st.lists(st.text(max_size=80)))
def test_every_name_leads_back_to_one_of_the_servers_or_is_refused_with_a_reason(names: list[str]) -> None:
    found, bad = here("pear", names)
    assert set(found.values()) | set(bad) == set(names)
    assert not set(found.values()) & set(bad)
    assert all(len(public) <= MOST_CHARS and public.startswith("pear_") for public in found)


@given(st.permutations(["status", "git_status", "sta tus", "sta-tus", "sta.tus"]))
def test_instances_that_list_in_another_order_call_alike(names: list[str]) -> None:
    assert here("git", names) == here("git", sorted(names))


def test_of_two_that_would_be_called_alike_the_one_called_so_already_is_kept() -> None:
    found, bad = here("git", ["status", "git_status"])
    assert found == {"git_status": "git_status"}
    assert "git_status" in bad["status"]


@given(st.one_of(st.text(min_size=1), st.text().map("pear://{}".format), st.text().map("pear://=x:{}".format)))
def test_a_uri_leads_back_to_the_servers(uri: str) -> None:
    assert there_uri("pear", public_uri("pear", uri)) == uri
    assert there_uri("fig", public_uri("pear", uri)) == ""


@pytest.mark.parametrize(
    ("there", "public"),
    [
        ("file:///a", "pear://file:///a"),
        ("pear://a/b", "pear://a/b"),
        ("pear://host:80/a", "pear://host:80/a"),
        ("pear://file:///a", "pear://pear://file:///a"),
        ("pear://{name}", "pear://{name}"),
        ("urn:isbn:1", "pear://urn:isbn:1"),
        ("a", "pear://=a"),
    ],
)
def test_a_uri_of_the_services_own_scheme_stays_and_any_other_gets_it_before(there: str, public: str) -> None:
    assert public_uri("pear", there) == public
    assert there_uri("pear", public) == there


def test_resources_within_results_are_called_as_they_are_here() -> None:
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": "file:///a"}, {"type": "resource_link", "uri": "file:///a", "name": "a"}],
        "structuredContent": {"uri": "file:///a"},
    }
    changed = rewritten("pear", result)
    assert changed["content"][1]["uri"] == "pear://file:///a"
    assert changed["content"][0] == result["content"][0]
    assert changed["structuredContent"] == {"uri": "file:///a"}
