"""What pages are made of: what needs attention first, intervals and pictures, sessions, alerts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from control_plane.console import plot, session, views
from control_plane.console.alerts import _seconds
from control_plane.console.session import COOKIE, IDLE_S, LONGEST_S, RENEW_S, Sessions

Json = dict[str, Any]
pytestmark = pytest.mark.feature("C14")


def service(name: str, *, passing: bool = True, canary_pct: float = 0, state: str = "serving") -> Json:
    lanes = [{"version": "1", "weight_pct": 100 - canary_pct}, {"version": "2", "weight_pct": canary_pct}]
    instance = {"id": "a", "version": "1", "state": state, "passing": passing, "probe": "ok"}
    policy = {"stable": "1", "lanes": [lane for lane in lanes if lane["weight_pct"]]}
    return {"name": name, "policy": policy, "instances": [instance]}


def rollout(name: str, phase: str, health: str, *, ended: bool = False) -> Json:
    return {"service": name, "stable": "1", "canary": "2", "phase": phase, "health": health, "ended": ended,
            "said": "so it is", "traffic": "2 gets 5 %"}  # fmt: skip


def test_what_needs_attention_stands_first() -> None:
    services = [service("well"), service("moves"), service("gone", canary_pct=5), service("asks"), service("rings")]
    rollouts = [rollout("moves", "baking", "Progressing"), rollout("asks", "waiting_for_approval", "Paused")]
    rows = views.rows(services, rollouts, {"rings": 2})
    assert [(row.name, row.level) for row in rows] == [
        ("asks", "bad"), ("gone", "bad"), ("rings", "bad"), ("moves", "busy"), ("well", "good"),
    ]  # fmt: skip
    assert "2 is given 5 % and no instance of it serves" in rows[1].said
    assert "2 alerts fire" in rows[2].said


def test_a_draining_instance_serves_nobody() -> None:
    (row,) = views.rows([service("ledger", state="draining")], [], {})
    assert (row.serving, row.instances, row.level) == (0, 1, "bad")


@pytest.mark.parametrize(
    ("status", "old", "said"),
    [
        ({"leader": ""}, "", "No replica leads"),
        ({"initialised": False, "message": "its data is lost"}, "", "its data is lost"),
        ({"leader": ""}, "5 s ago", "what was known 5 s ago"),
        ({"gates": [{"id": "g", "live": False, "epoch": 1, "revision": 3, "problems": []}]}, "", "its agent is gone"),
        ({"gates": [{"id": "g", "live": True, "epoch": 1, "revision": 3, "problems": ["disk"]}]}, "", "Gate g: disk"),
        (None, "", "does not answer: why"),
    ],
)
def test_what_is_wrong_with_the_whole_is_said_at_the_top(status: Json | None, old: str, said: str) -> None:
    whole = {"leader": "r1", "initialised": True, "message": "", "epoch": 1, "revision": 3, "gates": []}
    banners = views.banners(None if status is None else whole | status, "why", old)
    assert any(said in banner.said for banner in banners)
    assert views.banners(whole, "", "") == []


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_an_interval_holds_its_share_and_is_one(one: int, other: int) -> None:
    bad, calls = min(one, other), max(one, other)
    found = plot.interval(bad, calls)
    assert 0 <= found.low <= found.share + 1e-12
    assert found.share <= found.high + 1e-12 <= 1 + 1e-9


def test_more_calls_make_the_interval_narrower() -> None:
    few, many = plot.interval(1, 100), plot.interval(100, 10_000)
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(("value", "nice"), [(0.0011, 0.002), (0.02, 0.02), (0.3, 0.5), (0.9, 1.0), (3.0, 1.0)])
def test_scales_end_at_round_numbers(value: float, nice: float) -> None:
    assert plot.nice(value) == pytest.approx(nice)


def finding(name: str, verdict: str, canary: tuple[int, int]) -> Json:
    evidence = {"stable": {"bad": 1, "calls": 1000}, "canary": {"bad": canary[0], "calls": canary[1]}, "ratio": 1.5,
                "tolerance": 0.002, "e_value": 10.0, "threshold": 100.0}  # fmt: skip
    return {"name": name, "verdict": verdict, "sentence": "so it is", "dry_run": False, "evidence": evidence}


def test_what_speaks_against_the_canary_stands_first_with_its_figures() -> None:
    found = plot.checks([finding("a", "pass", (0, 0)), finding("b", "fail", (30, 300))])
    assert [one.name for one in found] == ["b", "a"]
    assert found[0].evidence == 50.0
    assert found[0].canary
    assert found[0].canary.said.startswith("10 % (30 of 300 calls); 95 %: ")
    assert found[1].canary is None


def test_a_curve_needs_two_moments_and_stays_inside_its_picture() -> None:
    points = [plot.Point(float(at), at, at * 100, at * 2, at * 100) for at in range(5)]
    assert plot.curve(points[:2], "x") is None, "at the first there were no calls"
    curve = plot.curve(points, "tool_errors")
    assert curve
    assert curve.said == "tool errors: stable 1 %, canary 2 % of calls after 3 s"
    for text in (*curve.bands, *curve.lines):
        for point in text.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= plot.WIDTH
            assert 0 <= y <= plot.HEIGHT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-26T12:00:00Z", 1795694400.0),
        ("2026-11-26T12:00:00.5Z", 1795694400.5),
        ("2026-11-26T12:00:00.123456789Z", 1795694400.0),
        ("2026-11-26T13:00:00.123456789+01:00", 1795694400.0),
        ("2026-11-26T11:00:00-01:00", 1795694400.0),
    ],
)
def test_times_as_go_writes_them_are_read(text: str, seconds: float) -> None:
    assert _seconds(text) == pytest.approx(seconds, abs=0.6)


# -- sessions


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def request(cookies: Mapping[str, str]) -> Request:
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items()).encode()
    return Request({"type": "http", "method": "GET", "path": "/", "scheme": "http", "query_string": b"",
                    "server": ("console", 80), "headers": [(b"cookie", cookie)] if cookie else []})  # fmt: skip


def cookie_of(response: Response) -> str:
    return response.headers["set-cookie"].split(";")[0].partition("=")[2]


def begun(sessions: Sessions) -> str:
    response = Response()
    sessions.begun(request({}), response, sessions.begin("token"))
    return cookie_of(response)


def test_a_session_is_read_by_every_replica_with_the_same_secret_and_by_no_other() -> None:
    clock = Clock()
    cookie = begun(Sessions("secret", clock))
    read = Sessions("secret", clock).read(request({COOKIE: cookie}))
    assert read
    assert read.token == "token"
    assert Sessions("another", clock).read(request({COOKIE: cookie})) is None


def test_a_session_ends_without_clicks_and_goes_on_with_them() -> None:
    clock = Clock()
    sessions = Sessions("secret", clock)
    cookie = begun(sessions)
    clock.now_s += IDLE_S - 1
    session = sessions.read(request({COOKIE: cookie}))
    assert session
    response = Response()
    sessions.keep(request({COOKIE: cookie}), response, session)
    clock.now_s += IDLE_S - 1
    assert sessions.read(request({COOKIE: cookie})) is None
    assert sessions.read(request({COOKIE: cookie_of(response)}))


def test_a_session_ends_after_half_a_day_whatever_is_clicked() -> None:
    clock = Clock()
    sessions = Sessions("secret", clock)
    cookie = begun(sessions)
    while clock.now_s < 1000 + LONGEST_S:
        session = sessions.read(request({COOKIE: cookie}))
        assert session
        response = Response()
        sessions.keep(request({COOKIE: cookie}), response, session)
        cookie = cookie_of(response) if "set-cookie" in response.headers else cookie
        clock.now_s += max(RENEW_S, IDLE_S / 2)
    assert sessions.read(request({COOKIE: cookie})) is None


def test_a_message_for_the_next_page_cannot_be_made_by_others() -> None:
    sessions, response = Sessions("secret"), Response()
    sessions.tell(request({}), response, "done")
    assert sessions.told(request({session.TOLD: cookie_of(response)})) == "done"
    assert sessions.told(request({session.TOLD: "done"})) == ""
