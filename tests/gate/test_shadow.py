"""Targets with copies on the real Traefik: whatever becomes of the copies, callers notice nothing."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.gate.conftest import ROUTES
from tests.support.gate import Load

if TYPE_CHECKING:
    from tests.support.gate import Answer, Gate, Maker

pytestmark = [pytest.mark.local, pytest.mark.feature("C7")]
STABLE, MIRROR = "alpha_1-0-0", "alpha_1-1-0"
COPIED = f"{STABLE}~{MIRROR}"
MAIN_BACKENDS, MIRROR_BACKEND = ("aaaaa1", "aaaaa2"), "aaaaa3"
MOST_UNDER_WAY = 32
"""`copies` in gate.yml."""


@pytest.fixture
def shadow(gate: Gate) -> Gate:
    """The gate, all named calls of alpha copied to its other version."""
    gate.routes(ROUTES, (COPIED,))
    rule = {"name": "shadow", "tools": [], "cohort": "", "lanes": [{"target": COPIED, "weight_pct": 100}]}
    rest = {"beta": {"beta_1-0-0": 100.0}, "hub": {"hub_1-0-0": 100.0}}
    gate.services(
        {"alpha": {STABLE: 100.0}, **rest}, {"alpha": {"aaaaa1": "alpha_1-0-0_aaaaa1"}}, alpha={"rules": [rule]}
    )
    gate.in_force()
    return gate


def copies(gate: Gate) -> int:
    """How many copies the mirror got."""
    return gate.seen(MIRROR_BACKEND)["copy"]


def read(gate: Gate, make: Maker, headers: dict[str, str] | None = None, content: bytes = b"{}") -> Answer:
    """One call that is copied."""
    return gate.call("/mcp", make.modern("tools/call", "alpha_read") | (headers or {}), content=content)


def test_a_copy_is_marked_and_known_by_the_id_of_its_call(shadow: Gate, make: Maker) -> None:
    before = copies(shadow)
    answer = read(shadow, make, {"X-Tekup-Call": "mine", "X-Tekup-Copy": "1", "Traceparent": "00-1-2-01"})
    assert answer.name in MAIN_BACKENDS
    make.wait(lambda: copies(shadow) == before + 1, "the copy to come")
    ours, theirs = answer.headers, shadow.last(MIRROR_BACKEND, "copy")
    assert "x-tekup-copy" not in ours
    assert theirs["x-tekup-copy"] == "1"
    assert ours["x-tekup-call"] == theirs["x-tekup-call"] != "mine"
    for name in ("x-tekup-gate", "x-tekup-route", "x-tekup-client", "x-tekup-grant", "traceparent", "content-length"):
        assert ours[name] == theirs[name]
    assert read(shadow, make).headers["x-tekup-call"] != ours["x-tekup-call"]


def test_no_other_call_is_copied(shadow: Gate, make: Maker) -> None:
    before = copies(shadow)
    held = {"Mcp-Param-Handle": make.handle("alpha", "aaaaa1", "dev")}
    answers = [
        read(shadow, make, held),
        shadow.call("/alpha/mcp", make.modern("tools/list")),
        shadow.call("/alpha/mcp", make.modern("completion/complete")),
        read(shadow, make, content=b"x" * 65_537),
    ]
    assert {answer.status for answer in answers} == {200}
    assert {answer.name for answer in answers} <= set(MAIN_BACKENDS)
    assert not [answer for answer in answers if "x-tekup-call" in answer.headers]
    assert answers[3].body["body"] == 65_537
    largest = read(shadow, make, content=b"x" * 65_536)
    assert largest.body["body"] == 65_536
    chunks = (part for part in (b"{", b"}"))
    in_chunks = shadow.call("/mcp", make.modern("tools/call", "alpha_read"), content=chunks)
    assert in_chunks.headers["content-length"] == "2"
    make.wait(lambda: copies(shadow) == before + 2, "copies of the largest body and of one in chunks, and no other")


def timed(gate: Gate, headers: dict[str, str], calls: int) -> tuple[Counter[str], list[float]]:
    """Who answered so many calls, and how long each took in milliseconds."""
    seen, took = Counter[str](), []
    with httpx.Client(timeout=20, trust_env=False, headers=headers) as client:
        for _ in range(calls):
            began_s = time.perf_counter()
            reply = client.post(f"{gate.public}/mcp", content=b"{}")
            took.append((time.perf_counter() - began_s) * 1000)
            seen[reply.json()["name"] if reply.status_code == 200 else f"HTTP {reply.status_code}"] += 1
    return seen, took


BROKEN = {
    "that answers well": {},
    "that answers 500": {"X-Test-Copy-Status": "500"},
    "that answers 503": {"X-Test-Copy-Status": "503"},
    "that is slow": {"X-Test-Copy-Delay": "1"},
    "that hangs": {"X-Test-Copy-Delay": "300"},
    "that never ends its stream": {"X-Test-Copy-Stream": "100000"},
    "that is dead": {},
}


@pytest.mark.parametrize("mirror", BROKEN)
def test_callers_notice_nothing_of_a_mirror(
    shadow: Gate, make: Maker, mirror: str, record_property: Callable[[str, object], None]
) -> None:
    if mirror == "that is dead":
        shadow.kill(MIRROR_BACKEND)
    headers = make.modern("tools/call", "alpha_read") | BROKEN[mirror]
    plain = timed(shadow, make.modern("completion/complete"), 400)[1]
    timed(shadow, headers, 50)
    seen, took = timed(shadow, headers, 400)
    assert sum(seen[name] for name in MAIN_BACKENDS) == 400, seen
    middle, late = statistics.median(took), sorted(took)[-5]
    record_property("median_ms", f"{middle:.2f}, not copied {statistics.median(plain):.2f}")
    record_property("p99_ms", f"{late:.2f}, not copied {sorted(plain)[-5]:.2f}")
    # Whoever waited for the mirror would take a second or more.
    assert middle < 200
    assert late < 900


def test_a_mirror_that_hangs_holds_no_more_than_a_few_copies(
    shadow: Gate, make: Maker, record_property: Callable[[str, object], None]
) -> None:
    assert shadow.process
    traefik = psutil.Process(shadow.process.pid)
    headers = make.modern("tools/call", "alpha_read") | {"X-Test-Copy-Delay": "300"}
    timed(shadow, headers, 100)
    before, body = traefik.memory_info().rss, b"x" * 60_000

    def call(_: int) -> None:
        with httpx.Client(timeout=20, trust_env=False, headers=headers) as client:
            for _ in range(500):
                assert client.post(f"{shadow.public}/mcp", content=body).status_code == 200

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))
    assert shadow.seen(MIRROR_BACKEND)["copy under way"] <= MOST_UNDER_WAY
    grown = traefik.memory_info().rss - before
    record_property("grown_mb", round(grown / 1e6))
    # 2,000 copies that wait would hold 130 MB in bodies alone.
    assert grown < 100_000_000, f"{grown / 1e6:.0f} MB"


def test_an_instance_that_dies_is_retried_with_the_whole_body_and_copied_once(shadow: Gate, make: Maker) -> None:
    before, bodies = copies(shadow), Counter[object]()
    shadow.kill("aaaaa1")
    for _ in range(60):
        answer = read(shadow, make, content=b"x" * 1000)
        bodies[answer.status, answer.body.get("body"), answer.body.get("name")] += 1
    # One call may meet the pooled connection of the dead one: it was sent, so it is not sent again.
    assert bodies[200, 1000, "aaaaa2"] >= 59, bodies
    make.wait(lambda: copies(shadow) >= before + 60, "the copies to come")
    assert copies(shadow) == before + 60


def test_when_stable_is_gone_the_mirror_answers_as_any_version_does(shadow: Gate, make: Maker) -> None:
    for name in MAIN_BACKENDS:
        shadow.kill(name)
    make.wait(lambda: read(shadow, make).status == 200, "the other version to answer")
    answer = read(shadow, make, content=b"x" * 1000)
    assert (answer.name, answer.body["body"]) == (MIRROR_BACKEND, 1000)
    assert "x-tekup-copy" not in answer.headers


def test_nobody_left_is_said_as_without_copies(shadow: Gate, make: Maker) -> None:
    for name in (*MAIN_BACKENDS, MIRROR_BACKEND):
        shadow.kill(name)
    make.wait(lambda: read(shadow, make).status == 502, "all are found dead")
    for _ in range(5):
        answer = read(shadow, make)
        assert (answer.status, answer.code) == (502, 502)


@pytest.mark.feature("C2")
def test_no_call_is_lost_while_copies_begin_and_end(shadow: Gate, make: Maker) -> None:
    lane = {"target": STABLE, "weight_pct": 100}
    rest = {"beta": {"beta_1-0-0": 100.0}, "hub": {"hub_1-0-0": 100.0}}
    with Load(shadow, "/mcp", make.modern("tools/call", "alpha_read")) as calls:
        for turn in range(6):
            wanted = {**lane, "target": COPIED} if turn % 2 else lane
            rule = {"name": "shadow", "tools": [], "cohort": "", "lanes": [wanted]}
            shadow.services({"alpha": {STABLE: 100.0}, **rest}, alpha={"rules": [rule]})
            shadow.in_force()
            calls.more(100)
    assert calls.lost == {}
