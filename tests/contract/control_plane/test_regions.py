"""Two regions over two real Consuls: one writes, one follows, and who is which changes without a change lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from control_plane.kept import REVISION_KEY
from control_plane.region import COPIED
from control_plane.region_copy import ALL, copied_of
from tests.support.two_regions import Json, Place, two_regions
from tests.support.wait import eventually

pytestmark = [
    pytest.mark.local,
    pytest.mark.feature("F6"),
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def regions(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Place, Place]]:
    async with two_regions(tmp_path_factory.mktemp("regions")) as places:
        yield places


async def home_and_follower(regions: tuple[Place, Place]) -> tuple[Place, Place]:
    """Whichever is which after the test before."""
    parts = [(await one.shown())["part"] for one in regions]
    assert sorted(parts) == ["follower", "home"]
    home, follower = regions if parts[0] == "home" else regions[::-1]
    return home, follower


async def until_level(follower: Place) -> None:
    async def level() -> bool:
        return bool((await follower.shown())["behind_revisions"] == 0)

    await eventually(level, f"{follower.name} to be level", 40)


async def same(one: Place, other: Place) -> bool:
    async def all_of(place: Place) -> dict[str, bytes]:
        return copied_of(await place.consul.read(ALL))

    return await all_of(one) == await all_of(other)


async def verbs(place: Place) -> list[str]:
    history: Json = await place.told("GET", "/v1/state/history?limit=1000")
    return [f"{one['verb']} {one['reason']}" for one in history["records"]]


async def test_a_change_at_the_home_comes_to_the_follower_with_its_records_and_its_gate(
    regions: tuple[Place, Place],
) -> None:
    home, follower = await home_and_follower(regions)
    await home.told("POST", "/v1/clients", {"id": "ada", "reason": "first"})
    made = await home.told("POST", "/v1/clients/ada/keys", {"reason": "a key"})
    await home.told("DELETE", f"/v1/keys/{made['id']}?reason=revoked")
    await follower.until_knows("ada")
    await until_level(follower)
    assert (await follower.told("GET", "/v1/clients/ada"))["keys"][0]["revoked"]

    async def nothing_is_missing() -> bool:
        return await same(home, follower)

    await eventually(nothing_is_missing, "both regions to hold the same, history and audit trail included", 40)
    assert await verbs(home) == await verbs(follower)
    status = await follower.told("GET", "/v1/status")
    assert status["gates"][0]["revision"] == status["revision"], "the follower's own gate has it in force"
    assert (await follower.told("GET", "/v1/audit/verify"))["tampered"] == 0
    assert "tekup_region_home 0" in (await follower.ask("GET", "/metrics")).text
    assert "tekup_region_home 1" in (await home.ask("GET", "/metrics")).text


async def test_a_follower_refuses_changes_and_names_the_home(regions: tuple[Place, Place]) -> None:
    home, follower = await home_and_follower(regions)
    refused = await follower.add("late")
    assert refused.status_code == 409
    assert "which alone writes" in refused.json()["detail"]
    assert home.link.url in refused.json()["detail"]
    assert (await follower.shown())["part"] == "follower"
    assert home.link.url in (await follower.told("GET", "/v1/status"))["message"]
    assert not (await home.told("GET", "/v1/status"))["message"]
    again = await follower.region("follow", peer=home.link.url)
    assert not again["changed"]


async def test_a_change_of_many_documents_comes_as_a_whole(regions: tuple[Place, Place]) -> None:
    home, follower = await home_and_follower(regions)
    resources = [{"kind": "Client", "id": f"many-{number:03d}"} for number in range(300)]
    answer = await home.ask("POST", "/v1/state/apply", {"resources": resources, "reason": "many"})
    assert answer.is_success, answer.text
    await until_level(follower)
    assert await home.clients() == await follower.clients()


async def test_the_home_is_not_taken_over_while_it_answers_unless_it_is_forced(regions: tuple[Place, Place]) -> None:
    _, follower = await home_and_follower(regions)
    refused = await follower.ask("POST", "/v1/region/take-over", {"reason": "too early"})
    assert refused.status_code == 422
    assert "answers and writes" in refused.json()["detail"]


async def test_a_home_that_is_cut_off_is_taken_over_and_what_it_wrote_alone_is_named_when_it_is_back(
    regions: tuple[Place, Place],
) -> None:
    home, follower = await home_and_follower(regions)
    await until_level(follower)
    for one in regions:
        one.link.cut()
    try:
        assert (await home.add("only-there")).is_success  # nobody has told it yet
        taken = await follower.region("take-over")
        assert taken["changed"]
        assert taken["part"] == "home"
        assert not (await follower.region("take-over"))["changed"]
        assert (await follower.add("after")).is_success
    finally:
        for one in regions:
            one.link.heal()
    await home.until_is("follower")
    await home.until_knows("after")
    assert "only-there" not in await home.clients()
    left = (await home.told("GET", "/v1/region/left"))["records"]
    assert [(one["verb"], [change["key"] for change in one["changes"]]) for one in left] == [
        ("client.add", ["tekup/policy/clients/only-there"])
    ]
    told = [one for one in await verbs(follower) if one.startswith("client.add")]
    assert len(told) == len(set(told)), "no change is there twice"
    assert (await follower.add("only-there")).is_success, "what was left can be made again by hand"
    assert (await home.told("DELETE", "/v1/region/left?reason=done"))["records"] == 1
    assert (await home.shown())["left"] == 0


async def test_a_home_that_was_away_asks_before_it_writes_again(regions: tuple[Place, Place]) -> None:
    home, follower = await home_and_follower(regions)
    await until_level(follower)
    await home.stop()
    assert (await follower.region("take-over"))["part"] == "home"
    await home.start()
    assert (await home.add("stale")).status_code == 409, "its first write is refused already"
    await home.until_is("follower")
    assert (await home.shown())["left"] == 0


async def test_handing_over_loses_nothing_under_constant_change(regions: tuple[Place, Place]) -> None:
    home, follower = await home_and_follower(regions)
    await until_level(follower)
    made: list[str] = []
    over = asyncio.Event()

    async def change() -> None:
        number = 0
        while not over.is_set():
            for one in regions:
                if (await one.add(f"steady-{number}")).status_code == 200:
                    made.append(f"steady-{number}")
                    break
            number += 1

    changing = asyncio.create_task(change())
    try:
        handed = await home.region("hand-over")
        assert handed["part"] == "follower"
        assert handed["peer_part"] == "home"
    finally:
        over.set()
        await changing
    assert (await follower.shown())["part"] == "home"
    assert not (await home.region("hand-over"))["changed"]
    await until_level(home)
    known = await home.clients()
    assert made
    assert set(made) <= known == await follower.clients()
    assert [one for one in known if one.startswith("steady-") and one not in made] == []
    assert (await home.shown())["left"] == 0


async def test_a_region_with_clients_of_its_own_is_not_replaced_by_mistake_and_one_that_leaves_writes_again(
    regions: tuple[Place, Place],
) -> None:
    home, follower = await home_and_follower(regions)
    assert (await follower.region("leave"))["part"] == "alone"
    assert (await follower.add("own")).is_success
    refused = await follower.ask("POST", "/v1/region/follow", {"peer": home.link.url, "reason": "again"})
    assert refused.status_code == 422
    assert "begin a later epoch at the home" in refused.json()["detail"]
    assert (await follower.shown())["part"] == "alone"
    assert (await home.region("leave"))["changed"]
    await home.region("take-over", peer=follower.link.url)
    refused = await follower.ask("POST", "/v1/region/follow", {"peer": home.link.url, "reason": "again"})
    assert "client own of this region would go" in refused.json()["detail"]
    await follower.region("follow", peer=home.link.url, over=True)
    assert "own" not in await follower.clients()
    assert (await follower.shown())["left"] >= 1


async def test_a_stranger_is_told_nothing(regions: tuple[Place, Place]) -> None:
    home, _ = regions
    for given in ({}, {"Authorization": "Bearer wrong"}):
        answer = await home.http.get(f"{home.member.url}/v1/region/side", headers={"Authorization": "", **given})
        assert answer.status_code == 401
        assert REVISION_KEY not in answer.text
        assert not [prefix for prefix in COPIED if prefix in answer.text]
