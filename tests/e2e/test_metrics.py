"""A full environment with Prometheus: everything is found through Consul and labelled by the catalog."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Environment, make_environment
from tests.support.documented import problems
from tests.support.gate import wait_until

pytestmark = [pytest.mark.local, pytest.mark.timeout(3600)]

FOUND_S = 60.0


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment with Prometheus that is up."""
    made = make_environment(tmp_path_factory.mktemp("measured"))
    settings = made.directory / "tekup.toml"
    settings.write_text(settings.read_text() + "MCP_PROMETHEUS_PORT = 0\n")
    try:
        made.up = made.tekup_json("up", "--with", "prometheus")
        yield made
    finally:
        made.tekup("down")


def labels_of(environment: Environment, query: str) -> list[dict[str, str]]:
    """Labels of the series a query gives."""
    url = f"{environment.up['prometheus']}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return [series["metric"] for series in json.load(answer)["data"]["result"]]


@pytest.mark.feature("D3")
def test_every_instance_and_the_gate_are_found_and_a_new_instance_as_well(measured: Environment) -> None:
    def services() -> list[str]:
        return sorted(found["service"] for found in labels_of(measured, "tekup_instance_info"))

    wait_until(lambda: services() == ["browser", "filesystem", "hub", "search"], "four services", FOUND_S)
    measured.tekup_json("scale", "search=2")
    wait_until(lambda: services().count("search") == 2, "the second instance of search", FOUND_S)
    wait_until(lambda: labels_of(measured, 'tekup_gate_decisions_total{service="search"}'), "the plugin", FOUND_S)
    wait_until(lambda: labels_of(measured, 'traefik_service_requests_total{instance="local"}'), "Traefik", FOUND_S)


@pytest.mark.feature("D1")
def test_everything_that_is_shown_is_documented_and_as_prometheus_wants_it(measured: Environment) -> None:
    found = {}
    for who, url in shown_by(measured):
        with urllib.request.urlopen(url, timeout=20) as answer:
            found[url] = (who, problems(who, answer.read().decode()))
    assert {"instance", "instance,hub", "gate", "control-plane"} == {who for who, _ in found.values()}
    assert {url: wrong for url, (_, wrong) in found.items() if wrong} == {}


def shown_by(environment: Environment) -> Iterator[tuple[str, str]]:
    """Every `/metrics`, and who shows it."""
    yield "control-plane", f"{environment.control_plane_url}/metrics"
    for name in ("mcp-browser", "mcp-filesystem", "mcp-search", "mcp-hub", "tekup-gate"):
        url = f"{environment.consul_url}/v1/catalog/service/{name}"
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=environment.consul_token()), timeout=10
        ) as answer:
            for one in json.load(answer):
                port = one["ServiceMeta"].get("admin", one["ServicePort"])
                who = {"tekup-gate": "gate", "mcp-hub": "instance,hub"}.get(name, "instance")
                yield who, f"http://{one['ServiceAddress']}:{port}/metrics"


def test_status_shows_prometheus_and_the_control_plane_is_told_where_it_is(measured: Environment) -> None:
    process = measured.process("prometheus")
    assert (process.state, process.url) == ("ready", measured.up["prometheus"])
    table = json.loads((measured.state / "table.json").read_text())
    (plane,) = (one for one in table["processes"] if one["name"] == "control-plane")
    assert plane["env"]["MCP_PROMETHEUS_URL"] == process.url


def test_another_up_in_the_same_words_changes_nothing(measured: Environment) -> None:
    again = measured.tekup("up", "--with", "prometheus")
    assert again.returncode == 0
    assert "was running already" in again.stdout
    assert "settings or programs have changed" not in again.stderr
    assert str(measured.up["prometheus"]) in again.stdout


def test_without_it_nothing_of_it_is_there(tmp_path: Path) -> None:
    refused = Environment(tmp_path).tekup("up", "--with", "grafana")
    assert refused.returncode == 2
    assert "only prometheus" in refused.stderr
