"""A change is one trace from the API call to every gate; what the agents do with it is found by its revision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gate import wait_until
from tests.support.otlp import Collector, Taken, collecting
from tests.support.stage import Stage, stage

pytestmark = [pytest.mark.local, pytest.mark.feature("D4"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stage]:
    agents = {"MCP_OTLP_URL": collector.url}
    with stage(tmp_path_factory.mktemp("stage"), gates=(5,), agents=agents, MCP_OTLP_URL=collector.url) as made:
        yield made


def test_a_change_is_traced_from_the_call_to_every_gate(traced: Stage, collector: Collector) -> None:
    traced.ask("POST", "/v1/clients", {"id": "another", "reason": "test"})
    collector.wait("POST /v1/clients", 2)
    (call,) = collector.wait("POST /v1/clients")[-1:]
    wait_until(lambda: len(collector.of(call.trace)) >= 4, "the steps of the change", 30)
    assert collector.tree(call.trace) == [
        "tekup-control-plane: internal POST /v1/clients",
        "  tekup-control-plane: client consul write",
        "  tekup-control-plane: internal decide",
        "  tekup-control-plane: internal wait for gates",
    ]
    (write,) = [one for one in collector.of(call.trace) if one.name == "consul write"]
    (waited,) = [one for one in collector.of(call.trace) if one.name == "wait for gates"]
    assert waited.about["tekup.lagging"] == 0
    assert call.about["tekup.status"] == 200

    def applied() -> list[Taken]:
        return [
            one
            for one in collector.named("apply revision")
            if one.about["tekup.revision"] == write.about["tekup.revision"] and one.about.get("tekup.force")
        ]

    wait_until(applied, "the agent's span of that revision", 30)
    assert applied()[0].service == "tekup-agent"
    assert applied()[0].resource["service.instance.id"] == "gate-1"

    def told() -> list[object]:
        records = traced.ask("GET", "/v1/audit?limit=5")["records"]
        return [one for one in records if one["what"] == "client.add" and one["trace"] == call.trace]

    wait_until(told, "the change in the audit trail, with its trace", 30)


def test_looking_makes_no_trace(traced: Stage, collector: Collector) -> None:
    traced.ask("GET", "/v1/services")
    traced.ask("POST", "/v1/clients", {"id": "one-more", "reason": "test"})
    collector.wait("POST /v1/clients", 3)
    assert not [one for one in collector.spans if one.name.startswith("GET ")]


def test_a_change_that_is_refused_is_a_failed_trace_without_its_text(traced: Stage, collector: Collector) -> None:
    answer = traced.answer("PUT", "/v1/services/nosuchservice/traffic", {"weights_pct": {"9": 100}, "reason": "test"})
    assert answer.status_code == 404
    wait_until(lambda: [one for one in collector.spans if one.failed], "the failed call", 30)
    failed = [one for one in collector.spans if one.failed and one.name.startswith("PUT ")]
    assert {(one.about["error.type"], one.said) for one in failed} == {("NotFound", "")}
    assert not [one for one in collector.spans if "nosuchservice" in str(one)]
