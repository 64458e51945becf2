"""Two operators at once: a change by who has read an older state is refused by its tag, and loses nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from control_plane.api import create_app
from control_plane.engine import Engine
from tests.support.memory import Memory
from tests.support.plane import ObedientGate, control_plane, running

pytestmark = pytest.mark.feature("C9")
TOKEN = {"Authorization": "Bearer secret-token"}


@pytest.fixture
async def api() -> AsyncIterator[httpx.AsyncClient]:
    store = Memory()
    async with running(control_plane(store), ObedientGate(store, "gate-1")) as plane:
        transport = httpx.ASGITransport(create_app(plane, Engine(plane, store), "secret-token"))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=TOKEN) as client:
            await client.post("/v1/init", json={})
            await client.post("/v1/clients", json={"id": "ci", "reason": "x"})
            yield client


async def widened(api: httpx.AsyncClient, tag: str, glob: str) -> httpx.Response:
    """What comes of adding a right to the client as it was read."""
    body = {"add": {"allow": [glob]}, "reason": "wider"}
    return await api.patch("/v1/clients/ci", json=body, headers={"If-Match": tag})


async def test_of_two_who_have_read_the_same_the_second_is_told_to_read_again(api: httpx.AsyncClient) -> None:
    tag = (await api.get("/v1/clients/ci")).headers["etag"]
    assert (await widened(api, tag, "search_*")).status_code == 200
    late = await widened(api, tag, "browser_*")
    assert (late.status_code, late.json()["title"]) == (412, "Precondition failed")
    assert "tekup/policy/clients/ci is not as you read it" in late.json()["detail"]
    again = (await api.get("/v1/clients/ci")).headers["etag"]
    assert again != tag
    assert (await widened(api, again, "browser_*")).status_code == 200
    allowed = (await api.get("/v1/clients/ci")).json()["client"]["allow"]
    assert allowed == ["*", "search_*", "browser_*"]


async def test_changes_of_others_leave_a_tag_good_and_a_removal_does_not(api: httpx.AsyncClient) -> None:
    tag = (await api.get("/v1/clients/ci")).headers["etag"]
    await api.post("/v1/clients", json={"id": "other", "reason": "x"})
    assert (await api.get("/v1/clients/ci")).headers["etag"] == tag
    await api.delete("/v1/clients/ci", params={"reason": "x"})
    assert (await widened(api, tag, "search_*")).status_code == 412


@pytest.mark.parametrize("tag", ["*", "abc", 'W/"0123456789abcdef"', '"x"'])
async def test_what_is_no_tag_of_ours_is_refused(api: httpx.AsyncClient, tag: str) -> None:
    answer = await widened(api, tag, "search_*")
    assert (answer.status_code, "send the ETag that was read" in answer.json()["detail"]) == (422, True)
