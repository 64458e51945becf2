"""Kept lists: for whom, how long, and how many."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server.context import CallNext
from mcp_types.version import LATEST_MODERN_VERSION

from services.common.cache import Freshness, ListCache, key_of, scoped
from services.common.call import Call, restore_call, set_call
from services.common.kit import Kit
from services.common.metrics import Metrics
from services.common.rights import Rights
from services.common.server import Guard

META = {
    "io.modelcontextprotocol/protocolVersion": LATEST_MODERN_VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Lists:
    """What is behind the guard: a list of tools and what a service says of itself, counted."""

    def __init__(self) -> None:
        self.tools = ["a_read", "a_write", "b_read"]
        self.version = object()
        self.ttl_ms = 5000
        self.made = 0
        self.known = True

    async def answer(self, ctx: Any) -> dict[str, Any]:
        self.made += 1
        if ctx.method == "server/discover":
            return {"instructions": "i", "capabilities": {}, "ttlMs": 5000, "cacheScope": "public"}
        if ctx.method == "resources/read":
            return {"contents": [], "ttlMs": 60_000, "cacheScope": "public"}
        return {"tools": [{"name": name} for name in self.tools], "ttlMs": 5000, "cacheScope": "public"}

    async def freshness(self, ctx: Any) -> Freshness | None:
        if not self.known:
            return None
        return Freshness((self.version,), self.ttl_ms, shared=ctx.method == "server/discover")


@pytest.fixture
def lists() -> Lists:
    return Lists()


@pytest.fixture
def guard(kit: Kit, lists: Lists) -> Guard:
    return Guard(kit, freshness=lists.freshness)


def context(method: str = "tools/list", params: dict[str, Any] | None = None, version: str = "") -> Any:
    given = {"_meta": META} if params is None else params
    return SimpleNamespace(method=method, params=given, protocol_version=version or LATEST_MODERN_VERSION)


async def ask(guard: Guard, behind: Lists, call: Call, ctx: Any = None) -> Any:
    token = set_call(call)
    try:
        call_next: CallNext = behind.answer
        return await guard(ctx or context(), call_next)
    finally:
        restore_call(token)


async def names(guard: Guard, behind: Lists, call: Call) -> list[str]:
    return [tool["name"] for tool in (await ask(guard, behind, call))["tools"]]


ALL, READER, WRITER = (
    Call("all", "k", Rights(("*",))),
    Call("reader", "k", Rights(("*_read",))),
    Call("writer", "k", Rights(("a_w*",))),
)


def counted(kit: Kit, result: str, method: str = "tools/list") -> float | None:
    return kit.metrics.registry.get_sample_value("tekup_list_cache_total", {"method": method, "result": result})


@pytest.mark.feature("A10")
async def test_interleaved_clients_never_see_each_others_lists(guard: Guard, lists: Lists, kit: Kit) -> None:
    for _ in range(3):
        assert await names(guard, lists, ALL) == ["a_read", "a_write", "b_read"]
        assert await names(guard, lists, READER) == ["a_read", "b_read"]
        assert await names(guard, lists, WRITER) == ["a_write"]
        assert await names(guard, lists, Call("nobody", "k", Rights(()))) == []
    assert lists.made == 4
    assert (counted(kit, "miss"), counted(kit, "hit")) == (4, 8)


@pytest.mark.feature("A10")
async def test_a_right_that_comes_or_goes_shows_with_the_next_request(guard: Guard, lists: Lists) -> None:
    assert await names(guard, lists, Call("dev", "k", Rights(("*",)))) == ["a_read", "a_write", "b_read"]
    assert await names(guard, lists, Call("dev", "k", Rights(("b_*",)))) == ["b_read"]
    assert await names(guard, lists, Call("dev", "k", Rights(("b_*", "a_write")))) == ["a_write", "b_read"]


async def test_clients_with_the_same_rights_share_what_is_kept(guard: Guard, lists: Lists) -> None:
    await names(guard, lists, Call("one", "k1", Rights(("*_read",)), roots=("/a",)))
    await names(guard, lists, Call("two", "k2", Rights(("*_read",)), roots=("/a",)))
    assert lists.made == 1
    await names(guard, lists, Call("two", "k2", Rights(("*_read",)), roots=("/b",)))
    await names(guard, lists, Call("two", "k2", Rights(("*_read",)), hosts=("h",)))
    await names(guard, lists, Call("two", "k2", Rights(("*_read",)), cohort="beta"))
    assert lists.made == 4


@pytest.mark.feature("A10")
async def test_what_is_made_from_something_else_is_made_anew(guard: Guard, lists: Lists) -> None:
    await names(guard, lists, ALL)
    lists.tools, lists.version = ["a_new"], object()
    assert await names(guard, lists, ALL) == ["a_new"]


async def test_a_new_declaration_drops_everything(guard: Guard, lists: Lists, kit: Kit) -> None:
    async def demo_new() -> str:
        return ""

    await names(guard, lists, ALL)
    kit.tool(title="New")(demo_new)
    assert len(kit.lists) == 0
    lists.tools = ["a_new"]
    assert await names(guard, lists, ALL) == ["a_new"]


async def test_an_answer_begun_before_a_drop_is_not_served_after_it(guard: Guard, lists: Lists, kit: Kit) -> None:
    class Slow(Lists):
        async def answer(self, ctx: Any) -> dict[str, Any]:
            said = await super().answer(ctx)
            kit.lists.drop()
            return said

    assert await names(guard, Slow(), ALL) == ["a_read", "a_write", "b_read"]
    lists.tools = ["a_new"]
    assert await names(guard, lists, ALL) == ["a_new"]


async def test_discovery_is_one_for_all_and_public_and_lists_are_private(guard: Guard, lists: Lists, kit: Kit) -> None:
    told = [await ask(guard, lists, call, context("server/discover")) for call in (ALL, READER)]
    assert told[0] == told[1]
    assert told[0]["cacheScope"] == "public"
    assert (lists.made, counted(kit, "hit", "server/discover")) == (1, 1)
    assert (await ask(guard, lists, ALL))["cacheScope"] == "private"
    assert (await ask(guard, lists, ALL, context("resources/read", {"uri": "a://x"})))["cacheScope"] == "private"


async def test_what_has_less_time_left_says_so(guard: Guard, lists: Lists) -> None:
    assert (await ask(guard, lists, ALL))["ttlMs"] == 5000
    lists.ttl_ms = 1200
    assert (await ask(guard, lists, ALL))["ttlMs"] == 1200
    assert lists.made == 1


@pytest.mark.parametrize("params", [{"_meta": META, "cursor": "x"}, {"cursor": 7}, {"_meta": 7}, {}, None])
async def test_what_is_not_plainly_a_request_for_the_list_is_not_answered_from_what_is_kept(
    guard: Guard, lists: Lists, params: dict[str, Any] | None
) -> None:
    await names(guard, lists, ALL)
    await ask(guard, lists, ALL, SimpleNamespace(**{**vars(context()), "params": params}))
    assert lists.made == 2


async def test_the_platforms_own_callers_are_answered_anew(guard: Guard, lists: Lists, kit: Kit) -> None:
    await names(guard, lists, ALL)
    await names(guard, lists, Call("~hub", internal=True))
    assert (lists.made, len(kit.lists)) == (2, 1)


async def test_a_server_that_does_not_say_what_its_lists_are_made_from_has_nothing_kept(
    kit: Kit, lists: Lists, guard: Guard
) -> None:
    for _ in range(2):
        await names(Guard(kit), lists, ALL)
    lists.known = False
    await names(guard, lists, ALL)
    assert (lists.made, len(kit.lists)) == (3, 0)


def test_what_is_kept_has_a_bound_and_the_least_used_goes_first() -> None:
    kept = ListCache(Metrics(service="s", version="1", instance="i"), max_weight=10)
    for key in ("one", "two", "three"):
        kept.put("tools/list", key, (), {"tools": [0, 0]})
    assert kept.get("tools/list", "one", ()) is not None
    kept.put("tools/list", "four", (), {"tools": [0, 0]})
    assert [kept.get("tools/list", key, ()) is not None for key in ("one", "two", "three", "four")] == [
        True, False, True, True,
    ]  # fmt: skip
    kept.put("tools/list", "huge", (), {"tools": [0] * 10})
    assert len(kept) == 3


def test_only_complete_copies_of_the_same_parts_count_as_the_same() -> None:
    kept = ListCache(Metrics(service="s", version="1", instance="i"))
    part = ["equal"]
    kept.put("tools/list", "k", (part,), {"tools": []})
    assert kept.get("tools/list", "k", (part,)) == {"tools": []}
    assert kept.get("tools/list", "k", (["equal"],)) is None
    assert kept.get("tools/list", "k", (part, part)) is None


def test_a_copy_of_a_call_is_never_answered_from_what_is_kept() -> None:
    assert key_of(context(), Call("dev", "k", Rights(("*",)), copy=True), Freshness()) is None


@pytest.mark.parametrize("said", ["public", 7, None])
def test_a_scope_that_promises_more_than_rights_allow_is_put_right(said: object) -> None:
    assert scoped("resources/read", {"cacheScope": said})["cacheScope"] == "private"
    assert scoped("server/discover", {"cacheScope": said})["cacheScope"] == said
