"""Which intentions the leader writes, and which it takes away."""

from __future__ import annotations

from control_plane.config_entries import Callers
from control_plane.intentions import differing, wanted

GATE = frozenset({"tekup-gate"})


def there(*names: str, sources: frozenset[str] = GATE, ours: bool = True) -> dict[str, Callers]:
    return {name: Callers(sources, ours, 7) for name in names}


def test_the_gate_calls_each_service_and_hub_and_control_plane_the_gate() -> None:
    assert wanted({"alpha", "hub"}) == {
        "mcp-alpha": GATE,
        "mcp-hub": GATE,
        "tekup-gate": frozenset({"mcp-hub", "tekup-control-plane"}),
    }


def test_what_is_there_already_is_not_written_again() -> None:
    want = wanted({"alpha"})
    found = there("mcp-alpha") | {"tekup-gate": Callers(want["tekup-gate"], True, 9)}
    assert differing(found, want) == ([], [])


def test_a_missing_one_and_one_that_lets_in_more_or_fewer_are_written() -> None:
    want = {"mcp-a": GATE, "mcp-b": GATE, "mcp-c": GATE}
    found = there("mcp-b", sources=frozenset({"tekup-gate", "mcp-a"})) | there("mcp-c", sources=frozenset())
    assert differing(found, want) == (["mcp-a", "mcp-b", "mcp-c"], [])


def test_those_of_a_service_that_is_gone_go_and_others_stay() -> None:
    found = there("mcp-gone") | there("somebody-elses", ours=False)
    assert differing(found, {}) == ([], ["mcp-gone"])
