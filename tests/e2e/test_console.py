"""The console in a real Chromium, on real parts: two gates, Consul, Prometheus, Alertmanager and the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.alerting import AlertmanagerProcess
from tests.support.counted import Calls
from tests.support.load import body, headers
from tests.support.operator_browser import SCHEMES, SIZES, Operator, chromium, log_in
from tests.support.programs import program
from tests.support.prometheus_process import PrometheusProcess
from tests.support.stage import TOKEN, Process, Stage, stage

Json = dict[str, Any]
pytestmark = [
    pytest.mark.local,
    pytest.mark.timeout(300),
    pytest.mark.feature("C14"),
    pytest.mark.asyncio(loop_scope="module"),
]
NEW = "1.1.0"
TOOLS: dict[str, dict[str, object]] = {"ledger_note": {"entry": "noted", "hold_ms": 5}, "ledger_list": {}}
QUICK = [{"weight_pct": 50, "bake_s": 60, "margin": 0.05, "verdict_s": 120}]


@dataclass
class World:
    """The stage with two versions of the ledger, and who knows of alerts."""

    stage: Stage
    alertmanager: AlertmanagerProcess

    @property
    def url(self) -> str:
        """A replica's."""
        return next(iter(self.stage.urls.values()))

    def lanes(self) -> dict[str, float]:
        """Where the calls of the ledger go."""
        return {lane["version"]: lane["weight_pct"] for lane in self.stage.policy()["lanes"]}

    def alertmanagers(self, method: str, what: str, sent: list[Json] | None = None) -> Any:
        """Ask Alertmanager itself."""
        answer = httpx.request(method, f"{self.alertmanager.url}/api/v2/{what}", json=sent, trust_env=False)
        return answer.raise_for_status().json() if answer.content else None


@contextlib.contextmanager
def keeper_of_rules(made: Stage) -> Iterator[None]:
    """Who writes operators' rules where the stage's Prometheus reads them."""
    env = {
        "PATH": os.environ["PATH"],
        "MCP_CONSUL_URL": made.consul.url,
        "MCP_RULES_DIR": str(made.folder / "prometheus" / "rules" / "operators"),
    }
    command = [sys.executable, "-m", "control_plane.rule_keeper"]
    keeper = Process("rule-keeper", command, env, made.folder / "rule-keeper.log").start()
    try:
        yield
    finally:
        keeper.end()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        AlertmanagerProcess(tmp_path_factory.mktemp("alerts")) as alertmanager,
        stage(
            tmp_path_factory.mktemp("stage"),
            replicas=2,
            metrics=partial(PrometheusProcess, alertmanager=alertmanager.address),
            MCP_ALERTMANAGER_URL=alertmanager.url,
            MCP_PROMTOOL=program("promtool"),
        ) as made,
        keeper_of_rules(made),
    ):
        made.add_instance(NEW, [])
        made.serving(NEW)
        delivery = {"kind": "Delivery", "service": "ledger", "steps": QUICK, "keep_warm_s": 2}
        made.ask("POST", "/v1/state/apply", {"resources": [delivery], "reason": "test"})
        yield World(made, alertmanager)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as made:
        yield made


@dataclass
class Desk:
    """Where operators log in; each has cookies of their own."""

    browser: Browser
    world: World

    @contextlib.asynccontextmanager
    async def operator(self, **wanted: Any) -> AsyncIterator[Operator]:
        """Somebody who has logged in; the browser may have had nothing to complain of in the end."""
        made = await log_in(self.browser, self.world.url, TOKEN, **wanted)
        try:
            yield made
            assert made.problems == []
        finally:
            await made.page.context.close()


@pytest.fixture(scope="module")
def desk(browser: Browser, world: World) -> Desk:
    return Desk(browser, world)


async def aside(work: Any, *given: Any) -> Any:
    """Ask without holding the browser up."""
    return await asyncio.to_thread(work, *given)


async def picture(me: Operator, name: str) -> None:
    """A picture of what is hard to come to, where TEKUP_SCREENSHOTS says."""
    if folder := os.environ.get("TEKUP_SCREENSHOTS"):
        for scheme in SCHEMES:
            await me.look(scheme, "wide")
            await me.page.screenshot(path=Path(folder) / f"{name}-{scheme}.png", full_page=True)


async def test_an_operator_shifts_traffic_with_the_slider_after_a_look_at_what_it_does(
    desk: Desk, world: World
) -> None:
    async with desk.operator() as me:
        await me.follow("ledger")
        slider = me.page.get_by_label(f"Share of {NEW}, slider")
        await slider.focus()
        for _ in range(3):
            await me.page.keyboard.press("PageUp")
        share = float(await me.page.get_by_role("spinbutton").input_value())
        assert share > 0
        await me.page.get_by_role("button", name="Preview").first.click()
        await me.page.get_by_role("img", name=f"Then: 1.0.0 {100 - share:g} %, {NEW} {share:g} %").wait_for()
        assert (await aside(world.lanes)) == {"1.0.0": 100}, "a preview changes nothing"
        await me.confirm("Shift traffic", "a first look at it")
        await me.says("is in force on every gate")
        assert (await aside(world.lanes)) == {"1.0.0": 100 - share, NEW: share}


async def test_a_double_click_and_a_form_sent_again_by_the_way_back_are_one_change(desk: Desk, world: World) -> None:
    async with desk.operator() as me:
        before = (await aside(world.stage.ask, "GET", "/v1/status"))["revision"]
        await me.go(f"/services/ledger/traffic?weight:{NEW}=11")
        await me.page.get_by_label("Reason").fill("clicked twice")
        await me.page.get_by_role("button", name="Shift traffic", exact=True).dblclick()
        await me.says(f"Revision {before + 1} is in force on every gate")
        # as from a page that the browser has kept: the same form, field by field
        await me.go(f"/services/ledger/traffic?weight:{NEW}=12")
        await me.page.get_by_label("Reason").fill("sent again")
        form = await me.page.locator("form.confirm").evaluate("form => [...new FormData(form)]")
        await me.page.get_by_role("button", name="Shift traffic", exact=True).click()
        await me.says(f"Revision {before + 2} is in force on every gate")
        await me.page.evaluate(AGAIN, form)
        await me.says(f"Revision {before + 2} is in force on every gate")
        await me.page.wait_for_url("**/console/services/ledger")
    assert (await aside(world.stage.ask, "GET", "/v1/status"))["revision"] == before + 2
    await aside(world.stage.ask, "PUT", "/v1/services/ledger/traffic", {"weights_pct": {NEW: 0}, "reason": "back"})


AGAIN = """pairs => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = "/console/services/ledger/traffic";
  for (const [name, value] of pairs)
    form.append(Object.assign(document.createElement("input"), {type: "hidden", name, value}));
  document.body.append(form);
  form.submit();
}"""
"""Sends a form once more, as a page does that the browser has kept."""


async def test_what_another_does_shows_within_a_second_without_a_reload(desk: Desk, world: World) -> None:
    async with desk.operator() as me:
        await me.go("/services/ledger")
        for share in (37, 0):
            await aside(world.stage.ask, "PUT", "/v1/services/ledger/traffic",
                        {"weights_pct": {NEW: share}, "reason": "another hand"})  # fmt: skip
            began_s = time.monotonic()
            await me.says(f"{100 - share} %")
            assert time.monotonic() - began_s < 5, "about half a second where nothing else runs"


async def test_two_operators_at_once_get_a_conflict_and_no_lost_update(desk: Desk, world: World) -> None:
    async with desk.operator() as mine, desk.operator() as theirs:
        for one, share in ((mine, 30), (theirs, 60)):
            await one.go(f"/services/ledger/traffic?weight:{NEW}={share}")
        await theirs.confirm("Shift traffic", "I was first")
        await theirs.says("is in force on every gate")
        await mine.confirm("Shift traffic", "I was second")
        await mine.says("Nothing was done")
        await mine.says("I was first")
        await picture(mine, "conflict")
        assert await mine.breaches() == []
        assert (await aside(world.lanes)) == {"1.0.0": 40, NEW: 60}
        mine.problems.clear()  # the browser notes each answer of 409
        await mine.follow("Look again")
        await mine.page.get_by_role("heading", name="ledger", exact=True).wait_for()
    await aside(world.stage.ask, "PUT", "/v1/services/ledger/traffic", {"weights_pct": {NEW: 0}, "reason": "back"})


async def test_a_revoked_key_is_refused_at_every_gate(desk: Desk, world: World) -> None:
    made = await aside(world.stage.ask, "POST", "/v1/clients/dev/keys", {"reason": "test", "label": "lost laptop"})
    assert await aside(statuses, world, made["key"]) == {200}
    async with desk.operator(size="narrow") as me:
        await me.follow("Clients")
        await me.follow("dev")
        await me.follow(f"Revoke {made['id']}")
        await me.confirm("Revoke key", "the laptop is lost")
        await me.says("is in force on every gate")
    assert await aside(statuses, world, made["key"]) == {401}


def statuses(world: World, key: str) -> set[int]:
    """What the gates answer to a key."""
    return {
        httpx.post(f"{gate.public}/ledger/mcp", json=body("tools/call", {"name": "ledger_list", "arguments": {}}),
                   headers=headers(key, "tools/call", "ledger_list"), timeout=20, trust_env=False).status_code
        for gate in world.stage.gates
    }  # fmt: skip


async def test_the_history_is_read_compared_and_rolled_back_to(desk: Desk, world: World) -> None:
    before = (await aside(world.stage.ask, "GET", "/v1/status"))["revision"]
    wish = {"id": "guest", "allow": ["ledger_list"], "reason": "for a day"}
    await aside(world.stage.ask, "POST", "/v1/clients", wish)
    async with desk.operator() as me:
        await me.follow("History")
        await me.follow(str(before + 1))
        await me.says("for a day")
        await me.go(f"/history/{before}")
        await me.follow("Compare with now, and roll back")
        await me.page.get_by_role("heading", name="guest removed").wait_for()
        await me.confirm("Roll back", "the day is over")
        await me.says("is in force on every gate")
    assert world.stage.answer("GET", "/v1/clients/guest").status_code == 404


async def test_an_alert_is_silenced_with_a_reason(desk: Desk, world: World) -> None:
    alert = {"labels": {"alertname": "DiskFull", "severity": "warning", "service": "ledger"},
             "annotations": {"summary": "The disk of the ledger is full"}}  # fmt: skip
    await aside(world.alertmanagers, "POST", "alerts", [alert])
    async with desk.operator() as me:
        await me.follow("Alerts")
        await me.says("The disk of the ledger is full")
        await me.follow("Silence DiskFull")
        await me.confirm("Silence", "a larger one is ordered")
        await me.says("Silenced alertname=DiskFull")
        silences = await aside(world.alertmanagers, "GET", "silences")
        assert [(one["comment"], one["createdBy"]) for one in silences] == [("a larger one is ordered", "operator")]
        await me.go("/audit")
        await me.says("a larger one is ordered")
        await me.says("records is whole")


RULE = """\
interval_s: 1
rules:
  - alert: QueueDeep
    expr: vector(7) > 5
    labels: {severity: warning, service: ledger}
    annotations: {summary: the queue is deep}
"""


@pytest.mark.feature("C10")
async def test_an_alert_rule_is_written_tried_added_fires_and_is_removed(desk: Desk, world: World) -> None:
    async with desk.operator() as me:
        await me.follow("Alerts")
        await me.follow("Alert rules and receivers")
        await me.follow("Add alert rules")
        await me.page.get_by_label("Name of the group").fill("night")
        await me.page.get_by_label("Rules").fill(RULE.replace("vector(7) > 5", "vector(7 > 5"))
        await me.page.get_by_role("button", name="Check").click()
        await me.page.locator("textarea[aria-invalid][aria-describedby=problem]").wait_for()
        await me.page.locator("#problem").get_by_text("parse error").wait_for()
        assert await me.breaches() == []
        me.problems.clear()  # the browser notes each answer of 422
        await me.page.get_by_label("Rules").fill(RULE)
        await me.page.get_by_role("button", name="Check").click()
        await me.page.locator("#tried").get_by_text("would have fired").wait_for()
        assert await me.breaches() == []
        await picture(me, "rules-tried")
        await me.page.get_by_role("button", name="Add…").click()
        await me.page.get_by_role("heading", name="night added").wait_for()
        await me.confirm("Add rules", "searches queue at night")
        await me.says("is in force on every gate")
        await me.page.locator("#groups .badge.good").filter(has_text="live").wait_for()
        assert await me.breaches() == []
        await me.go("/alerts")
        await me.says("the queue is deep", within_ms=90_000)
        await me.go("/alerts/rules")
        await me.follow("Remove night")
        await me.confirm("Remove rules", "mended")
        await me.says("There are none yet")


async def test_everything_works_without_a_script_in_the_page(desk: Desk, world: World) -> None:
    async with desk.operator(script=False) as me:
        await me.follow("ledger")
        await me.page.get_by_role("spinbutton").fill("5")
        await me.page.get_by_role("button", name="Preview").first.click()
        await me.confirm("Shift traffic", "no script")
        await me.says("is in force on every gate")
        assert (await aside(world.lanes)) == {"1.0.0": 95, NEW: 5}
    await aside(world.stage.ask, "PUT", "/v1/services/ledger/traffic", {"weights_pct": {NEW: 0}, "reason": "back"})


async def test_a_rollout_is_started_and_watched_to_its_rollback(desk: Desk, world: World) -> None:
    calls = Calls([f"{gate.public}/ledger/mcp" for gate in world.stage.gates], world.stage.key, TOOLS)
    async with calls.running(), desk.operator() as me:
        await me.go("/services/ledger")
        await me.page.get_by_role("button", name="Preview").nth(1).click()
        await me.confirm("Start rollout", "release 1.1.0")
        await me.says("Progressing: baking")
        await me.page.locator("svg.curve").wait_for()
        assert await me.breaches() == []
        await picture(me, "rollout-baking")
        world.stage.drill(NEW, [{"tool": "ledger_note", "error": "drill"}])
        await me.says("Degraded: rolled back", within_ms=90_000)
        await me.page.locator(".check.fail").get_by_text("tool errors").first.wait_for()
    world.stage.drill(NEW, [])
    assert (await aside(world.lanes)) == {"1.0.0": 100}


PAGES = {
    "overview": "/",
    "service": "/services/ledger",
    "rollout": "/services/ledger/rollout",
    "clients": "/clients",
    "client": "/clients/dev",
    "alerts": "/alerts",
    "rules": "/alerts/rules",
    "rule-editor": "/alerts/rules/edit",
    "silence": "/alerts/silence?label=alertname%3DDiskFull",
    "history": "/history",
    "audit": "/audit",
    "record": "/history/2",
    "traffic": f"/services/ledger/traffic?weight:{NEW}=30",
    "rollback": "/history/2/rollback",
    "retry": "/services/ledger/rollout/retry",
    "missing": "/services/nobody",
}
DAILY = ("overview", "service", "client", "alerts", "rules", "rule-editor", "history", "traffic")
"""Looked at in every run; all of them in the long ones."""


async def test_pages_are_fit_for_screen_readers_and_for_a_phone(desk: Desk) -> None:
    async with desk.operator(size="narrow") as me:
        for name in DAILY:
            await me.go(PAGES[name])
            assert await me.overflow() <= 0, name
            assert await me.breaches() == [], name


@pytest.mark.long
async def test_pictures_of_every_page_in_light_and_dark_wide_and_narrow(desk: Desk, tmp_path: Path) -> None:
    """They lie in the test's folder, or where TEKUP_SCREENSHOTS says."""
    pictures = Path(os.environ.get("TEKUP_SCREENSHOTS", tmp_path))
    async with desk.operator() as me:
        async for name in visited(me):
            for scheme, size in itertools.product(SCHEMES, SIZES):
                await me.look(scheme, size)
                await me.page.screenshot(path=pictures / f"{name}-{scheme}-{size}.png", full_page=True)
                assert await me.overflow() <= 0, f"{name}, {size}"
                assert await me.breaches() == [], f"{name}, {scheme}, {size}"


async def visited(me: Operator) -> AsyncIterator[str]:
    """Every page in turn, the last of them after logging out."""
    for name, path in PAGES.items():
        await me.go(path)
        yield name
    me.problems.clear()  # of the page that does not exist
    await me.page.get_by_role("button", name="Log out").click()
    await me.page.get_by_label("Operator token").wait_for()
    yield "login"


async def test_one_login_is_good_on_every_replica_and_each_takes_changes(desk: Desk, world: World) -> None:
    async with desk.operator() as me:
        for share, url in enumerate(world.stage.urls.values(), 1):
            await me.page.goto(f"{url}/console/services/ledger/traffic?weight:{NEW}={share}")
            await me.confirm("Shift traffic", "one after the other")
            await me.says("is in force on every gate")
            assert (await aside(world.lanes))[NEW] == share
    await aside(world.stage.ask, "PUT", "/v1/services/ledger/traffic", {"weights_pct": {NEW: 0}, "reason": "back"})


async def test_the_keyboard_alone_is_enough(desk: Desk, world: World) -> None:
    async with desk.operator() as me:
        await me.page.keyboard.press("Tab")
        assert await me.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await me.page.keyboard.press("Enter")
        assert await me.page.evaluate("document.activeElement.id") == "main"
        for _ in range(30):
            await me.page.keyboard.press("Tab")
            if await me.page.evaluate("document.activeElement.textContent.trim()") == "ledger":
                break
        await me.page.keyboard.press("Enter")
        await me.page.get_by_role("heading", name="ledger", exact=True).wait_for()


async def test_with_consul_away_pages_say_so_and_show_what_was_known(desk: Desk, world: World) -> None:
    """The last one: everything else needs Consul."""
    async with desk.operator() as me:
        await me.go("/")
        await aside(world.stage.consul.kill)
        await me.says("cannot read its store")
        await me.page.get_by_role("link", name="ledger", exact=True).wait_for()
        await me.go(f"/services/ledger/traffic?weight:{NEW}=9")
        await me.says("This would be refused")
        await picture(me, "consul-away")
        assert await me.breaches() == []
        me.problems.clear()
        await aside(world.stage.consul.start)
        await me.go("/")
        await me.page.get_by_text("cannot read its store").wait_for(state="detached")
        me.problems.clear()
