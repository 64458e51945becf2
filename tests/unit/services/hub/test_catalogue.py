"""The catalogue: joined, cached, and unhurt by one bad service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from mcp import MCPError
from mcp_types import METHOD_NOT_FOUND

from services.common.soundness import service_of
from services.hub.catalogue import Catalogue


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeSource:
    """Services whose lists are given."""

    def __init__(self) -> None:
        self.there: dict[str, str] = {"apple": "apple_1", "pear": "pear_1"}
        self.tools: dict[str, Any] = {"apple": ["apple_b", "apple_a"], "pear": ["pear_a"]}
        self.ttl_ms = 5000
        self.broken: set[str] = set()
        self.hung: set[str] = set()
        self.missing: set[str] = set()
        self.asked: list[str] = []

    async def services(self) -> dict[str, str]:
        if "gate" in self.broken:
            raise MCPError(503, "no gate")
        return dict(self.there)

    async def request(self, service: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(service)
        if service in self.hung:
            await asyncio.sleep(60)
        if service in self.broken:
            raise MCPError(503, "broken")
        if service in self.missing:
            raise MCPError(METHOD_NOT_FOUND, "Method not found")
        named = [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools[service]]
        start = int(params.get("cursor", 0))
        page: dict[str, Any] = {"tools": named[start : start + 1], "ttlMs": self.ttl_ms}
        return page | ({"nextCursor": str(start + 1)} if start + 1 < len(named) else {})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def catalogue(source: FakeSource, clock: Clock) -> Catalogue:
    return Catalogue(source, ttl_s=5, deadline_s=0.2, clock=clock)


async def names(catalogue: Catalogue, scope: str = "") -> list[str]:
    return [item["name"] for item in await catalogue.listing("tools/list", scope)]


async def settled() -> None:
    """Let background reading end."""
    if reading := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(reading, timeout=20)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("filesystem_read_file", "filesystem"),
        ("filesystem://a_b", "filesystem"),
        ("my-notes_list", "my-notes"),
        ("plain", ""),
        ("", ""),
    ],
)
def test_a_name_tells_its_service(name: str, service: str) -> None:
    assert service_of(name) == service


async def test_pages_are_joined_and_all_services_sorted(catalogue: Catalogue) -> None:
    assert await names(catalogue) == ["apple_a", "apple_b", "pear_a"]
    assert await names(catalogue, "pear") == ["pear_a"]


async def test_a_fresh_list_is_not_asked_for_again(catalogue: Catalogue, source: FakeSource, clock: Clock) -> None:
    await names(catalogue)
    asked = len(source.asked)
    clock.now += 4
    await names(catalogue)
    assert len(source.asked) == asked


async def test_an_old_list_is_served_while_it_is_read_anew(
    catalogue: Catalogue, source: FakeSource, clock: Clock
) -> None:
    await names(catalogue)
    source.tools["pear"] = ["pear_z"]
    clock.now += 6
    assert "pear_a" in await names(catalogue)
    await settled()
    assert "pear_z" in await names(catalogue)


async def test_a_service_may_ask_to_be_cached_for_less(catalogue: Catalogue, source: FakeSource, clock: Clock) -> None:
    source.ttl_ms = 0
    await names(catalogue)
    source.tools["pear"] = ["pear_z"]
    clock.now += 1.1
    await names(catalogue)
    await settled()
    assert "pear_z" in await names(catalogue)


async def test_another_stable_version_is_read_at_once(catalogue: Catalogue, source: FakeSource, clock: Clock) -> None:
    await names(catalogue)
    source.there["pear"], source.tools["pear"] = "pear_2", ["pear_new"]
    clock.now += 1.1
    await names(catalogue)
    await settled()
    assert "pear_new" in await names(catalogue)


@pytest.mark.feature("A14")
async def test_a_broken_service_keeps_its_last_list_for_a_while_and_the_others_theirs(
    catalogue: Catalogue, source: FakeSource, clock: Clock
) -> None:
    await names(catalogue)
    source.broken.add("pear")
    clock.now += 6
    await names(catalogue)
    await settled()
    assert await names(catalogue) == ["apple_a", "apple_b", "pear_a"]
    clock.now += 60
    await names(catalogue)
    await settled()
    assert await names(catalogue) == ["apple_a", "apple_b"]


@pytest.mark.feature("A14")
async def test_a_hung_service_is_waited_for_once_and_not_again(catalogue: Catalogue, source: FakeSource) -> None:
    source.hung.add("pear")
    assert await names(catalogue) == ["apple_a", "apple_b"]
    async with asyncio.timeout(0.1):
        assert await names(catalogue) == ["apple_a", "apple_b"]
    await catalogue.close()


@pytest.mark.feature("A14")
async def test_what_is_no_tool_or_anothers_is_left_out(catalogue: Catalogue, source: FakeSource) -> None:
    source.tools["pear"] = ["pear_ok", "apple_stolen", 7, ""]
    assert await names(catalogue) == ["apple_a", "apple_b", "pear_ok"]


@pytest.mark.feature("A14")
async def test_pages_without_end_are_not_held(clock: Clock) -> None:
    class Flood(FakeSource):
        async def request(self, service: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
            await super().request(service, method, {})
            return {"tools": [[0]] * 300_000 if service == "pear" else ["x" * (1 << 20)], "nextCursor": "again"}

    source = Flood()
    catalogue = Catalogue(source, ttl_s=5, deadline_s=20, clock=clock)
    assert await names(catalogue) == []
    assert source.asked.count("pear") == 1
    assert source.asked.count("apple") < 8
    assert len(catalogue.quarantined()) < 11_000


async def test_a_service_without_live_instances_is_not_listed(
    catalogue: Catalogue, source: FakeSource, clock: Clock
) -> None:
    await names(catalogue)
    del source.there["pear"]
    clock.now += 1.1
    assert await names(catalogue) == ["apple_a", "apple_b"]


async def test_the_services_are_remembered_while_the_gate_is_away(
    catalogue: Catalogue, source: FakeSource, clock: Clock
) -> None:
    source.broken.add("gate")
    with pytest.raises(MCPError):
        await names(catalogue)
    source.broken.clear()
    await names(catalogue)
    source.broken.add("gate")
    clock.now += 2
    assert "pear_a" in await names(catalogue)


@pytest.mark.feature("A14")
async def test_what_is_quarantined_is_known_with_its_reason_until_it_is_mended(
    catalogue: Catalogue, source: FakeSource, clock: Clock
) -> None:
    source.tools["pear"] = ["pear_ok", "pear_ok", "apple_stolen"]
    source.broken.add("apple")
    assert await names(catalogue) == ["pear_ok"]
    assert {(bad.service, bad.item, bad.reason) for bad in catalogue.quarantined()} == {
        ("pear", "pear_ok", "it is listed twice; the first one counts"),
        ("pear", "apple_stolen", "it carries another service's name"),
        ("apple", "", "broken"),
    }
    assert catalogue.why_left_out("apple_stolen") == "it carries another service's name"
    source.tools["pear"] = ["pear_ok"]
    source.broken.clear()
    clock.now += 6
    await names(catalogue)
    await settled()
    await names(catalogue)
    assert catalogue.quarantined() == []


async def test_a_service_without_such_a_list_lists_nothing_and_is_not_broken(
    catalogue: Catalogue, source: FakeSource
) -> None:
    source.missing.add("pear")
    assert await names(catalogue) == ["apple_a", "apple_b"]
    assert catalogue.quarantined() == []


async def test_a_tools_schema_is_found_or_is_empty(catalogue: Catalogue) -> None:
    assert await catalogue.input_schema("apple_a") == {"type": "object"}
    assert await catalogue.input_schema("apple_none") == {}
    assert await catalogue.input_schema("plum_a") == {}
