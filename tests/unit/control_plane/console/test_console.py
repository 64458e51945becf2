"""The console over a control plane in memory: who may come in, what pages say, and that no change is lost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from control_plane.console import app as console_app
from control_plane.console.ended import ENDED_PREFIX, Ended
from control_plane.console.links import Links
from control_plane.console.session import COOKIE
from control_plane.roles import Operator, Role
from tests.support.console_world import CSRF, TOKEN, World, console_world, fields, instance
from tests.support.memory import Memory
from tests.support.wait import eventually

pytestmark = pytest.mark.feature("C14")
READS = ["/", "/services/ledger", "/clients", "/clients/ci", "/alerts", "/history", "/history/0", "/audit"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with console_world(links=Links.of("https://grafana.test/", "https://jaeger.test", "")) as made:
        await made.register(instance("ledger", "1.0.0", 1))
        await made.register(instance("ledger", "1.0.0", 1), instance("ledger", "1.1.0", 2))
        yield made


@pytest.fixture
async def browser(world: World) -> httpx.AsyncClient:
    return await world.operator()


async def client_with_key(world: World) -> str:
    await world.api.post("/v1/clients", json={"id": "ci", "reason": "x"})
    return str((await world.api.post("/v1/clients/ci/keys", json={"reason": "x", "label": "laptop"})).json()["id"])


# -- who may come in


@pytest.mark.parametrize("path", READS)
async def test_nobody_sees_a_page_without_logging_in(world: World, path: str) -> None:
    answer = await world.browser().get(f"/console{path}")
    assert (answer.status_code, answer.text) == (303, "")
    assert answer.headers["location"].startswith("/console/login")


async def test_a_wrong_token_opens_nothing(world: World) -> None:
    browser = world.browser()
    answer = await browser.post("/console/login", data={"token": "wrong"})
    assert answer.status_code == 401
    assert "no operator" in answer.text
    assert "set-cookie" not in answer.headers


async def test_after_many_wrong_tokens_even_the_right_one_waits(world: World) -> None:
    browser = world.browser()
    for _ in range(console_app.MOST_WRONG):
        await browser.post("/console/login", data={"token": "wrong"})
    assert (await browser.post("/console/login", data={"token": TOKEN})).status_code == 429


async def test_the_cookie_is_for_this_site_alone_and_says_nothing(world: World) -> None:
    answer = await world.browser(**{"X-Forwarded-Proto": "https"}).post("/console/login", data={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    for wanted in ("HttpOnly", "SameSite=strict", "Secure", "Path=/console", "Max-Age=1800"):
        assert wanted in cookie
    assert TOKEN not in cookie


async def test_in_clear_the_cookie_is_kept_as_well(world: World) -> None:
    answer = await world.browser().post("/console/login", data={"token": TOKEN})
    assert "Secure" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("onward", ["https://evil.test/", "//evil.test", "/console/../v1", "/console/\\evil", "/x"])
async def test_a_login_leads_to_pages_of_the_console_alone(world: World, onward: str) -> None:
    answer = await world.browser().post("/console/login", data={"token": TOKEN, "next": onward})
    assert answer.headers["location"] == "/console/"


async def test_whoever_logs_out_is_out_even_with_the_cookie_of_before(world: World, browser: httpx.AsyncClient) -> None:
    kept = browser.cookies[COOKIE]
    token = CSRF.search((await browser.get("/console/")).text)
    assert token
    await browser.post("/console/logout", data={"csrf": token[1]})
    again = world.browser(Cookie=f"{COOKIE}={kept}")
    assert (await again.get("/console/")).status_code == 303


async def test_a_logout_is_known_to_every_replica_and_forgotten_once_no_cookie_could_be_good() -> None:
    store, now = Memory(), [1000.0]
    here, there = Ended(store, lambda: now[0]), Ended(store, lambda: now[0])
    following = asyncio.create_task(there.run())
    await here.add("one", 1500)

    async def known() -> bool:
        return there.has("one")

    await eventually(known, "the other replica to know")
    assert here.has("one")
    assert not there.has("two")
    assert b"one" not in b"".join(key.encode() for key in (await store.read(ENDED_PREFIX)).entries)
    now[0] = 1501
    await there.add("two", 2000)
    assert len((await store.read(ENDED_PREFIX)).entries) == 1
    store.away = True
    await here.add("three", 2000)
    assert here.has("three")
    following.cancel()


async def test_a_cookie_of_somebody_elses_making_is_nothing(world: World, browser: httpx.AsyncClient) -> None:
    forged = browser.cookies[COOKIE][:-8] + "AAAAAAA="
    assert (await world.browser(Cookie=f"{COOKIE}={forged}").get("/console/")).status_code == 303


@pytest.mark.parametrize("path", [*READS, "/login", "/static/console.css", "/nowhere", "/services/none"])
async def test_every_answer_forbids_frames_foreign_scripts_and_referrers(browser: httpx.AsyncClient, path: str) -> None:
    headers = (await browser.get(f"/console{path}")).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "same-origin")
    assert path.startswith("/static") or headers["cache-control"] == "no-store"


async def test_no_page_holds_what_its_policy_forbids(world: World, browser: httpx.AsyncClient) -> None:
    await client_with_key(world)
    for path in READS:
        text = (await browser.get(f"/console{path}")).text
        assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|<style|\son\w+=|javascript:", text), path


# -- forms


FORMS = [
    "/services/ledger/traffic",
    "/services/ledger/rollout/start",
    "/history/0/rollback",
    "/alerts/silence",
    "/logout",
]


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("given", [{}, {"csrf": ""}, {"csrf": "guessed"}])
async def test_a_form_without_its_own_token_changes_nothing(
    browser: httpx.AsyncClient, path: str, given: dict[str, str]
) -> None:
    answer = await browser.post(f"/console{path}", data={"reason": "x", "weight:1.1.0": "50", **given})
    assert answer.status_code in (403, 415)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_form_of_another_site_changes_nothing(browser: httpx.AsyncClient, headers: dict[str, str]) -> None:
    token = CSRF.search((await browser.get("/console/")).text)
    assert token
    answer = await browser.post("/console/logout", data={"csrf": token[1]}, headers=headers)
    assert answer.status_code == 403


async def test_traffic_is_shown_first_and_then_shifted(world: World, browser: httpx.AsyncClient) -> None:
    at = "/console/services/ledger/traffic"
    preview = await browser.get(at, params={"weight:1.1.0": "30"})
    assert "Shift traffic of ledger" in preview.text
    assert 'aria-label="Then: 1.0.0 70 %, 1.1.0 30 %"' in preview.text
    before = (await world.api.get("/v1/status")).json()["revision"]
    done = await browser.post(at, data={**fields(preview.text), "reason": "try it"})
    assert done.headers["location"] == "/console/services/ledger"
    shown = (await browser.get(done.headers["location"])).text
    assert f"Revision {before + 1} is in force on every gate" in shown
    assert "is in force on every gate" not in (await browser.get(done.headers["location"])).text, "said once"
    record = (await world.api.get(f"/v1/state/history/{before + 1}")).json()
    assert (record["verb"], record["reason"]) == ("traffic.set", "try it")


async def test_a_change_needs_a_reason(world: World, browser: httpx.AsyncClient) -> None:
    at = "/console/services/ledger/traffic"
    preview = await browser.get(at, params={"weight:1.1.0": "30"})
    answer = await browser.post(at, data={**fields(preview.text), "reason": "  "})
    assert (answer.status_code, "Say why" in answer.text) == (422, True)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"weight:1.1.0": "150"}, "must be a number, 0 to 100"), ({"weight:1.1.0": "nan"}, "must be a number"),
     ({}, "no weights given"), ({"weight:9.9.9": "10"}, "no instance of version 9.9.9")],
)  # fmt: skip
async def test_what_makes_no_sense_is_said_on_the_page(
    browser: httpx.AsyncClient, given: dict[str, str], said: str
) -> None:
    assert said in (await browser.get("/console/services/ledger/traffic", params=given)).text


async def test_what_another_operator_changed_meanwhile_is_no_lost_update(
    world: World, browser: httpx.AsyncClient
) -> None:
    at = "/console/services/ledger/traffic"
    mine = await browser.get(at, params={"weight:1.1.0": "30"})
    await world.api.put("/v1/services/ledger/traffic", json={"weights_pct": {"1.1.0": 5}, "reason": "the other one"})
    answer = await browser.post(at, data={**fields(mine.text), "reason": "mine"})
    assert answer.status_code == 409
    assert "Nothing was done" in answer.text
    assert "the other one" in answer.text
    lanes = (await world.api.get("/v1/services/ledger")).json()["policy"]["lanes"]
    assert {lane["version"]: lane["weight_pct"] for lane in lanes} == {"1.0.0": 95, "1.1.0": 5}


async def test_a_change_of_something_else_is_no_conflict(world: World, browser: httpx.AsyncClient) -> None:
    at = "/console/services/ledger/traffic"
    mine = await browser.get(at, params={"weight:1.1.0": "30"})
    await world.api.post("/v1/clients", json={"id": "other", "reason": "x"})
    assert (await browser.post(at, data={**fields(mine.text), "reason": "mine"})).status_code == 303


async def test_a_rollback_is_of_the_whole_so_any_change_is_a_conflict(world: World, browser: httpx.AsyncClient) -> None:
    mine = await browser.get("/console/history/1/rollback")
    await world.api.post("/v1/clients", json={"id": "other", "reason": "x"})
    answer = await browser.post("/console/history/1/rollback", data={**fields(mine.text), "reason": "mine"})
    assert answer.status_code == 409
    assert "<code>other</code>" in answer.text


async def test_a_key_is_revoked_with_a_reason(world: World, browser: httpx.AsyncClient) -> None:
    key = await client_with_key(world)
    at = f"/console/clients/ci/keys/{key}/revoke"
    preview = (await browser.get(at)).text
    assert "secret and never shown" in preview
    assert (await browser.post(at, data={**fields(preview), "reason": "lost"})).status_code == 303
    assert (await world.api.get("/v1/clients/ci/keys")).json()["keys"][0]["revoked"] > 0


async def test_a_rollout_is_started_watched_and_aborted(world: World, browser: httpx.AsyncClient) -> None:
    at = "/console/services/ledger/rollout"
    preview = await browser.get(f"{at}/start", params={"version": "1.1.0", "strategy": ""})
    assert "Start a rollout of ledger to 1.1.0" in preview.text
    done = await browser.post(f"{at}/start", data={**fields(preview.text), "reason": "release"})
    assert done.headers["location"] == at
    page = (await browser.get(at)).text
    assert "ledger 1.0.0 → 1.1.0" in page
    assert "release" in page
    abort = await browser.get(f"{at}/abort")
    assert (await browser.post(f"{at}/abort", data={**fields(abort.text), "reason": "no"})).status_code == 303
    assert (await world.api.get("/v1/services/ledger/rollout")).json()["health"] == "Degraded"


QUICK = [{"weight_pct": 10, "bake_s": 600, "verdict_s": 600}]


async def baking(world: World) -> None:
    """A rollout that waits at its only step."""
    wish = {"version": "1.1.0", "reason": "x", "steps": QUICK}
    assert (await world.api.post("/v1/services/ledger/rollout", json=wish)).is_success

    async def there() -> bool:
        return bool((await world.api.get("/v1/services/ledger/rollout")).json()["phase"] == "baking")

    await eventually(there, "the rollout baking")


async def test_a_promotion_of_what_another_has_paused_is_a_conflict_that_says_so(
    world: World, browser: httpx.AsyncClient
) -> None:
    await baking(world)
    at = "/console/services/ledger/rollout/promote"
    mine = await browser.get(at)
    await world.api.post("/v1/services/ledger/rollout/pause", json={"reason": "it looks odd"})
    answer = await browser.post(at, data={**fields(mine.text), "reason": "mine"})
    assert answer.status_code == 409
    assert "it looks odd" in answer.text
    assert (await world.api.get("/v1/services/ledger/rollout")).json()["phase"] == "paused"


async def test_an_abort_wins_whatever_has_become_of_the_rollout_meanwhile(
    world: World, browser: httpx.AsyncClient
) -> None:
    await baking(world)
    at = "/console/services/ledger/rollout/abort"
    mine = await browser.get(at)
    await world.api.post("/v1/services/ledger/rollout/pause", json={"reason": "it looks odd"})
    assert (await browser.post(at, data={**fields(mine.text), "reason": "enough"})).status_code == 303
    assert (await world.api.get("/v1/services/ledger/rollout")).json()["health"] == "Degraded"


async def test_a_rollout_is_offered_the_verbs_of_its_phase(world: World, browser: httpx.AsyncClient) -> None:
    await baking(world)
    page = (await browser.get("/console/services/ledger/rollout")).text
    offered = re.findall(r'id="do-([a-z-]+)"', page)
    assert offered == ["promote", "promote-full", "pause", "abort"]


async def test_what_others_wrote_stands_on_the_page_as_text(world: World, browser: httpx.AsyncClient) -> None:
    evil = "<script>alert(1)</script>"
    await world.api.put("/v1/services/ledger/traffic", json={"weights_pct": {"1.1.0": 5}, "reason": evil})
    for path in ("/history", "/history/2"):
        text = (await browser.get(f"/console{path}")).text
        assert evil not in text
        assert "&lt;script&gt;" in text


@pytest.mark.parametrize("path", ["/nowhere", "/services/none", "/clients/none", "/history/999", "/history/x",
                                  "/services/ledger/rollout", "/services/ledger/rollout/dance"])  # fmt: skip
async def test_what_does_not_exist_is_a_page_that_says_so(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(f"/console{path}")
    assert 400 <= answer.status_code < 500
    assert "TekUp" in answer.text


# -- who may only look


async def vera(token: str) -> Operator | None:
    return Operator("vera", Role.VIEWER) if token == TOKEN else None


async def test_who_may_only_look_is_offered_no_change_and_can_make_none() -> None:
    async with console_world(known=vera) as world:
        await world.register(instance("ledger", "1.0.0", 1), instance("ledger", "1.1.0", 2))
        browser = await world.operator()
        page = (await browser.get("/console/services/ledger")).text
        assert "Shift traffic" not in page
        preview = (await browser.get("/console/services/ledger/traffic", params={"weight:1.1.0": "5"})).text
        data = {**fields(preview), "reason": "x"}
        answer = await browser.post("/console/services/ledger/traffic", data=data)
        assert (answer.status_code, "may look at everything" in answer.text) == (403, True)


# -- when things are away


async def test_with_its_store_away_pages_show_what_was_known_and_say_so(
    world: World, browser: httpx.AsyncClient
) -> None:
    assert "ledger" in (await browser.get("/console/")).text
    world.store.away = True
    page = await browser.get("/console/")
    assert page.status_code == 200
    assert "ledger" in page.text
    assert "cannot read its store" in page.text
    assert 'role="alert"' in page.text


async def test_with_its_store_away_a_change_is_refused_plainly(world: World, browser: httpx.AsyncClient) -> None:
    at = "/console/services/ledger/traffic"
    preview = await browser.get(at, params={"weight:1.1.0": "30"})
    world.store.away = True
    answer = await browser.post(at, data={**fields(preview.text), "reason": "x"})
    assert (answer.status_code, "Nothing was changed" in answer.text) == (503, True)


async def test_links_lead_to_the_service_elsewhere(browser: httpx.AsyncClient) -> None:
    page = (await browser.get("/console/services/ledger")).text
    assert "https://grafana.test/d/tekup-service?var-service=ledger" in page
    assert "https://jaeger.test/search?service=tekup-ledger" in page


# -- a form that is sent twice


async def revision(world: World) -> int:
    return int((await world.api.get("/v1/status")).json()["revision"])


async def test_a_form_that_is_sent_twice_is_one_change_and_says_the_same(
    world: World, browser: httpx.AsyncClient
) -> None:
    at = "/console/services/ledger/traffic"
    sent = {**fields((await browser.get(at, params={"weight:1.1.0": "30"})).text), "reason": "once"}
    before = await revision(world)
    first = await browser.post(at, data=sent)
    said = (await browser.get(first.headers["location"])).text
    second = await browser.post(at, data=sent)
    assert (first.status_code, second.status_code) == (303, 303)
    assert f"Revision {before + 1} is in force" in said
    assert f"Revision {before + 1} is in force" in (await browser.get(second.headers["location"])).text
    assert await revision(world) == before + 1


async def test_both_sendings_of_a_double_click_are_answered_with_the_one_change(
    world: World, browser: httpx.AsyncClient
) -> None:
    at = "/console/services/ledger/traffic"
    sent = {**fields((await browser.get(at, params={"weight:1.1.0": "30"})).text), "reason": "once"}
    before = await revision(world)
    answers = await asyncio.gather(*(browser.post(at, data=sent) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [303] * 3
    assert await revision(world) == before + 1


async def test_a_form_sent_again_after_another_operator_has_gone_on_takes_nothing_back(
    world: World, browser: httpx.AsyncClient
) -> None:
    at = "/console/services/ledger/traffic"
    sent = {**fields((await browser.get(at, params={"weight:1.1.0": "30"})).text), "reason": "once"}
    assert (await browser.post(at, data=sent)).status_code == 303
    await world.api.put("/v1/services/ledger/traffic", json={"weights_pct": {"1.1.0": 5}, "reason": "the other one"})
    assert (await browser.post(at, data=sent)).status_code == 303
    lanes = (await world.api.get("/v1/services/ledger")).json()["policy"]["lanes"]
    assert {lane["version"]: lane["weight_pct"] for lane in lanes} == {"1.0.0": 95, "1.1.0": 5}


@pytest.mark.parametrize("once", ["", "x" * 36, "../../etc"])
async def test_a_form_whose_key_is_none_is_held_against_what_is_there_alone(
    world: World, browser: httpx.AsyncClient, once: str
) -> None:
    at = "/console/services/ledger/traffic"
    shown = fields((await browser.get(at, params={"weight:1.1.0": "30"})).text)
    sent = {**shown, "once": once, "reason": "once"}
    assert (await browser.post(at, data=sent)).status_code == 303
    assert (await browser.post(at, data=sent)).status_code == 409
