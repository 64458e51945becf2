"""The whole stack for who is on call, started by one command around a real environment, and its outages."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import httpx
import pytest

from compose.local.layout import Layout
from compose.local.observability_settings import EXTRAS
from control_plane.cli.demo import where
from tests.e2e.conftest import Environment, make_environment
from tests.support import jaeger
from tests.support.every_tool import CALLER, FORM, GATE, TOOLS, Caller, Made, Manner, expected, outline
from tests.support.gate import wait_until
from tests.support.load import Load
from tests.support.metrics import registered
from tests.support.on_call import loki_count, loki_lines
from tests.support.tallies import Source, Tallies
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(3600)]

SEEN_S = 60.0
SERVICES = ("browser", "filesystem", "search")
HOPS: dict[Manner, tuple[str, ...]] = {
    Manner.MODERN: ("public",),
    Manner.JOINED: (),
    Manner.LEGACY: ("public", "internal"),
}
"""Entrypoints whose access lines are in the trace of a call's work."""
ALWAYS = {"instances", "gates", "traefik", "control-plane", "consul", "prometheus", "loki", "jaeger", "collector"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment with everything, that is up."""
    made = make_environment(tmp_path_factory.mktemp("watched"))
    with (made.directory / "tekup.toml").open("a") as settings:
        settings.write("".join(f"MCP_{name.upper()}_PORT = 0\n" for name in EXTRAS))
        settings.write("MCP_CONTROL_PLANE_REPLICAS = 2\n")
    try:
        made.up = made.tekup_json("up", "--observability")
        yield made
    finally:
        made.tekup("down")


def targets(environment: Environment) -> dict[str, list[dict[str, Any]]]:
    """What Prometheus scrapes, by job."""
    answer = httpx.get(f"{environment.up['prometheus']}/api/v1/targets?state=active", timeout=10, trust_env=False)
    found: dict[str, list[dict[str, Any]]] = {}
    for target in answer.json()["data"]["activeTargets"]:
        found.setdefault(target["labels"]["job"], []).append(target)
    return found


@pytest.mark.feature("D3")
def test_everything_that_runs_is_scraped_and_answers(watched: Environment) -> None:
    def all_up() -> bool:
        found = targets(watched)
        return found.keys() >= ALWAYS and all(one["health"] == "up" for job in found.values() for one in job)

    wait_until(all_up, "all targets up", SEEN_S)
    planes = targets(watched)["control-plane"]
    assert sorted(one["labels"]["replica"] for one in planes) == ["control-plane", "control-plane-2"]

    def commits() -> object:
        asked = {"query": "consul_raft_commitTime_count"}
        answer = httpx.get(f"{watched.up['prometheus']}/api/v1/query", params=asked, timeout=10, trust_env=False)
        return answer.json()["data"]["result"]

    wait_until(commits, "what Consul's server counts", SEEN_S)


@pytest.mark.feature("D2")
def test_the_call_that_up_makes_of_each_service_is_found_in_loki_and_so_is_every_process(watched: Environment) -> None:
    for service in SERVICES:
        query = f'{{service_name="{service}"}} | event="call" | tool=~"{service}_.+"'
        wait_until(lambda query=query: loki_lines(watched.up["loki"], query), f"a call of {service}", SEEN_S)  # type: ignore[misc]
    for process in ("traefik", "agent", "control-plane", "hub", "consul", "supervisor"):
        query = f'{{service_name="{process}"}}'
        wait_until(lambda query=query: loki_lines(watched.up["loki"], query), f"lines of {process}", SEEN_S)  # type: ignore[misc]


@dataclass(frozen=True)
class Called:
    """Every tool called once in every manner, and what was found of it afterwards.

    Args:
        made: The calls, one after another.
        counted: What came anew in metrics meanwhile.
        edge: Lines of the access log since.
        calls: Lines `call` of instances since.
    """

    made: list[Made]
    counted: dict[Manner, Tallies]
    edge: list[dict[str, Any]]
    calls: list[dict[str, Any]]

    def line(self, one: Made) -> dict[str, Any]:
        """The access line of a call: calls do not overlap, so the time tells which."""
        mine = [line for line in self.edge if one.began <= at(line["StartUTC"]) <= one.ended]
        (found,) = [line for line in mine if line["entryPointName"] == "public"]
        return found

    def trace(self, one: Made) -> str:
        """The trace of a call's work."""
        return one.theirs or str(self.line(one)["TraceId"])


def at(said: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(said).timestamp()


def sources(environment: Environment) -> list[Source]:
    """Who counts calls."""
    found: list[Source] = [("gate", "", f"http://127.0.0.1:{environment.ports['MCP_PRIVATE_PORT']}/metrics")]
    for service in (*SERVICES, "hub"):
        instances = asyncio.run(registered(environment, service))
        found += [(service, "", f"{one.admin_url}/metrics") for one in instances]
    return found


def reads_lists(line: dict[str, Any]) -> bool:
    """Whether the hub only reads what there is, now and then, for the call that met the moment."""
    return line["RequestMethod"] == "GET" or line.get("request_Mcp-Method") == "tools/list"


def since(environment: Environment, query: str, began: float) -> list[dict[str, Any]]:
    """Lines in Loki since then."""
    lines = [json.loads(line) for _, line in loki_lines(environment.up["loki"], query)]
    return [line for line in lines if at(line.get("StartUTC") or line["ts"]) >= began]


@pytest.fixture(scope="module")
def caller(watched: Environment) -> Iterator[Caller]:
    (watched.state / "pages" / "form.html").write_text(FORM)
    page = f"http://127.0.0.1:{watched.ports['pages']}/form.html"
    places = {"FOLDER": str(watched.state / "workspace"), "PAGE": page}
    with httpx.Client(timeout=60, trust_env=False) as http:
        yield Caller(watched.gateway_url, watched.key, places, http)


@pytest.fixture(scope="module")
def called(watched: Environment, caller: Caller) -> Called:
    made: list[Made] = []
    counted: dict[Manner, Tallies] = {}
    began, whom = time.time(), sources(watched)
    for manner in Manner:
        before = Tallies(whom)
        made += caller.every(manner)
        counted[manner] = Tallies(whom).since(before)
    edge = '{service_name="traefik"} |= "RequestMethod"'
    calls = '{service_name=~"browser|filesystem|search|hub"} | event="call"'
    older = sum(one.manner is Manner.LEGACY for one in made)

    def all_there() -> bool:
        public = [line for line in since(watched, edge, began) if line["entryPointName"] == "public"]
        return len(public) >= len(made) and len(since(watched, calls, began)) >= len(made) + older

    wait_until(all_there, "lines of all calls in Loki", SEEN_S)
    return Called(made, counted, since(watched, edge, began), since(watched, calls, began))


def test_every_tool_that_the_services_list_is_called(caller: Caller) -> None:
    listed = [tool for service in SERVICES for tool in caller.listed(service)]
    assert sorted(listed) == sorted(TOOLS), "tests/support/every_tool.py needs a row for each tool there is"


@pytest.mark.feature("D2")
def test_a_call_of_every_tool_in_either_era_is_one_access_line_and_one_line_of_its_instance(called: Called) -> None:
    for one in called.made:
        line, trace = called.line(one), called.trace(one)
        older = one.manner is Manner.LEGACY
        about = line["request_X-Tekup-Client"], line["request_X-Tekup-Service"], line.get("request_Mcp-Name")
        assert about == (("dev", "hub", None) if older else ("dev", one.service, one.tool))
        wrote = {(said["service"], said["tool"], said["outcome"]) for said in called.calls if said["trace_id"] == trace}
        assert wrote == {(name, one.tool, "ok") for name in ([one.service, "hub"] if older else [one.service])}
        hops = Counter(hop["entryPointName"] for hop in called.edge if hop["TraceId"] == trace and not reads_lists(hop))
        assert hops == Counter(HOPS[one.manner])
    assert sum(line["entryPointName"] == "public" for line in called.edge) == len(called.made)
    assert len(called.calls) == len(called.made) + sum(one.manner is Manner.LEGACY for one in called.made)


@pytest.mark.feature("D1")
def test_a_call_of_every_tool_in_either_era_is_one_more_in_every_count(called: Called) -> None:
    decisions, calls = "tekup_gate_decisions_total", "tekup_tool_calls_total"
    for manner, counted in called.counted.items():
        older = manner is Manner.LEGACY
        for one in (each for each in called.made if each.manner is manner):
            assert counted.sum(one.service, calls, tool=one.tool, outcome="ok") == 1
            assert counted.sum(one.service, "tekup_tool_seconds_count", tool=one.tool) == 1
            assert counted.sum("hub", calls, tool=one.tool, outcome="ok") == older
            whose = {"class": "hub" if older else "key", "tool": one.tool, "service": one.service}
            assert counted.sum("gate", decisions, era="modern", reason="", target="~", **whose) == 1
        assert sum(counted.sum(service, calls) for service in SERVICES) == len(TOOLS)
        assert counted.sum("gate", decisions, **{"class": "key"}) == len(TOOLS)
        whole = {"class": "key", "service": "hub", "era": "legacy"}
        assert counted.sum("gate", decisions, **whole) == len(TOOLS) * older
        assert counted.sum("gate", "tekup_gate_client_calls_total", client="dev", service="hub") == len(TOOLS) * older
        used = {"client": "dev", "outcome": "passed"}
        assert counted.sum("gate", "tekup_gate_client_calls_total", **used) == len(TOOLS) * (1 + older)


def complete(url: str, trace: str, count: int) -> bool:
    """Whether Jaeger has so many spans of a trace."""
    return len(outline(jaeger.trace(url, trace))) >= count


@pytest.mark.feature("D4")
def test_a_call_of_every_tool_in_either_era_is_one_connected_trace_in_jaeger(
    watched: Environment, called: Called
) -> None:
    url, wrong = watched.up["jaeger"], {}
    for one in called.made:
        trace, shape = called.trace(one), expected(one)

        wait_until(partial(complete, url, trace, len(shape)), f"{one}: {shape}", SEEN_S)
        if (found := outline(jaeger.trace(url, trace))) != shape:
            wrong[one.tool] = [line.strip() for line in found if f"tekup-{one.service}" in line][1:]
        spans = jaeger.trace(url, trace)
        ids = {span.span for span in spans}
        assert [span.parent for span in spans if span.parent not in ids] == [CALLER if one.theirs else ""]
        if one.theirs:
            gates = jaeger.trace(url, called.line(one)["TraceId"])
            assert outline(gates) == [GATE[0], f"  {GATE[1]}"]
            (served,) = [span for span in spans if span.kind == "server"]
            assert served.links == tuple(span.span for span in gates if span.kind == "client")
    assert wrong == {}, f"steps in tests/support/every_tool.py that are others: {wrong}"


@pytest.mark.feature("D4")
def test_jaeger_has_no_other_trace_of_any_of_these_calls(watched: Environment, called: Called) -> None:
    for tool in TOOLS:
        mine = [one for one in called.made if one.tool == tool]
        found = jaeger.spans(watched.up["jaeger"], f"tekup-{mine[0].service}", f"tools/call {tool}", mine[0].began)
        own = [span.trace for span in found if "tekup.probe" not in span.about]
        assert sorted(own) == sorted(called.trace(one) for one in mine)


def test_status_doctor_and_another_up_know_them(watched: Environment) -> None:
    for name in EXTRAS:
        process = watched.process(name)
        assert (process.state, process.url) == ("ready", watched.up[name])
    doctor = watched.tekup("doctor")
    assert doctor.returncode == 0, doctor.stdout
    again = watched.tekup("up", "--observability")
    assert "settings or programs have changed" not in again.stderr
    assert all(f"{name} " in again.stdout and str(watched.up[name]) in again.stdout for name in EXTRAS)


@pytest.mark.feature("D2", "D4")
async def test_calls_go_on_while_loki_and_jaeger_hang_or_are_dead_and_their_lines_arrive_later(
    watched: Environment,
) -> None:
    async def send(name: str, number: signal.Signals) -> None:
        process = await asyncio.to_thread(watched.process, name)
        assert process.pid
        os.kill(process.pid, number)

    tool = "filesystem_list_roots"
    query = f'{{service_name="filesystem"}} | event="call" | tool="{tool}"'
    before = loki_count(watched.up["loki"], query)
    async with Load(f"{watched.gateway_url}/filesystem/mcp", watched.key, tool).running() as calls:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for name in ("loki", "jaeger"):
                await send(name, number)
            await calls.more(100)
    assert not calls.failures

    async def all_there() -> bool:
        return await asyncio.to_thread(loki_count, watched.up["loki"], query) >= before + calls.calls

    await eventually(all_there, "all lines of calls made meanwhile", SEEN_S)
    await asyncio.to_thread(watched.until_all_ready, SEEN_S)


def in_the_console(environment: Environment) -> str:
    """The page that `tekup demo` names, as somebody sees it who logs in with the token it names."""
    with httpx.Client(base_url=environment.control_plane_url, follow_redirects=True, trust_env=False) as browser:
        page = where(environment.control_plane_url, Layout(environment.directory)).split()[3]
        form = {"token": environment.operator_token, "next": page.partition("/console")[2]}
        browser.post("/console/login", data=form).raise_for_status()
        return browser.get(page).text


@pytest.mark.feature("G5")
def test_the_demo_shows_a_bad_version_going_back_by_itself_and_leaves_nothing_behind(watched: Environment) -> None:
    with ThreadPoolExecutor(1) as aside:
        demo = aside.submit(watched.tekup_json, "demo")
        wait_until(lambda: demo.done() or "→ demo" in in_the_console(watched), "the console to show the demo", 120)
        assert not demo.done(), "the console showed nothing of it before it had ended"
        shown = demo.result()
    assert shown["phase"] == "rolled_back", shown
    assert "on demo against" in shown["said"]
    assert 0 < shown["failed"] < shown["calls_of_the_bad_version"] < shown["calls"]
    assert shown["failed_otherwise"] == 0
    assert not any(process.version == "demo" for process in watched.status().processes)
    assert not list((watched.state / "drills").glob("*demo*"))


def test_down_stops_all_of_it(watched: Environment) -> None:
    assert watched.tekup("down").returncode == 0
    assert watched.running() == []
