"""The console's editor of alert rules, over a control plane in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from control_plane.console.rules import BEGIN
from control_plane.receivers import Receiver
from control_plane.rules import Sources
from tests.support.console_world import CSRF, World, console_world, fields

pytestmark = [pytest.mark.feature("C10"), pytest.mark.feature("C14")]
RULE = "rules:\n  - alert: Deep\n    expr: depth > 5\n"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with console_world() as made:
        made.plane.rules.asks(Sources(metrics=made.metrics))
        yield made


@pytest.fixture
async def browser(world: World) -> httpx.AsyncClient:
    return await world.operator()


async def posted(browser: httpx.AsyncClient, path: str, **given: str) -> httpx.Response:
    token = CSRF.search((await browser.get("/console/alerts/rules/edit")).text)
    assert token
    return await browser.post(f"/console/alerts/rules/{path}", data={"csrf": token[1], "known": "no", **given})


async def groups(world: World) -> list[str]:
    return [one["group"]["name"] for one in (await world.api.get("/v1/rules")).json()["groups"]]


async def test_what_the_editor_begins_with_is_sound(browser: httpx.AsyncClient) -> None:
    answer = await posted(browser, "edit", name="night", rules=BEGIN)
    assert (answer.status_code, 'id="tried"' in answer.text) == (200, True), answer.text


@pytest.mark.parametrize(
    ("name", "text", "said", "field"),
    [
        ("night", "rules: [", "this is no YAML", "rules"),
        ("night", "- 1", "write `rules:`", "rules"),
        ("night", "groups: []", "groups: not of a group", "rules"),
        ("night", "rules:\n  - alert: Deep\n", "expr: Field required", "rules"),
        ("night", RULE.replace("5", "(5"), "parse error", "rules"),
        ("Night!", RULE, "name: String should match", "name"),
    ],
)
async def test_what_is_wrong_is_said_at_its_field_and_what_was_written_stays(
    browser: httpx.AsyncClient, name: str, text: str, said: str, field: str
) -> None:
    answer = await posted(browser, "edit", name=name, rules=text)
    assert answer.status_code == 422
    assert said in answer.text.replace("&#39;", "'")
    shown = answer.text.partition(f'id="{field}"')[2].partition(">")[0]
    assert 'aria-invalid="true" aria-describedby="problem"' in shown
    assert text.splitlines()[0] in answer.text
    assert 'id="tried"' not in answer.text


async def test_rules_are_added_after_a_look_and_with_a_reason(world: World, browser: httpx.AsyncClient) -> None:
    page = await posted(browser, "put", name="night", rules=RULE)
    assert "AlertRules <code>night</code>" in page.text
    assert await groups(world) == []
    form = fields(page.text)
    unsaid = await browser.post("/console/alerts/rules/put", data=form)
    assert (unsaid.status_code, "Say why" in unsaid.text) == (422, True)
    done = await browser.post("/console/alerts/rules/put", data={**form, "reason": "queues"})
    assert done.headers["location"] == "/console/alerts/rules"
    assert await groups(world) == ["night"]
    listed = (await browser.get("/console/alerts/rules")).text
    assert "depth &gt; 5" in listed


async def test_a_group_that_another_has_changed_is_not_overwritten(world: World, browser: httpx.AsyncClient) -> None:
    one = {"alert": "Deep", "expr": "depth > 5"}
    await world.api.put("/v1/rules/night", json={"rules": [one], "reason": "x"})
    editor = await browser.get("/console/alerts/rules/edit", params={"group": "night"})
    assert "depth &gt; 5" in editor.text
    page = await posted(browser, "put", name="night", rules=RULE.replace("5", "9"), known="yes")
    theirs = {**one, "for_s": 60}
    await world.api.put("/v1/rules/night", json={"rules": [theirs], "replace": True, "reason": "theirs"})
    mine = await browser.post("/console/alerts/rules/put", data={**fields(page.text), "reason": "mine"})
    assert (mine.status_code, "Nothing was done" in mine.text) == (409, True)
    kept = (await world.api.get("/v1/rules/night")).json()["group"]["rules"]
    assert [(rule["expr"], rule["for_s"]) for rule in kept] == [("depth > 5", 60)]


async def test_a_group_is_removed_after_a_look_and_a_missing_one_is_not_found(
    world: World, browser: httpx.AsyncClient
) -> None:
    await world.api.put("/v1/rules/night", json={"rules": [{"alert": "Deep", "expr": "1"}], "reason": "x"})
    page = await browser.get("/console/alerts/rules/night/remove")
    await browser.post("/console/alerts/rules/night/remove", data={**fields(page.text), "reason": "mended"})
    assert await groups(world) == []
    assert (await browser.get("/console/alerts/rules/night/remove")).status_code == 404


async def test_who_may_not_change_rules_is_offered_none_and_refused(world: World) -> None:
    made = await world.api.post("/v1/operators", json={"name": "ada", "role": "operator", "reason": "x"})
    browser = world.browser()
    await browser.post("/console/login", data={"token": made.json()["token"]})
    assert "Add alert rules" not in (await browser.get("/console/alerts/rules")).text
    page = await posted(browser, "put", name="night", rules=RULE)
    assert "This would be refused" in page.text
    assert await groups(world) == []


async def test_receivers_are_shown_with_what_they_are_told_of(world: World, browser: httpx.AsyncClient) -> None:
    class Sound:
        async def problem_of(self, receivers: Sequence[Receiver]) -> str:
            assert receivers
            return ""

    world.plane.receivers.amtool = Sound()
    fields_ = {"by": "slack", "url_secret": "chat", "severities": ["critical"], "services": ["ledger"]}
    put = await world.api.put("/v1/receivers/team", json={**fields_, "reason": "x"})
    assert put.is_success, put.text
    page = (await browser.get("/console/alerts/rules")).text
    assert "address in file chat" in page
    assert "critical; services ledger" in page
