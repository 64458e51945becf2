"""What the real Traefik tells of calls: one span a call, one an attempt, whatever stands between."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gate.conftest import BACKENDS, ROUTES, furnish
from tests.support.gate import SECRETS, Gate, Maker, close, lay_out, wait_until
from tests.support.otlp import Collector, Taken, collecting

pytestmark = [pytest.mark.local, pytest.mark.feature("D4"), pytest.mark.timeout(240)]
SERVER, ATTEMPT = "tekup-gate: server POST", "tekup-gate: client ReverseProxy"
STABLE, MIRROR = "alpha_1-0-0", "alpha_1-1-0"
COPIED = f"{STABLE}~{MIRROR}"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Gate]:
    """The usual world, of whose own calls no trace is kept: only those that bring one with its flag."""
    gate = lay_out(Path(tmp_path_factory.mktemp("traced")) / "gate", collector=collector.url, share=0.0)
    try:
        gate.write("tables/secrets.json", json.dumps(SECRETS))
        gate.start()
        for name in BACKENDS:
            gate.backend(name)
        furnish(gate)
        gate.routes(ROUTES, (COPIED,))
        yield gate
    finally:
        close(gate)


def called(gate: Gate, collector: Collector, shape: list[str], path: str = "/mcp", **headers: str) -> list[Taken]:
    """A call of beta or alpha that brings a trace; its spans, which have this shape."""
    trace = secrets.token_hex(16)
    sent = headers | {"traceparent": f"00-{trace}-{'ab' * 8}-01"}
    gate.call(path, sent)
    wait_until(lambda: len(collector.of(trace)) >= len(shape), f"{shape}; there are {collector.labels()}", 30)
    assert collector.tree(trace) == shape
    return collector.of(trace)


def test_a_call_is_a_span_and_so_is_its_attempt(traced: Gate, collector: Collector) -> None:
    spans = called(traced, collector, [SERVER, f"  {ATTEMPT}"], **Maker.modern("tools/call", "beta_read"))
    (server,) = [one for one in spans if one.kind == "server"]
    assert (server.parent, server.about["http.response.status_code"]) == ("ab" * 8, 200)


def test_what_is_passed_on_is_the_attempts_span(traced: Gate, collector: Collector) -> None:
    spans = called(traced, collector, [SERVER, f"  {ATTEMPT}"], **Maker.modern("tools/call", "beta_read"))
    (attempt,) = [one for one in spans if one.kind == "client"]
    sent = traced.last("bbbbb1", "call")["traceparent"]
    assert sent.split("-")[1:3] == [attempt.trace, attempt.span]


def test_a_refused_call_is_one_span_with_its_status(traced: Gate, collector: Collector) -> None:
    (server,) = called(traced, collector, [SERVER])
    assert server.about["http.response.status_code"] == 401


def test_no_span_holds_a_key_or_what_was_put_into_the_address(traced: Gate, collector: Collector) -> None:
    headers = Maker.modern("tools/call", "beta_read")
    spans = called(traced, collector, [SERVER, f"  {ATTEMPT}"], "/mcp?key=quitesecret", **headers)
    said = json.dumps([one.about for one in spans])
    assert "quitesecret" not in said
    assert Maker.keys["dev"] not in said


def test_a_callers_flag_decides_for_its_own_call_and_the_share_for_all_others(
    traced: Gate, collector: Collector
) -> None:
    """As it is (docs/decisions/0026): Traefik follows the flag, whatever the share."""
    flags = []
    for given in ("-01", "-00", ""):
        headers = Maker.modern("tools/call", "beta_read")
        headers |= {"traceparent": f"00-{secrets.token_hex(16)}-{'ab' * 8}{given}"} if given else {}
        traced.call(headers=headers)
        flags.append(traced.last("bbbbb1", "call")["traceparent"][-2:])
    assert flags == ["01", "00", "00"]
    assert collector.spans


def test_neither_the_private_entrypoint_nor_what_it_serves_is_traced(traced: Gate, collector: Collector) -> None:
    trace = secrets.token_hex(16)
    for path in ("/ping", "/tekup/state", "/traefik-metrics", "/api/rawdata"):
        traced.http.get(f"{traced.private}{path}", headers={"traceparent": f"00-{trace}-{'ab' * 8}-01"})
    called(traced, collector, [SERVER])
    assert not collector.of(trace)


def test_an_attempt_that_met_nobody_is_a_failed_span_beside_the_one_that_did(
    traced: Gate, collector: Collector
) -> None:
    traced.kill("aaaaa1")
    try:
        traces = []
        for _ in range(4):
            traces.append(secrets.token_hex(16))
            sent = Maker.modern("tools/call", "alpha_read") | {"traceparent": f"00-{traces[-1]}-{'ab' * 8}-01"}
            assert traced.call(headers=sent).status == 200
        wait_until(lambda: all(len(collector.of(trace)) >= 2 for trace in traces), "the calls' spans", 30)
        for trace in traces:
            attempts = [one for one in collector.of(trace) if one.kind == "client"]
            assert [one.about.get("http.response.status_code") for one in attempts].count(200) == 1
    finally:
        traced.backend("aaaaa1")


def test_a_copy_is_an_attempt_more_of_the_same_trace(traced: Gate, collector: Collector) -> None:
    rule = {"name": "shadow", "tools": [], "cohort": "", "lanes": [{"target": COPIED, "weight_pct": 100}]}
    rest = {"beta": {"beta_1-0-0": 100.0}, "hub": {"hub_1-0-0": 100.0}}
    traced.services({"alpha": {STABLE: 100.0}, **rest}, alpha={"rules": [rule]})
    traced.in_force()
    shape = [SERVER, f"  {ATTEMPT}", f"  {ATTEMPT}"]
    spans = called(traced, collector, shape, **Maker.modern("tools/call", "alpha_read"))
    wait_until(lambda: traced.seen("aaaaa3")["copy"] == 1, "the copy")
    sent = traced.last("aaaaa3", "copy")["traceparent"]
    assert sent.split("-")[1] == spans[0].trace
