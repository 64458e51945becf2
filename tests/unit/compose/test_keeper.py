"""Who is started, stopped and restarted; and what a container is made of that is made like another."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from compose.containers.engine import PROJECT, SERVICE
from compose.containers.failing import MOST_PAUSE_S, START_S, Failing
from compose.containers.keeper import more_and_fewer
from compose.containers.narrow import NUMBER, ONE_OFF, VERSION, Container, NarrowEngine, NotPossible, body_of_copy

NOBODY: frozenset[str] = frozenset()


def one(number: int, version: str = "1.0.0", **other: Any) -> Container:
    name, address = f"p-mcp-search-{number}", f"10.0.0.{number}"
    made = Container(
        f"{version}-{number}", name, "mcp-search", version, number, "running", True, False, frozenset({address})
    )
    return replace(made, **other)


def test_what_is_missing_is_made_like_one_of_its_own_version_where_there_is_one() -> None:
    more, fewer = more_and_fewer([one(1), one(2, "2.0.0")], {("search", "2.0.0"): 2}, NOBODY)
    assert [(like.version, version) for like, version in more] == [("2.0.0", "2.0.0")]
    assert fewer == []


def test_of_too_many_those_that_do_not_run_go_first_and_then_the_latest() -> None:
    three = [one(1), one(2), one(3, state="restarting")]
    assert [gone.number for gone in more_and_fewer(three, {("search", "1.0.0"): 1}, NOBODY)[1]] == [3, 2]


def test_the_last_container_of_a_service_is_never_stopped() -> None:
    assert more_and_fewer([one(1)], {("search", "1.0.0"): 0}, NOBODY) == ([], [])
    both = [one(1), one(2, "2.0.0")]
    nothing = {("search", "1.0.0"): 0, ("search", "2.0.0"): 0}
    assert len(more_and_fewer(both, nothing, NOBODY)[1]) == 1
    assert more_and_fewer(both, {("search", "1.0.0"): 0}, frozenset({"2.0.0-2"})) == ([], [])


def test_who_leaves_already_neither_counts_nor_is_stopped_again() -> None:
    two = [one(1), one(2)]
    more, fewer = more_and_fewer(two, {("search", "1.0.0"): 2}, frozenset({"1.0.0-2"}))
    assert (len(more), fewer) == (1, [])


def test_who_was_killed_is_replaced_and_what_is_left_of_it_removed() -> None:
    more, fewer = more_and_fewer([one(1), one(2, state="exited")], {("search", "1.0.0"): 2}, NOBODY)
    assert (len(more), [gone.number for gone in fewer]) == (1, [2])


def test_versions_that_nobody_names_and_services_that_are_none_stay() -> None:
    consul = one(1, kind="consul")
    assert more_and_fewer([one(1), consul], {("search", "9.9.9"): 0, ("consul", "1.0.0"): 0}, NOBODY) == ([], [])


def sick(**other: Any) -> Container:
    return one(1, healthy=False, unhealthy=True, **other)


def restarts(failing: Failing, container: Container, passing: dict[str, bool], times: range) -> list[int]:
    return [now for now in times if list(failing.due([container], passing, NOBODY, float(now)))]


def test_who_lives_and_fails_is_restarted_after_its_time_and_then_less_and_less_often() -> None:
    failing, pauses, now = Failing(60), [], 0
    for _ in range(6):  # well for a moment after each restart
        list(failing.due([one(1)], {}, NOBODY, float(now)))
        then = next(at for at in range(now, now + 700, 10) if list(failing.due([sick()], {}, NOBODY, float(at))))
        pauses.append(then - now)
        now = then + 10
    assert pauses == [60, 120, 240, 480, MOST_PAUSE_S, MOST_PAUSE_S]


def test_who_was_never_well_may_still_be_starting_and_is_given_ten_minutes() -> None:
    assert restarts(Failing(60), sick(), {}, range(0, 1000, 10)) == [START_S]
    unready = restarts(Failing(60), one(1), {"10.0.0.1": False}, range(0, 500, 10))
    assert unready == []


def test_who_passed_and_fails_in_the_registry_is_restarted_though_its_own_check_is_content() -> None:
    failing = Failing(60)
    list(failing.due([one(1)], {"10.0.0.1": True}, NOBODY, 0.0))
    assert restarts(failing, one(1), {"10.0.0.1": False}, range(10, 100, 10)) == [60]


def test_while_consul_does_not_tell_nobody_is_restarted_for_it_and_0_means_never() -> None:
    failing = Failing(60)
    list(failing.due([one(1)], {"10.0.0.1": True}, NOBODY, 0.0))
    assert restarts(failing, one(1), {}, range(10, 900, 10)) == []
    assert restarts(Failing(0), sick(), {}, range(0, 900, 10)) == []


def test_who_is_being_stopped_or_is_no_more_running_is_left_alone() -> None:
    failing = Failing(60)
    list(failing.due([one(1)], {}, NOBODY, 0.0))
    assert restarts(failing, sick(state="restarting"), {}, range(0, 300, 10)) == []
    assert not [now for now in range(0, 300, 10) if list(failing.due([sick()], {}, frozenset({"1.0.0-1"}), float(now)))]


OLD_IMAGE = {"Id": "sha256:old", "Config": {"Env": ["PATH=/bin", "MCP_PORT=3003"], "Cmd": ["old"], "User": "10001",
                                            "Labels": {VERSION: "1.0.0"}}}  # fmt: skip
NEW_IMAGE = {"Id": "sha256:new", "Config": {"Env": ["PATH=/bin2"], "Cmd": ["new"], "Labels": {VERSION: "2.0.0"}}}
ABOUT: dict[str, Any] = {
    "Image": "sha256:old",
    "Config": {
        "Env": ["PATH=/bin", "MCP_PORT=3003", "MCP_ENV=staging"], "Cmd": ["old"], "User": "5:5", "Hostname": "abc",
        "Labels": {VERSION: "1.0.0", PROJECT: "p", SERVICE: "mcp-search", NUMBER: "1", "tekup.bandwidth": "1mbit"},
    },
    "HostConfig": {"Memory": 5, "CapDrop": ["ALL"], "ReadonlyRootfs": True},
    "NetworkSettings": {"Networks": {"p_files": {"Aliases": ["p-mcp-search-1", "mcp-search", "abc"]}}},
}  # fmt: skip


def test_a_copy_has_all_that_the_environment_gave_and_what_the_new_image_brings() -> None:
    body = body_of_copy(ABOUT, OLD_IMAGE, {**NEW_IMAGE, "Name": "tekup/mcp-search:2.0.0"}, "p-mcp-search-2", 2)
    assert body["Image"] == "tekup/mcp-search:2.0.0"
    assert body["Env"] == ["MCP_ENV=staging"]
    assert "Cmd" not in body
    assert "Hostname" not in body
    assert body["User"] == "5:5"
    assert body["HostConfig"] == ABOUT["HostConfig"]
    assert body["Labels"][NUMBER] == "2"
    assert body["Labels"]["tekup.bandwidth"] == "1mbit"
    assert VERSION not in body["Labels"]
    assert body["Networks"] == {"p_files": {"Aliases": ["p-mcp-search-2", "mcp-search"]}}


def engine(asked: list[str], about: dict[str, Any], image: dict[str, Any] | None) -> NarrowEngine:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        if "/images/sha256:old/" in request.url.path:
            return httpx.Response(200, json=OLD_IMAGE)
        if "/images/" in request.url.path:
            return httpx.Response(200, json=image) if image else httpx.Response(404, json={"message": "No such image"})
        if request.url.path.endswith("/containers/create"):
            return httpx.Response(201, json={"Id": "made"})
        if request.url.path.endswith("/json"):
            return httpx.Response(200, json=about)
        return httpx.Response(204)

    return NarrowEngine(httpx.AsyncClient(transport=httpx.MockTransport(answer)), "p")


async def test_an_image_that_is_not_there_or_says_another_version_starts_nothing() -> None:
    for image, said in (
        (None, "make images"),
        ({**NEW_IMAGE, "Config": {"Labels": {VERSION: "9"}}}, "says that it is 9"),
    ):
        asked: list[str] = []
        with pytest.raises(NotPossible, match=said):
            await engine(asked, ABOUT, image).start_another(one(1), "2.0.0", [one(1)])
        assert not [line for line in asked if line.startswith("POST")]


@pytest.mark.parametrize(
    ("like", "version", "project"),
    [
        (one(1, kind="consul"), "2.0.0", "p"),
        (one(1, kind="control-plane"), "2.0.0", "p"),
        (one(1), "2.0.0/../../evil", "p"),
        (one(1), "latest@sha256:00", "p"),
        (one(1), "2.0.0", "of-another"),
    ],
)
async def test_nothing_but_versions_of_this_projects_services_is_ever_started(
    like: Container, version: str, project: str
) -> None:
    about = {**ABOUT, "Config": {**ABOUT["Config"], "Labels": {**ABOUT["Config"]["Labels"], PROJECT: project}}}
    asked: list[str] = []
    with pytest.raises(NotPossible):
        await engine(asked, about, NEW_IMAGE).start_another(like, version, [like])
    assert not [line for line in asked if line.startswith("POST")]


async def test_a_new_one_takes_the_first_number_that_is_free() -> None:
    asked: list[str] = []
    made = await engine(asked, ABOUT, NEW_IMAGE).start_another(one(1), "2.0.0", [one(1), one(3)])
    assert made == "p-mcp-search-2"
    assert asked[-2:] == ["POST /v1.41/containers/create", "POST /v1.41/containers/made/start"]


async def test_only_this_projects_containers_are_listed() -> None:
    filters: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        filters.append(json.loads(request.url.params["filters"]))
        return httpx.Response(200, json=[])

    await NarrowEngine(httpx.AsyncClient(transport=httpx.MockTransport(answer)), "p").containers()
    assert filters == [{"label": [f"{PROJECT}=p", f"{ONE_OFF}=False"]}]
