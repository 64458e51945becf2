"""What the client counts is what the gate, the hub and the instances count, call by call and label by label."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import httpx
import pytest

from tests.support.documented import problems
from tests.support.evidence import Evidence
from tests.support.gate import wait_until
from tests.support.load import body, headers
from tests.support.otlp import Collector, collecting
from tests.support.stage import Stage, stage
from tests.support.tallies import Tallies

pytestmark = [pytest.mark.local, pytest.mark.feature("D1", "D2", "D3", "D4"), pytest.mark.timeout(600)]

TOOL = "ledger_echo"
LEGACY = "2025-11-25"
COPIES = "tekup_mirrored_calls_total"
HEAP = 25
SETTLED = 2
PROBES = 3


@dataclass(frozen=True)
class Kind:
    """Calls of one kind: how many, and the status each has to be answered with."""

    count: int
    status: int
    key: str = ""
    arguments: Mapping[str, object] | None = None
    legacy: bool = False
    failed: bool = False


GOOD: Mapping[str, object] = {"text": "x"}
WRONG: Mapping[str, object] = {"words": "x"}
KINDS = {
    "good": Kind(500, 200, "dev", GOOD),
    "wrong": Kind(150, 200, "dev", WRONG, failed=True),
    "without a key": Kind(100, 401, "", GOOD),
    "without the right": Kind(50, 403, "narrow", GOOD),
    "older, good": Kind(150, 200, "dev", GOOD, legacy=True),
    "older, wrong": Kind(50, 200, "dev", WRONG, legacy=True, failed=True),
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where all spans come to."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stage]:
    """Two instances of the stable version, the hub, and a version that gets copies of every call."""
    folder = tmp_path_factory.mktemp("stage")
    (folder / "levels").write_text("info\ncall=debug\n")  # what probes call is logged as well
    with stage(folder, gates=(2,), collector=collector.url, MCP_PROBE_EVERY_S="1") as made:
        made.add_hub()
        made.add_instance("1.0.0")
        made.add_instance("1.1.0")
        made.serving("1.0.0", 2)
        made.serving("1.1.0")
        yield made


def instances(stage: Stage, name: str) -> list[tuple[str, str]]:
    """Version of each instance of a service, and where it shows its metrics."""
    found = httpx.get(f"{stage.consul.url}/v1/catalog/service/{name}", trust_env=False).json()
    return [
        (one["ServiceMeta"]["version"], f"http://{one['ServiceAddress']}:{one['ServiceMeta']['admin']}/metrics")
        for one in found
    ]


def shown(stage: Stage) -> Tallies:
    """What everybody counts now."""
    sources = [("gate", "", f"{stage.gates[0].private}/metrics")]
    return Tallies([*sources, *((name, *one) for name in ("mcp-ledger", "mcp-hub") for one in instances(stage, name))])


def decided(counted: Tallies, **labels: str) -> int:
    return counted.sum("gate", "tekup_gate_decisions_total", **labels)


def used(counted: Tallies, client: str, service: str, outcome: str) -> int:
    return counted.sum("gate", "tekup_gate_client_calls_total", client=client, service=service, outcome=outcome)


async def call(http: httpx.AsyncClient, url: str, kind: Kind) -> None:
    asked = body("tools/call", {"name": TOOL, "arguments": dict(kind.arguments or {})})
    sent = headers(kind.key, "tools/call", TOOL)
    if kind.legacy:
        sent = {name: value for name, value in sent.items() if not name.startswith("Mcp-")}
        sent["MCP-Protocol-Version"] = LEGACY
        asked = {**asked, "params": {"name": TOOL, "arguments": dict(kind.arguments or {})}}
    if not kind.key:
        del sent["Authorization"]
    answer = await http.post(url, json=asked, headers=sent)
    assert answer.status_code == kind.status, f"{kind}: {answer.status_code} {answer.text[:300]}"
    if kind.status == 200:
        assert ('"isError":true' in answer.text.replace(" ", "")) is kind.failed, f"{kind}: {answer.text[:300]}"


async def call_all(mirror_url: str, url: str, keys: Mapping[str, str], copied: int) -> None:
    """All kinds side by side, mixed; in heaps, since of copies no more than 32 are under way, and others dropped."""
    kinds = [[replace(kind, key=keys.get(kind.key, ""))] * kind.count for kind in KINDS.values()]
    mixed = [kind for row in itertools.zip_longest(*kinds) for kind in row if kind]
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        for at in range(0, len(mixed), HEAP):
            heap = mixed[at : at + HEAP]
            await asyncio.gather(*(call(http, url, kind) for kind in heap))
            copied += sum(kind.status == 200 for kind in heap)
            await asyncio.to_thread(until_copied, mirror_url, copied)


def until_copied(mirror_url: str, count: int) -> None:
    def all_there() -> bool:
        lines = httpx.get(mirror_url, trust_env=False, timeout=10).text.splitlines()
        return sum(float(line.rsplit(" ")[-1]) for line in lines if line.startswith(f"{COPIES}{{")) >= count

    until(all_there, f"{count} copies")


def mirrored(made: Stage) -> None:
    step = {"mirror": True, "bake_s": 3600, "analysis": False}
    made.begin("1.1.0", steps=[step], checks=[])
    made.reached("baking")


def until(look: Callable[[], bool], what: str) -> None:
    wait_until(look, what, 60)


def test_every_count_of_a_thousand_mixed_calls_is_the_clients_own(made: Stage) -> None:
    mirrored(made)
    made.ask("POST", "/v1/clients", {"id": "narrow", "allow": ["ledger_list"], "reason": "test"})
    narrow = made.ask("POST", "/v1/clients/narrow/keys", {"reason": "test"})["key"]
    url = f"{made.gates[0].public}/mcp"
    asyncio.run(_settled(url, made.key))
    (mirror_url,) = (found for version, found in instances(made, "mcp-ledger") if version == "1.1.0")
    until_copied(mirror_url, SETTLED)
    before = shown(made)
    asyncio.run(call_all(mirror_url, url, {"dev": made.key, "narrow": narrow}, SETTLED))
    count = {name: kind.count for name, kind in KINDS.items()}
    modern, older = count["good"] + count["wrong"], count["older, good"] + count["older, wrong"]
    until(lambda: decided(shown(made).since(before), **{"class": "control-plane"}) >= PROBES, "probes meanwhile")
    counted = shown(made).since(before)

    assert decided(counted, era="modern", service="ledger", tool=TOOL, reason="", **{"class": "key"}) == modern
    assert decided(counted, era="legacy", service="hub", tool="", reason="", **{"class": "key"}) == older
    assert decided(counted, era="modern", service="ledger", tool=TOOL, reason="", **{"class": "hub"}) == older
    assert decided(counted, era="modern", reason="no_key", **{"class": "none"}) == count["without a key"]
    assert decided(counted, era="modern", reason="~", **{"class": "key"}) == count["without the right"]
    assert decided(counted, reason="~") == count["without a key"] + count["without the right"]
    assert used(counted, "dev", "ledger", "passed") == modern + older
    assert used(counted, "dev", "hub", "passed") == older
    assert used(counted, "narrow", "ledger", "refused") == count["without the right"]
    assert used(counted, "", "", "refused") == count["without a key"]

    calls = "tekup_tool_calls_total"
    assert counted.sum("mcp-ledger", calls, "1.0.0", tool=TOOL, outcome="ok") == count["good"] + count["older, good"]
    wrong = count["wrong"] + count["older, wrong"]
    assert counted.sum("mcp-ledger", calls, "1.0.0", tool=TOOL, outcome="tool_error") == wrong
    assert counted.sum("mcp-ledger", calls) == modern + older, "neither probes nor copies count as calls"
    assert counted.sum("mcp-ledger", "tekup_tool_seconds_count", tool=TOOL) == modern + older
    assert counted.sum("mcp-ledger", COPIES, "1.1.0", tool=TOOL) == modern + older
    assert counted.sum("mcp-ledger", COPIES, "1.0.0") == 0
    assert counted.sum("mcp-hub", calls, tool=TOOL, outcome="ok") == count["older, good"]
    assert counted.sum("mcp-hub", calls, tool=TOOL, outcome="tool_error") == count["older, wrong"]
    hub = "tekup_hub_calls_total"
    assert counted.sum("mcp-hub", hub, era="legacy", service="ledger", outcome="ok") == count["older, good"]
    assert counted.sum("mcp-hub", hub) == older


def test_everything_that_is_shown_after_all_that_is_documented(made: Stage) -> None:
    pages = [("gate", f"{made.gates[0].private}/metrics"), ("control-plane", f"{made.urls['r1']}/metrics")]
    pages += [("instance", url) for _, url in instances(made, "mcp-ledger")]
    pages += [("instance,hub", url) for _, url in instances(made, "mcp-hub")]
    wrong = {url: problems(who, httpx.get(url, trust_env=False, timeout=10).text) for who, url in pages}
    assert {url: found for url, found in wrong.items() if found} == {}


def everybodys(found: Evidence) -> dict[str, list[int]]:
    """What the client did, gate and services count, log lines tell and spans tell, by what it is."""
    made = {name: kind.count + (kind in (KINDS["good"], KINDS["older, good"])) for name, kind in KINDS.items()}
    older = made["older, good"] + made["older, wrong"]
    calls = made["good"] + made["wrong"] + older
    wrong = made["wrong"] + made["older, wrong"]
    counted, count = found.counted, "tekup_tool_calls_total"
    served = f"server tools/call {TOOL}"
    ours, probing = "tekup-ledger", {"tekup.probe": "control-plane"}
    copy = {"tekup.mirrored": True}
    return {
        "at the edge": [
            sum(made.values()),
            decided(counted, **{"class": "key"}) + decided(counted, **{"class": "none"}),
            found.accesses("public").total(),
            found.spanned("tekup-gate: server POST", entry_point="public").total(),
        ],
        "refused at the edge": [
            sum(made[name] for name, kind in KINDS.items() if kind.status >= 400),
            decided(counted, reason="~", **{"class": "key"}) + decided(counted, reason="~", **{"class": "none"}),
            found.accesses("public", DownstreamStatus=401).total()
            + found.accesses("public", DownstreamStatus=403).total(),
        ],
        "refused to a client that is known": [
            made["without the right"],
            used(counted, "narrow", "ledger", "refused"),
            found.accesses("public", "narrow", DownstreamStatus=403, **{"request_X-Tekup-Service": "ledger"}).total(),
        ],
        "the hub's hops": [
            older,
            decided(counted, tool=TOOL, **{"class": "hub"}),
            found.accesses("internal", "dev", **{"request_Mcp-Name": TOOL}).total(),
            found.spanned("tekup-hub: client call ledger", **{"tekup.method": "tools/call"}).total(),
        ],
        "served by the hub": [
            older,
            counted.sum("mcp-hub", count),
            found.called("hub", "dev").total(),
            found.spanned(f"tekup-hub: {served}").total(),
        ],
        "served": [
            calls,
            counted.sum("mcp-ledger", count),
            found.called("ledger", "dev").total(),
            found.spanned(f"{ours}: {served}").total(),
        ],
        "served, in vain": [
            wrong,
            counted.sum("mcp-ledger", count, outcome="tool_error"),
            found.called("ledger", "dev", outcome="tool_error").total(),
            found.spanned(f"{ours}: {served}", **{"tekup.outcome": "tool_error"}).total(),
        ],
        "copies": [
            calls,
            counted.sum("mcp-ledger", COPIES, "1.1.0"),
            found.called("ledger", "dev", mirrored=True, version="1.1.0").total(),
            found.spanned(f"{ours}: {served}", **copy).total(),
        ],
        "probes": [
            decided(counted, tool="~", **{"class": "control-plane"}),
            found.accesses("internal", "~control-plane", **{"request_Mcp-Method": "tools/call"}).total(),
            found.called("ledger", "~control-plane").total(),
            found.spanned(f"{ours}: server tools/call ledger_list", **probing).total(),
        ],
        "asked by the control plane": [
            decided(counted, **{"class": "control-plane"}),
            found.accesses("internal", "~control-plane").total(),
        ],
        "all that the gate decided": [decided(counted), len(found.edge)],
    }


def test_log_lines_and_traces_agree_with_the_counts_call_by_call(made: Stage, collector: Collector) -> None:
    made.replicas["r1"].send(signal.SIGSTOP)  # so that no further probe is made while we look

    def look() -> Evidence:
        edge = made.gates[0].folder / "traefik.log"
        return Evidence.of(shown(made), edge, [process.log for process in made.instances], collector)

    def agree() -> bool:
        return all(len(set(counts)) == 1 for counts in everybodys(look()).values())

    with contextlib.suppress(AssertionError):
        until(agree, "everybody's counts to agree")
    found = look()
    assert everybodys(found) == {what: [counts[0]] * len(counts) for what, counts in everybodys(found).items()}
    served = found.called("ledger", "dev")
    assert set(served.values()) == {1}, "each call has a trace of its own"
    older = found.accesses("public", "dev", **{"request_X-Tekup-Service": "hub"})
    assert found.accesses("public", "dev", **{"request_X-Tekup-Service": "ledger"}) + older == served
    assert found.accesses("internal", "dev") == found.called("hub", "dev") == older
    assert found.called("ledger", "dev", mirrored=True) == served, "a copy is in the trace of its call"
    for copied in (None, True):
        assert found.spanned(f"tekup-ledger: server tools/call {TOOL}", **{"tekup.mirrored": copied}) == served
    probes = found.accesses("internal", "~control-plane", **{"request_Mcp-Method": "tools/call"})
    assert probes == found.called("ledger", "~control-plane")
    assert not probes & served


async def _settled(url: str, key: str) -> None:
    """One call of each era, so that the hub knows the tool before anything is counted."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        for kind in (KINDS["good"], KINDS["older, good"]):  # SETTLED many
            await call(http, url, replace(kind, key=key))
