"""The eras and headers that are let through."""

from __future__ import annotations

import pytest

from services.common.front import check_era, read_headers
from services.common.jsonrpc import Refusal


@pytest.mark.parametrize("legacy", [True, False])
def test_the_modern_era_is_always_served(legacy: bool) -> None:
    check_era("2026-07-28", legacy=legacy)


@pytest.mark.parametrize("version", ["", "2025-11-25", "2024-11-05"])
def test_the_handshake_era_is_served_only_where_wanted(version: str) -> None:
    check_era(version, legacy=True)
    with pytest.raises(Refusal) as refused:
        check_era(version, legacy=False)
    assert (refused.value.status, refused.value.code) == (400, -32022)
    assert refused.value.data == {"supported": ["2026-07-28"], "requested": version}


@pytest.mark.parametrize("legacy", [True, False])
def test_an_unknown_version_is_refused(legacy: bool) -> None:
    with pytest.raises(Refusal) as refused:
        check_era("2099-01-01", legacy=legacy)
    assert refused.value.code == -32022


@pytest.mark.parametrize("name", [b"mcp-protocol-version", b"x-tekup-gate", b"x-tekup-client", b"x-tekup-grant"])
def test_a_deciding_header_given_twice_is_refused(name: bytes) -> None:
    assert read_headers([(name, b"a"), (b"other", b"b"), (b"other", b"b")]) == {name: b"a"}
    with pytest.raises(Refusal) as refused:
        read_headers([(name, b"a"), (name, b"a")])
    assert (refused.value.status, refused.value.code) == (400, -32020)
