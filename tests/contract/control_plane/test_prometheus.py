"""The metrics port over a real Prometheus, which finds a real gate and real instances in two versions through Consul.

Each drill on the canary has to move the counts of the check it is about, and of no check it is not.
"""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from control_plane.checks import Plan, default_checks
from control_plane.errors import Unavailable
from control_plane.prometheus import TIMEOUT_S, Prometheus
from control_plane.readings import Counts, Durations, Missing, Reading, Value
from control_plane.sequential import Count
from tests.support.consul_process import ConsulProcess
from tests.support.gate import SECRETS, Gate, Maker, close, is_open, lay_out, wait_until
from tests.support.guest import kit_instance
from tests.support.load import body, headers
from tests.support.ports import free_ports
from tests.support.prometheus_process import PrometheusProcess
from tests.support.wait import eventually

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]

STABLE, CANARY = "aaaaa1", "bbbbb2"
VERSIONS = {STABLE: "1.0.0", CANARY: "1.1.0"}
TARGETS = {STABLE: "ledger_1-0-0", CANARY: "ledger_1-1-0"}
TOOLS = ("ledger_list", "ledger_hurry")
PLAN = Plan("1.0.0", "1.1.0", default_checks(TOOLS))
ROUTES = {"ledger": {TARGETS[STABLE]: [STABLE], TARGETS[CANARY]: [CANARY]}}
START_S = 60.0
SEEN_S = 30.0


@dataclass
class World:
    """A gate, an instance of stable and one of the canary, and a Prometheus that scrapes them.

    Args:
        consul: Where all meet.
        gate: The gate; half of the calls go to the canary.
        server: The Prometheus.
        folder: Where drills, ledgers and logs lie.
    """

    consul: ConsulProcess
    gate: Gate
    server: PrometheusProcess
    folder: Path
    ports: Mapping[str, int]
    secrets_file: Path
    life: ExitStack

    def start(self, instance: str) -> None:
        """Start the instance of a side and wait until it serves and its metrics are scraped."""
        variables = {
            "MCP_INSTANCE": (known_as := secrets.token_hex(3)),  # a new one at each start, as everywhere
            "MCP_PORT": str(self.ports[instance]),
            "MCP_LEDGER_FILE": str(self.folder / f"{instance}.ledger"),
            "MCP_DRILL_FILE": str(self.folder / f"{instance}.json"),
        }
        process = self.life.enter_context(
            kit_instance(
                [sys.executable, "-m", "tests.support.ledger_service"],
                secrets_file=self.secrets_file,
                consul_url=self.consul.url,
                log=self.folder / f"{instance}.log",
                version=VERSIONS[instance],
                **variables,
            )
        )
        self.gate.backends[instance] = (self.ports[instance], process)
        self.server.until(f'tekup_instance_info{{instance="{known_as}"}}', f"{instance} scraped", START_S)

    def drill(self, *drills: dict[str, object]) -> None:
        """Put drills in force on the canary."""
        (self.folder / f"{CANARY}.json").write_text(json.dumps(drills))

    def call(self, count: int, tool: str = "ledger_list", **arguments: object) -> list[int]:
        """Call a tool through the gate; the answers' HTTP statuses."""
        sent = headers(Maker.keys["dev"], "tools/call", tool)
        asked = json.dumps(body("tools/call", {"name": tool, "arguments": arguments})).encode()
        return [self.gate.call("/ledger/mcp", sent, content=asked).status for _ in range(count)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared_consul: ConsulProcess) -> Iterator[World]:
    """One world for the module."""
    folder = tmp_path_factory.mktemp("metrics")
    gate = lay_out(folder / "gate")
    key = secrets.token_hex(32)
    known = {**SECRETS, "services": {**SECRETS["services"], "ledger": [key]}}  # type: ignore[dict-item]
    gate.write("tables/secrets.json", json.dumps(known))
    secrets_file = folder / "ledger.secrets.json"
    secrets_file.write_text(json.dumps({"service": "ledger", "keys": [key]}))
    secrets_file.chmod(0o600)
    show_gate(shared_consul, gate)
    with ExitStack() as life:
        life.callback(close_gate, gate)
        server = life.enter_context(PrometheusProcess(folder / "prometheus", shared_consul.url))
        ports = dict(zip(VERSIONS, free_ports(2), strict=True))
        made = World(shared_consul, gate, server, folder, ports, secrets_file, life)
        gate.start()
        for instance in VERSIONS:
            made.start(instance)
        gate.routes(ROUTES)
        gate.services({"ledger": {TARGETS[STABLE]: 50, TARGETS[CANARY]: 50}})
        gate.clients({"dev": ["*"]})
        gate.in_force()
        server.until("traefik_config_reloads_total", "the gate scraped")
        yield made


@pytest.fixture
def calm(world: World) -> World:
    """The world without a drill, with both instances up and in the gate's favour."""
    world.drill()
    for instance in VERSIONS:
        if not is_open(world.ports[instance]):
            world.start(instance)
    world.gate.routes(ROUTES)
    wait_until(lambda: 0 < on_canary(world, 2) < 2, "the canary to be called again", SEEN_S)
    return world


@pytest.fixture
async def source(calm: World) -> AsyncIterator[Prometheus]:
    """The adapter under test."""
    async with Prometheus(calm.server.url, scrape_s=calm.server.scrape_s) as prometheus:
        yield prometheus


def show_gate(consul: ConsulProcess, gate: Gate) -> None:
    port = int(gate.private.rpartition(":")[2])
    entry = {"Name": "tekup-gate", "ID": "tekup-gate-g1", "Address": "127.0.0.1", "Port": port, "Meta": {"gate": "g1"}}
    httpx.put(f"{consul.url}/v1/agent/service/register", json=entry, trust_env=False).raise_for_status()


def close_gate(gate: Gate) -> None:
    gate.backends.clear()  # they end with the block that began them
    close(gate)


def on_canary(world: World, count: int) -> int:
    """Make calls; how many of them the canary's own balancer answered."""
    before = carried(world)
    world.call(count)
    return carried(world) - before


def carried(world: World) -> int:
    text = world.gate.http.get(f"{world.gate.private}/traefik-metrics").text
    wanted = (line for line in text.splitlines() if line.startswith("traefik_service_requests_total"))
    return sum(int(float(line.rpartition(" ")[2])) for line in wanted if f'"{TARGETS[CANARY]}.lb@file"' in line)


async def readings(source: Prometheus, custom: Mapping[str, str] | None = None) -> Mapping[str, Reading]:
    look = await source.look("ledger", PLAN, custom or {})
    assert not isinstance(look, Missing), look.why
    return look


async def counts(world: World, source: Prometheus) -> dict[str, Counts]:
    """Every check that counts, with all calls made until now."""
    scraped_since(world, time.time())
    return {name: reading for name, reading in (await readings(source)).items() if isinstance(reading, Counts)}


def scraped_since(world: World, moment_s: float) -> None:
    """Wait until every instance and the gate has been scraped after a moment."""
    newest = 'timestamp(up{service="ledger"}) or timestamp(up{job="traefik",instance="g1"})'
    world.server.until(f"min({newest}) > {moment_s:.3f}", "another scrape of all")


def halved(calls: int, before: Counts, after: Counts, *, bad: bool) -> bool:
    """Whether so many calls came, half to each side, all of the canary's or none bad. A lane is exact to one or two."""
    stable, canary = more(before, after)
    together = stable + canary
    fair = together.calls == calls and abs(stable.calls - canary.calls) <= 4
    return fair and stable.bad == 0 and canary.bad == (canary.calls if bad else 0)


def more(before: Counts, after: Counts) -> tuple[Count, Count]:
    """What came to stable and canary in between."""
    return (
        Count(after.stable.bad - before.stable.bad, after.stable.calls - before.stable.calls),
        Count(after.canary.bad - before.canary.bad, after.canary.calls - before.canary.calls),
    )


async def test_good_calls_are_counted_on_both_sides_and_none_of_them_is_bad(calm: World, source: Prometheus) -> None:
    before = await counts(calm, source)
    assert calm.call(20) == [200] * 20
    after = await counts(calm, source)
    for name in ("http_5xx", "tool_errors", "deadline", "schema", "tool_errors:ledger_list"):
        assert halved(20, before[name], after[name], bad=False), name
    assert more(before["tool_errors:ledger_hurry"], after["tool_errors:ledger_hurry"]) == (Count(), Count())


async def test_durations_of_a_tool_and_of_all_have_the_kits_edges(calm: World, source: Prometheus) -> None:
    look = await readings(source)
    of_all, of_one, never = look["latency"], look["latency:ledger_list"], look["latency:ledger_hurry"]
    assert isinstance(of_all, Durations)
    assert isinstance(of_one, Durations)
    assert isinstance(never, Durations)
    assert of_all.edges_s == of_one.edges_s == never.edges_s
    assert (of_all.edges_s[0], of_all.edges_s[-1]) == (0.001, 60)
    assert min(of_all.stable[-1], of_all.canary[-1]) > 0
    assert of_all.stable[-1] >= of_one.stable[-1]


@pytest.mark.parametrize(
    ("drill", "moved", "unmoved"),
    [
        ({"tool": "ledger_list", "error": "a drill"}, ("tool_errors", "tool_errors:ledger_list"), ("schema",)),
        ({"tool": "ledger_list", "break_schema": True}, ("schema",), ("tool_errors", "deadline", "http_5xx")),
    ],
    ids=["error", "break_schema"],
)
async def test_a_drill_of_a_tool_moves_its_check_on_the_canary_alone(
    calm: World, source: Prometheus, drill: dict[str, object], moved: tuple[str, ...], unmoved: tuple[str, ...]
) -> None:
    before = await counts(calm, source)
    calm.drill(drill)
    assert calm.call(20) == [200] * 20
    after = await counts(calm, source)
    for name in moved:
        assert halved(20, before[name], after[name], bad=True), name
    for name in unmoved:
        assert halved(20, before[name], after[name], bad=False), name


async def test_a_hang_moves_the_calls_past_their_deadline(calm: World, source: Prometheus) -> None:
    before = await counts(calm, source)
    calm.drill({"tool": "ledger_hurry", "hang": True})
    assert calm.call(6, "ledger_hurry", entry="a") == [200] * 6
    after = await counts(calm, source)
    assert halved(6, before["deadline"], after["deadline"], bad=True)
    assert halved(6, before["tool_errors:ledger_hurry"], after["tool_errors:ledger_hurry"], bad=False)


async def test_a_delay_moves_the_durations_beyond_the_edge(calm: World, source: Prometheus) -> None:
    scraped_since(calm, time.time())
    before = (await readings(source))["latency:ledger_list"]
    assert isinstance(before, Durations)
    calm.drill({"tool": "ledger_list", "delay_ms": 300})
    assert calm.call(10) == [200] * 10
    scraped_since(calm, time.time())
    after = (await readings(source))["latency:ledger_list"]
    assert isinstance(after, Durations)
    edge = after.edges_s.index(0.25)
    slow = [side[-1] - side[edge] for side in (before.stable, before.canary, after.stable, after.canary)]
    assert slow[3] - slow[1] == after.canary[-1] - before.canary[-1] >= 3
    assert after.stable[-1] - before.stable[-1] >= 3


async def test_an_http_error_is_the_canarys_and_so_is_every_call_that_others_have_to_take(
    calm: World, source: Prometheus
) -> None:
    before = await counts(calm, source)
    calm.drill({"tool": "ledger_list", "status": 503})
    answers = calm.call(40)
    after = await counts(calm, source)
    stable, canary = more(before["http_5xx"], after["http_5xx"])
    # Traefik stops asking it after a few, so most of its calls are answered by stable. They count all the same.
    assert 0 < answers.count(503) <= canary.bad
    assert canary.bad == canary.calls >= 18
    assert stable.bad == 0


async def test_a_canary_that_dies_during_a_call_and_then_refuses_connections_is_at_fault(
    calm: World, source: Prometheus
) -> None:
    before = await counts(calm, source)
    calm.drill({"tool": "ledger_list", "crash": True})
    answers = calm.call(20)
    assert 1 <= answers.count(502) <= 2  # one more on a connection that is not yet known to be closed
    assert set(answers) == {200, 502}
    wait_until(lambda: not is_open(calm.ports[CANARY]), "the canary to be dead")
    mine = 'tekup_instance_info{service="ledger",version="1.1.0"}'
    wait_until(lambda: not calm.server.values(mine), "its scrapes to fail", SEEN_S)

    async def blamed() -> Counts | None:
        reading = (await readings(source))["http_5xx"]
        assert isinstance(reading, Counts)
        return reading if reading.canary.calls - before["http_5xx"].canary.calls >= 10 else None

    stable, canary = more(before["http_5xx"], await eventually(blamed, "ten calls meant for the canary", SEEN_S))
    # A refused connection is tried again, and each try counts.
    assert canary.bad == canary.calls >= 10
    assert stable.bad == 0
    look = await readings(source)
    assert isinstance(look["tool_errors"], Missing)
    assert "1.1.0" in look["tool_errors"].why


async def test_a_canary_that_outgrows_its_memory_dies(calm: World) -> None:
    process = calm.gate.backends[CANARY][1]
    import resource  # noqa: PLC0415  # of Linux alone

    resource.prlimit(process.pid, resource.RLIMIT_AS, (3 << 30, 3 << 30))
    calm.drill({"tool": "ledger_list", "grow_mb": 512})

    def dead() -> bool:
        calm.call(2)
        return process.poll() is not None

    wait_until(dead, "the canary to die of its limit", SEEN_S)
    assert process.returncode == 70


async def test_a_restarted_canary_keeps_what_it_had_counted_in_the_sum(calm: World, source: Prometheus) -> None:
    before = await counts(calm, source)
    process = calm.gate.backends[CANARY][1]
    process.send_signal(signal.SIGTERM)
    process.wait(SEEN_S)
    calm.start(CANARY)
    after = await counts(calm, source)
    for name in ("tool_errors", "schema", "http_5xx"):
        assert after[name].canary.calls >= before[name].canary.calls > 0, name


async def test_custom_values_are_read_with_the_rollouts_own_names_filled_in(source: Prometheus) -> None:
    queries = {
        "up": 'count(tekup_instance_info{service="{{service}}",version=~"{{stable}}|{{canary}}"})',
        "two": "tekup_instance_info",
        "none": "no_such_metric",
        "nan": "0/0",
        "bad": "sum(",
    }
    look = await readings(source, queries)
    assert look["up"] == Value(2)
    for name, why in {"two": "it must give one", "none": "gave no values", "nan": "NaN", "bad": "parse error"}.items():
        reading = look[name]
        assert isinstance(reading, Missing)
        assert why in reading.why, name
    assert isinstance(look["tool_errors"], Counts)


async def test_a_version_or_service_nobody_runs_is_missing_and_not_zero(source: Prometheus) -> None:
    look = await source.look("ledger", Plan("1.0.0", "9.9.9", default_checks()), {})
    assert not isinstance(look, Missing)
    assert look["tool_errors"] == Missing("Prometheus scrapes no instance of 9.9.9")
    assert isinstance(look["http_5xx"], Counts)


@pytest.mark.parametrize("query", ["sum(", "rate(x)", "1 +"])
async def test_nonsense_is_refused_in_prometheus_own_words(source: Prometheus, query: str) -> None:
    assert "parse error" in await source.problem_of(query)


async def test_a_query_with_the_names_to_fill_in_has_no_problem(source: Prometheus) -> None:
    assert await source.problem_of('sum(x{service="{{service}}",version="{{canary}}"})') == ""


async def test_a_frozen_prometheus_is_missing_in_time_and_back_when_it_thaws(calm: World, source: Prometheus) -> None:
    calm.server.freeze()
    try:
        began_s = time.monotonic()
        look = await source.look("ledger", PLAN, {"up": "up"})
        assert time.monotonic() - began_s < TIMEOUT_S + 1
        assert not isinstance(look, Missing)
        assert all(isinstance(look[name], Missing) for name in ("up", "tool_errors", "http_5xx", "latency"))
        with pytest.raises(Unavailable, match="no answer within 3 s"):
            await source.problem_of("up")
    finally:
        calm.server.thaw()
    await eventually(lambda: fresh(source), "readings after the thaw", SEEN_S)


async def fresh(source: Prometheus) -> bool:
    look = await source.look("ledger", PLAN, {})
    return not isinstance(look, Missing) and isinstance(look["tool_errors"], Counts)


async def test_a_prometheus_that_scrapes_no_more_is_stale_before_its_lookback_ends(
    calm: World, source: Prometheus
) -> None:
    # An adapter that expects a scrape each 10 ms finds a sample of a second ago old.
    async with Prometheus(calm.server.url, scrape_s=0.001) as impatient:

        async def stale() -> Missing | None:
            reading = (await readings(impatient))["tool_errors"]
            return reading if isinstance(reading, Missing) else None

        assert "the newest sample of any instance of 1." in (await eventually(stale, "a stale reading", SEEN_S)).why


async def test_no_prometheus_at_all_is_missing_at_once() -> None:
    async with Prometheus(f"http://127.0.0.1:{free_ports(1)[0]}") as away:
        look = await away.look("ledger", PLAN, {})
        assert isinstance(look, Missing)
        assert "cannot be asked" in look.why
        with pytest.raises(Unavailable):
            await away.problem_of("up")


async def test_something_that_is_no_prometheus_is_missing_and_says_so(shared_consul: ConsulProcess) -> None:
    async with Prometheus(shared_consul.url) as other:
        look = await other.look("ledger", PLAN, {})
        assert isinstance(look, Missing)
        assert "nonsense" in look.why
        with pytest.raises(Unavailable):
            await other.problem_of("up")
