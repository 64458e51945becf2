"""What a token is for, and what it covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.names import allows
from control_plane.oauth.scopes import Resources, Scopes, names_of, only, service_of

pytestmark = pytest.mark.feature("A11")

OURS = Scopes("mcp:{service}")


@pytest.mark.parametrize(("path", "service"), [("/mcp", ""), ("/ledger/mcp", "ledger"), ("/a-b2/mcp", "a-b2")])
def test_a_path_leads_to_its_service(path: str, service: str) -> None:
    assert service_of(path) == service


@pytest.mark.parametrize("path", [
    "", "/", "/mcp/", "//mcp", "/hub/mcp", "/Ledger/mcp", "/%6cedger/mcp", "/ledger%2fmcp", "/ledger/mcp/", "/x/../mcp",
    "/ledger//mcp", "/ledger/mcp/x", "/.well-known/mcp", "mcp", "/ledger/mcp\n", "/mcp;x", "/" + "a" * 33 + "/mcp",
])  # fmt: skip
def test_other_spellings_lead_nowhere(path: str) -> None:
    assert service_of(path) is None


def test_a_token_for_the_hub_is_good_on_every_path_and_one_for_a_service_on_its_own() -> None:
    resources = Resources("https://h")
    assert resources.accepted("") == ("https://h/mcp",)
    assert resources.accepted("ledger") == ("https://h/ledger/mcp", "https://h/mcp")
    assert resources.metadata("ledger") == "https://h/.well-known/oauth-protected-resource/ledger/mcp"


@pytest.mark.parametrize(("scopes", "within"), [
    ({"mcp:ledger"}, ("ledger://*", "ledger_*")),
    ({"mcp:*", "mcp:ledger"}, ("*",)),
    ({"files.read"}, ("filesystem_read*",)),
    ({"mcp:", "mcp:Ledger", "MCP:ledger", "mcp:ledger_*", "mcp:a b", "mcp", "ledger", "openid", "xmcp:ledger"}, ()),
    (set(), ()),
])  # fmt: skip
def test_scopes_cover_names(scopes: set[str], within: tuple[str, ...]) -> None:
    assert OURS.within(scopes, {"files.read": ("filesystem_read*",)}) == within


def test_the_form_of_scopes_is_the_operators() -> None:
    theirs = Scopes("https://h/{service}.use")
    assert theirs.of("ledger") == "https://h/ledger.use"
    assert theirs.within(["https://h/ledger.use", "mcp:search"], {}) == tuple(sorted(names_of("ledger")))
    assert theirs.within(["https://h/.use", "https://h/.us"], {}) == ()


GLOBS = st.lists(st.text("*_:/abdeglr", min_size=1, max_size=12), max_size=4)


@given(GLOBS, st.text("_:/abdeglr", max_size=16))
def test_what_is_left_for_one_service_covers_nothing_else_and_nothing_more(globs: list[str], rest: str) -> None:
    for name in (rest, f"ledger_{rest}", f"ledger://{rest}"):
        if allows(only("ledger", globs), name):
            assert allows(globs, name)
            assert allows(names_of("ledger"), name)


def test_what_covers_everything_still_covers_the_service() -> None:
    assert only("ledger", ("*",)) == ("ledger_*", "ledger://*")
    assert only("ledger", ("led*", "search_*", "ledger_add")) == ("ledger_*", "ledger://*", "ledger_add")
