"""What is kept of copied calls: digests, bounded in number and age."""

from __future__ import annotations

from typing import Any

import pytest
from mcp_types import CallToolResult, ImageContent, TextContent

from services.common.shadow import Shadow, ShadowedCall, digest_of
from services.common.signing import Keyring
from services.common.trust import Trust
from tests.unit.services.common.conftest import Clock

pytestmark = pytest.mark.feature("C7")


def result(text: str = "", structured: dict[str, Any] | None = None) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)


def call(trace: str) -> ShadowedCall:
    return ShadowedCall(trace, "demo_look", "d", "", 0.1, copy=False)


def test_equal_structure_is_equal_whatever_its_order_and_its_text() -> None:
    ordered, turned = {"a": 1, "b": [1, {"c": "æ"}]}, {"b": [1, {"c": "æ"}], "a": 1}
    assert digest_of(result("one", ordered)) == digest_of(result("two", turned))
    assert digest_of(result("", {"a": 1})) != digest_of(result("", {"a": 2}))
    assert digest_of(result("", {"b": [1, 2]})) != digest_of(result("", {"b": [2, 1]}))


def test_without_structure_the_content_counts() -> None:
    assert digest_of(result("one")) == digest_of(result("one"))
    assert digest_of(result("one")) != digest_of(result("two"))
    image = CallToolResult(content=[ImageContent(type="image", data="AAAA", mime_type="image/png")])
    other = CallToolResult(content=[ImageContent(type="image", data="AAAB", mime_type="image/png")])
    assert digest_of(image) != digest_of(other)
    assert len(digest_of(result("\ud800"))) == 64


def test_only_the_latest_are_kept(clock: Clock) -> None:
    kept = Shadow(clock, kept=3)
    for number in range(5):
        kept.note(call(str(number)))
    assert [one["trace"] for one in kept.recent()] == ["2", "3", "4"]


def test_what_is_old_is_forgotten(clock: Clock) -> None:
    kept = Shadow(clock, kept_s=60)
    kept.note(call("old"))
    clock.now += 40
    kept.note(call("new"))
    clock.now += 30
    assert [one["trace"] for one in kept.recent()] == ["new"]


@pytest.mark.parametrize("standalone", [True, False])
def test_a_copy_is_one_because_the_gate_says_so(keyring: Keyring, standalone: bool) -> None:
    trust = Trust(keyring, standalone=standalone, own_proof="5f" * 32)
    proven = {b"x-tekup-gate": keyring.gate_proofs()[0].encode(), b"x-tekup-client": b"~control-plane"}
    for marks, wanted in (
        ({}, ("", False)),
        ({b"x-tekup-call": b"c-1"}, ("c-1", False)),
        ({b"x-tekup-call": b"c-1", b"x-tekup-copy": b"1"}, ("c-1", True)),
        ({b"x-tekup-copy": b"1"}, ("", True)),
    ):
        made = trust.call_of(proven | marks)
        assert (made.shadow, made.copy) == (("", False) if standalone else wanted)
