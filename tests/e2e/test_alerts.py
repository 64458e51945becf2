"""Every alert by a real fault: quiet before, told by a real Alertmanager to whoever listens, and over after.

All on one running platform, each test leaving it sound. Durations of rules are scaled, so that minutes are seconds.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.authorization import AuthorizationServer
from tests.support.box import Box, box
from tests.support.consul_process import ConsulProcess
from tests.support.gate import wait_until
from tests.support.identities import CONNECT, change_ca
from tests.support.ports import free_ports
from tests.support.stage import Process
from tests.support.watched import Watched, watched

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.feature("D4")]
LEDGER = {"service": "ledger"}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("alerts")) as made:
        made.watch.fired("Watchdog")
        made.prometheus.until('tekup_probe_ok{exported_instance=""} == 1', "probes that work", 60)
        yield made


@pytest.fixture
def there(shared: Watched) -> Watched:
    """The platform, sound: nothing fires but the deadman's switch, before and after a test."""
    sound(shared)
    return shared


def sound(there: Watched) -> None:
    def nothing() -> bool:
        return {found["alertname"] for found, _ in there.prometheus.values('ALERTS{alertstate="firing"}')} == {
            "Watchdog"
        }

    wait_until(nothing, "nothing to fire but Watchdog", 180)


@contextmanager
def another(there: Watched, version: str = "1.0.0", **more: Any) -> Iterator[Process]:
    """One more instance, for a test to do with as it likes."""
    before = len([one for one in there.stage.instances if one.alive])
    made = there.stage.add_instance(version, **more)
    there.stage.serving(version, before + 1 if version == "1.0.0" else 1)
    try:
        yield made
    finally:
        made.end()


def bury(there: Watched) -> None:
    """Take dead instances out of the catalog, as Consul does after ten minutes."""
    url = there.stage.consul.url
    dead = httpx.get(f"{url}/v1/health/state/critical", trust_env=False, timeout=10).json()
    for one in dead:
        httpx.put(
            f"{url}/v1/agent/service/deregister/{one['ServiceID']}", trust_env=False, timeout=10
        ).raise_for_status()


# -- instances


def test_an_instance_that_is_killed(there: Watched) -> None:
    with another(there) as instance, there.watch.fires("InstanceRestarted", **LEDGER):
        there.prometheus.until("tekup_instances_lost_total{service='ledger'}", "the count from the start")
        instance.end(signal.SIGKILL)
        there.watch.leads_to("InstanceRestarted", about=LEDGER, version="1.0.0")
        bury(there)
    there.watch.cleared("InstanceRestarted", **LEDGER)


def test_instances_that_are_killed_again_and_again(there: Watched) -> None:
    with ExitStack() as life, there.watch.fires("InstanceCrashLooping", **LEDGER):
        instances = [there.stage.add_instance("1.0.0") for _ in range(3)]
        for one in instances:
            life.callback(one.end)
        there.stage.serving("1.0.0", 4)
        there.prometheus.until("count(tekup_ready{service='ledger'}) >= 4", "all of them seen")
        for one in instances:
            one.end(signal.SIGKILL)
        there.watch.fired("InstanceCrashLooping", **LEDGER)
        bury(there)
    there.watch.cleared("InstanceCrashLooping", **LEDGER)


def test_an_instance_that_leaves_in_order_is_no_news(there: Watched) -> None:
    with another(there):
        there.prometheus.until("count(tekup_ready{service='ledger'}) >= 2", "the other one seen")
    there.prometheus.until("count(tekup_ready{service='ledger'}) == 1", "the other one gone", 60)
    there.watch.quiet("InstanceRestarted", **LEDGER)
    assert there.prometheus.values('sum(increase(tekup_instances_lost_total{service="ledger"}[10s])) > 0') == []


def test_memory_near_its_limit(there: Watched) -> None:
    with box() as group, another(there, "1.9.0", within=group.command):
        group.limit("memory", "memory.limit_in_bytes", 2 * group.used("memory", "memory.usage_in_bytes"))
        there.prometheus.until('tekup_limit_memory_bytes{version="1.9.0"}', "the limit")
        with there.watch.fires("MemoryNearLimit", version="1.9.0", **LEDGER):
            grow(there, group, group.used("memory", "memory.usage_in_bytes") * 0.88)
        there.watch.leads_to("MemoryNearLimit", about=LEDGER, version="1.9.0")
        group.limit("memory", "memory.limit_in_bytes", 4 * group.used("memory", "memory.usage_in_bytes"))
        there.watch.cleared("MemoryNearLimit", version="1.9.0")


def grow(there: Watched, group: Box, more: float) -> None:
    """The version 1.9.0 keeps so many bytes more, by the first call of half the traffic that comes to it."""
    enough = group.used("memory", "memory.usage_in_bytes") + more * 0.9
    with there.drill({"tool": "ledger_open", "grow_mb": int(more / 2**20)}, version="1.9.0"):
        shift(there, {"1.0.0": 50, "1.9.0": 50})
        for _ in range(40):
            there.call("ledger_open")
            if group.used("memory", "memory.usage_in_bytes") > enough:
                break
        shift(there, {"1.0.0": 100})


def shift(there: Watched, weights_pct: dict[str, int]) -> None:
    there.stage.ask("PUT", "/v1/services/ledger/traffic", {"weights_pct": weights_pct, "reason": "test"})


def test_processors_near_their_limit(there: Watched) -> None:
    with box() as group, another(there, "1.9.0", within=group.command) as instance:
        there.prometheus.until('tekup_tree_cpu_seconds_total{version="1.9.0"}', "the instance seen")
        # Before everybody else on the machine, whatever its load, and still no more than this.
        group.limit("cpu", "cpu.shares", 100_000)
        group.limit("cpu", "cpu.cfs_quota_us", 20_000)
        there.prometheus.until('tekup_limit_cpus{version="1.9.0"} < 0.21', "the limit")
        there.watch.quiet("CpuNearLimit", version="1.9.0")
        with ended(subprocess.Popen([*group.command, "nice", "sh", "-c", "while :; do :; done"])):
            there.watch.fired("CpuNearLimit", version="1.9.0", **LEDGER)
        assert instance.alive
        there.watch.cleared("CpuNearLimit", version="1.9.0")


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process that lives no longer than a block."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_processes_near_their_limit(there: Watched) -> None:
    with box() as group, another(there, "1.9.0", within=group.command):
        group.limit("pids", "pids.max", 40 + group.used("pids", "pids.current"))
        there.prometheus.until('tekup_limit_processes{version="1.9.0"}', "the limit")
        with there.watch.fires("ProcessesNearLimit", version="1.9.0", **LEDGER):
            children = [subprocess.Popen([*group.command, "sleep", "600"]) for _ in range(38)]
        for child in children:
            child.kill()
            child.wait()
        there.watch.cleared("ProcessesNearLimit", version="1.9.0")


def test_open_files_near_their_limit(there: Watched) -> None:
    with another(there, "1.9.0") as instance:
        process = psutil.Process(instance.pid)
        hard = resource.prlimit(instance.pid, resource.RLIMIT_NOFILE)[1]
        limit = process.num_fds() + 600  # what is left beyond the alert is more than gates and Consul need
        resource.prlimit(instance.pid, resource.RLIMIT_NOFILE, (limit, hard))
        there.prometheus.until(f'tekup_limit_open_files{{version="1.9.0"}} == {limit}', "the limit")
        admin = admin_port(there, "1.9.0")
        with ExitStack() as life, there.watch.fires("FilesNearLimit", version="1.9.0", **LEDGER):
            while process.num_fds() < 0.88 * limit:
                connect(life, process, admin, 20)
            there.watch.leads_to("FilesNearLimit", about=LEDGER, version="1.9.0")
        there.watch.cleared("FilesNearLimit", version="1.9.0")


def connect(life: ExitStack, process: psutil.Process, port: int, count: int) -> None:
    """So many connections more, each of them taken: what waits to be taken would exhaust the process later."""
    enough = process.num_fds() + count - 5  # those of others come and go meanwhile
    for _ in range(count):
        life.enter_context(socket.create_connection(("127.0.0.1", port), 20))
    wait_until(lambda: process.num_fds() >= enough, "the connections taken", 30)


def admin_port(there: Watched, version: str) -> int:
    """Of the only instance of a version."""
    url = f"{there.stage.consul.url}/v1/catalog/service/mcp-ledger"
    found = httpx.get(url, trust_env=False, timeout=10).json()
    (port,) = (one["ServiceMeta"]["admin"] for one in found if one["ServiceMeta"]["version"] == version)
    return int(port)


def test_a_disk_that_is_nearly_full(there: Watched, tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets the test mount no disk of its own")
    try:
        with another(there, "1.9.0", TMPDIR=str(tmp_path)):
            there.prometheus.until('tekup_disk_free_bytes{version="1.9.0", place="work"}', "the disk")
            with there.watch.fires("DiskNearlyFull", place="work", severity="warning", **LEDGER):
                (tmp_path / "left").write_bytes(bytes(15 * 2**20))
            there.watch.leads_to("DiskNearlyFull", about=LEDGER, least=True, place="work")
            with there.watch.fires("DiskNearlyFull", place="work", severity="critical", **LEDGER):
                (tmp_path / "more").write_bytes(bytes(int(0.8 * 2**20)))
            (tmp_path / "left").unlink()
            there.watch.cleared("DiskNearlyFull", place="work", severity="critical")
            wait_until(lambda: not there.prometheus.firing("DiskNearlyFull"), "nothing of it to fire", 60)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_hardly_room_for_another_handle(there: Watched) -> None:
    with another(there, "1.9.0", MCP_LEDGER_MOST="10", MCP_LEDGER_IDLE_S="600"):
        there.prometheus.until('tekup_handles_limit{version="1.9.0", kind="book"} == 10', "the limit")
        shift(there, {"1.9.0": 100, "1.0.0": 0})
        with there.watch.fires("BrowserExhausted", kind="book", version="1.9.0", **LEDGER):
            there.open_books(10)
            there.watch.leads_to("BrowserExhausted", about=LEDGER, version="1.9.0")
        shift(there, {"1.0.0": 100})
    there.watch.cleared("BrowserExhausted", kind="book", version="1.9.0")


# -- calls


def test_a_tool_that_is_slow(there: Watched) -> None:
    with there.watch.fires("ToolSlow", tool="ledger_echo", **LEDGER), slow(there):
        there.watch.leads_to("ToolSlow", about=LEDGER, tool="ledger_echo", version="1.0.0")
        labels = {"slo": "latency", **LEDGER}
        there.watch.leads_to("SloBurnFast", about=labels, tool="ledger_echo", version="1.0.0")
    there.watch.cleared("ToolSlow", tool="ledger_echo")
    there.watch.cleared("SloBurnFast", **labels)
    there.watch.fired("SloBurnSlow", **labels)
    replace(there.watch, patience_s=600).cleared("SloBurnSlow", **labels)


def slow(there: Watched) -> Any:
    return there.drill({"tool": "ledger_echo", "delay_ms": 1800})


def test_a_tool_that_breaks_and_an_objective_that_is_missed(there: Watched) -> None:
    labels = {"slo": "availability", **LEDGER}
    there.watch.quiet("SloBurnFast", **labels)
    there.watch.quiet("SloBurnSlow", **labels)
    with (
        there.watch.fires("ToolErrors", tool="ledger_echo", **LEDGER),
        there.drill({"tool": "ledger_echo", "break_schema": True}),
    ):
        there.watch.leads_to("ToolErrors", about=LEDGER, tool="ledger_echo", outcome="schema", version="1.0.0")
        there.watch.leads_to("SloBurnFast", about=labels, tool="ledger_echo", outcome="schema", version="1.0.0")
    there.watch.cleared("ToolErrors", tool="ledger_echo")
    there.watch.cleared("SloBurnFast", **labels)
    there.watch.leads_to("SloBurnSlow", about=labels, tool="ledger_echo", outcome="schema", version="1.0.0")
    replace(there.watch, patience_s=600).cleared("SloBurnSlow", **labels)


def test_a_version_that_answers_with_5xx(there: Watched) -> None:
    with there.watch.fires("GateErrors", target="ledger_1-0-0", **LEDGER), there.drill({"tool": "*", "status": 503}):
        there.watch.leads_to("GateErrors", about={"target": "ledger_1-0-0"}, status="503", version="1.0.0")
    there.watch.cleared("GateErrors", target="ledger_1-0-0")


def test_answers_that_come_late_though_no_tool_is_slow(there: Watched) -> None:
    (instance,) = (one for one in there.stage.instances if one.alive)
    with there.watch.fires("GateSlow", **LEDGER):
        for _ in range(40):
            if there.watch.told("GateSlow", **LEDGER):
                break
            freeze(there, instance, 1.5)
            until_later(0.4)
    there.watch.cleared("GateSlow", **LEDGER)


def freeze(there: Watched, instance: Process, for_s: float) -> None:
    """An instance stands still while a dozen callers wait for it."""
    with ThreadPoolExecutor(12) as callers:
        instance.send(signal.SIGSTOP)
        for _ in range(12):
            callers.submit(there.call, "ledger_list")
        until_later(for_s)
        instance.send(signal.SIGCONT)


def until_later(for_s: float) -> None:
    """The fault is a matter of time."""
    threading.Event().wait(for_s)


def test_a_version_whose_only_instance_hangs(there: Watched) -> None:
    """Gates take it out of the lanes at once: that it is to get half of all calls, only the control plane knows."""
    with another(there, "1.9.0") as instance:
        shift(there, {"1.0.0": 50, "1.9.0": 50})
        there.prometheus.until('tekup_lane_instances{target="ledger_1-9-0"} == 1', "its share and who lives", 60)
        with there.watch.fires("GateOnFallback", target="ledger_1-9-0", **LEDGER):
            instance.send(signal.SIGSTOP)
            there.watch.leads_to("GateOnFallback", least=True, about=LEDGER, target="ledger_1-9-0")
        instance.send(signal.SIGCONT)
        there.watch.cleared("GateOnFallback", target="ledger_1-9-0")
        shift(there, {"1.0.0": 100})


def test_a_version_that_lives_and_that_gates_take_for_broken(there: Watched) -> None:
    labels = {"target": "ledger_1-9-0", **LEDGER}
    with another(there, "1.9.0"):
        shift(there, {"1.0.0": 50, "1.9.0": 50})
        there.prometheus.until('tekup_lane_instances{target="ledger_1-9-0"} == 1', "its share and who lives", 60)
        there.watch.quiet("GateOnFallback", **labels)
        with there.drill({"tool": "*", "status": 503}, version="1.9.0"):
            told = there.watch.fired("GateOnFallback", **labels)
            assert "% of the calls meant for" in told.annotations["description"]
            assert there.prometheus.values('tekup_lane_instances{target="ledger_1-9-0"} == 1')
        there.watch.cleared("GateOnFallback", **labels)
        shift(there, {"1.0.0": 100})


def test_probes_that_fail(there: Watched) -> None:
    with (
        there.watch.fires("ProbeFailing", severity="critical", **LEDGER),
        there.drill({"tool": "ledger_list", "error": "drill"}),
    ):
        # Of one instance of an earlier test the last word may be that it fails: held back since, its end was not told.
        about = {"severity": "critical", **LEDGER}
        there.watch.leads_to("ProbeFailing", about=about, service="ledger", version="1.0.0")
    there.watch.cleared("ProbeFailing", severity="critical", **LEDGER)


def test_probes_of_one_instance_that_fail_while_its_version_works(there: Watched, tmp_path: Path) -> None:
    drills = tmp_path / "drill.json"
    drills.write_text(json.dumps([{"tool": "ledger_list", "error": "drill"}]))
    with another(there):
        sound_ones = instance_ids(there)
        there.watch.quiet("ProbeFailing", **LEDGER)
        with another(there, MCP_DRILL_FILE=str(drills)):
            (failing,) = instance_ids(there) - sound_ones
            about = {"exported_instance": failing, "severity": "warning", **LEDGER}
            there.watch.fired("ProbeFailing", **about)
            drills.write_text("[]")
            there.watch.cleared("ProbeFailing", **about)


def instance_ids(there: Watched) -> set[str]:
    """Of the ledger's instances in the catalog."""
    url = f"{there.stage.consul.url}/v1/health/service/mcp-ledger?passing"
    found = httpx.get(url, trust_env=False, timeout=10).json()
    return {one["Service"]["Meta"]["instance"] for one in found}


# -- gates


def test_a_gate_whose_agent_stands_still(there: Watched) -> None:
    """It goes by an old policy, lags behind a change, and a table that is spoilt meanwhile is nobody's to mend."""
    agent = there.stage.agents[1]
    for name in ("GatePolicyStale", "GateLagging", "GateTableProblems"):
        there.watch.quiet(name)
    agent.send(signal.SIGSTOP)
    there.write(1, "tables/services.json", lambda table: table["services"]["ledger"].update(split="nonsense"))  # type: ignore[index]
    there.watch.fired("GateTableProblems", instance="gate-2", table="services")
    there.stage.answer("POST", "/v1/clients", {"id": f"client-{secrets.token_hex(3)}", "reason": "test"})
    there.watch.fired("GateLagging")
    there.watch.leads_to("GatePolicyStale", about={"instance": "gate-2"}, instance="gate-2")
    # As a gate is that starts again from its files, after hours away and without an agent.
    confirmed, hour_ago = there.stage.gates[1].folder / "tables" / "confirmed", time.time() - 3600
    os.utime(confirmed, (hour_ago, hour_ago))
    there.watch.fired("GatePolicyStale", instance="gate-2", severity="critical")
    agent.send(signal.SIGCONT)
    there.watch.cleared("GatePolicyStale", instance="gate-2", severity="critical")
    wait_until(lambda: not there.prometheus.firing("GatePolicyStale"), "nothing of it to fire", 60)
    there.watch.cleared("GateTableProblems", instance="gate-2")
    wait_until(lambda: not there.prometheus.firing("GateLagging"), "the gate to catch up", 60)


@pytest.mark.parametrize(
    ("severity", "life"), [("warning", timedelta(hours=1)), ("critical", timedelta(minutes=3))], ids=str
)
def test_a_certificate_that_ends_soon(there: Watched, severity: str, life: timedelta) -> None:
    """A scaled warning is for less than 101 minutes, a scaled page for less than three and a half."""
    gate, name = there.stage.gates[0], f"{severity}.example"
    with there.watch.fires("CertificateExpiring", certificate="edge", sans=name, severity=severity):
        show(gate.folder, name, life)
        there.watch.fired("CertificateExpiring", certificate="edge", sans=name, severity=severity)
    show(gate.folder, name, timedelta(days=90))
    there.watch.cleared("CertificateExpiring", certificate="edge", sans=name, severity=severity)


def test_an_instance_s_certificate_that_ends_soon(tmp_path: Path) -> None:
    """Somebody has Consul give certificates of an hour, where the scaled rule wants 72 minutes at least."""

    def short(folder: Path) -> ConsulProcess:
        return ConsulProcess(folder, connect={**CONNECT, "ca_config": {"leaf_cert_ttl": "1h"}})

    with watched(tmp_path, gates=1, replicas=1, factor=0.2, registry=short, traffic=False, mtls=True) as there:
        about = {"certificate": "instance", **LEDGER}
        there.watch.leads_to("CertificateExpiring", least=True, about=about, service="ledger")
        change_ca(there.stage.consul)
        there.watch.cleared("CertificateExpiring", **about)


def show(gate: Path, name: str, life: timedelta) -> None:
    """Give a gate a certificate for a name that lives so long."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + life)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # Files of the same name that differ in content alone are not read again: what does not change is not taken up.
    file = gate / f"{name}-{life.total_seconds():.0f}"
    file.with_suffix(".pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    file.with_suffix(".key").write_bytes(private)
    spare = gate / "dynamic" / ".tls.yml.tmp"
    pair = {"certFile": f"{file.with_suffix('.pem')}", "keyFile": f"{file.with_suffix('.key')}"}
    spare.write_text(json.dumps({"tls": {"certificates": [pair]}}))
    spare.rename(gate / "dynamic" / "tls.yml")


# -- rollouts


def test_a_canary_that_fails(there: Watched) -> None:
    steps = [{"weight_pct": 50, "bake_s": 5, "margin": 0.1, "verdict_s": 120}]
    with another(there, "1.9.1"), there.watch.fires("CanaryFailing", **LEDGER):
        there.stage.begin("1.9.1", steps=steps)
        there.stage.reached("baking", within_s=120)
        with there.drill({"tool": "ledger_note", "break_schema": True}, version="1.9.1"):
            there.watch.leads_to("CanaryFailing", about=LEDGER, version="1.9.1", tool="ledger_note", outcome="schema")
            ended = there.stage.reached("rolled_back", "succeeded", "failed", within_s=180)
        assert ended["phase"] == "rolled_back", ended["said"]
    there.watch.cleared("CanaryFailing", **LEDGER)


def test_a_rollout_that_is_left_paused(there: Watched) -> None:
    with another(there, "1.9.2"):
        with there.watch.fires("RolloutStuck", **LEDGER):
            there.stage.begin("1.9.2", steps=[{"weight_pct": 5, "bake_s": 600}])
            there.stage.reached("baking", within_s=120)
            there.stage.verb("pause")
        there.stage.verb("abort")
        there.stage.reached("rolled_back")
        there.watch.cleared("RolloutStuck", **LEDGER)


# -- platform


def test_somebody_registers_in_a_service_s_name(there: Watched) -> None:
    rogue = {
        "Name": "mcp-ledger",
        "ID": "mcp-ledger-rogue",
        "Address": "127.0.0.1",
        "Port": 9,
        "Tags": ["traefik.enable=true"],
    }
    url = there.stage.consul.url
    with there.watch.fires("RegistrationRefused", **LEDGER):
        httpx.put(f"{url}/v1/agent/service/register", json=rogue, trust_env=False).raise_for_status()
        there.watch.leads_to("RegistrationRefused", about=LEDGER, service="ledger")
    httpx.put(f"{url}/v1/agent/service/deregister/mcp-ledger-rogue", trust_env=False).raise_for_status()
    there.watch.cleared("RegistrationRefused", **LEDGER)


def test_nobody_leads(there: Watched) -> None:
    with there.watch.fires("NoLeader"):
        for replica in there.stage.replicas.values():
            replica.send(signal.SIGSTOP)
        there.watch.fired("NoLeader")
        for replica in there.stage.replicas.values():
            replica.send(signal.SIGCONT)
    there.watch.cleared("NoLeader")


def test_consul_stands_still_and_nothing_that_follows_is_told(there: Watched) -> None:
    told = len(there.watch.receiver.told)
    with there.watch.fires("ConsulNoQuorum"):
        there.stage.consul.freeze()
        consul = there.stage.consul.url.removeprefix("http://")
        there.watch.leads_to("ConsulNoQuorum", about={}, least=True, instance=consul)
        there.prometheus.until('ALERTS{alertname="NoLeader", alertstate="firing"}', "what follows", 60)
        there.stage.consul.thaw()
    there.watch.cleared("ConsulNoQuorum")
    after = [one.labels for one in there.watch.receiver.told[told:]]
    assert [one for one in after if one["alertname"] in ("GatePolicyStale", "GateLagging")] == []


def test_an_authorization_server_that_is_away(there: Watched, tmp_path: Path) -> None:
    server = AuthorizationServer(tmp_path, ["mcp:ledger"])
    (port,) = free_ports(1)
    issuers = tmp_path / "issuers.json"
    issuers.write_text(json.dumps([{"issuer": server.issuer}]))
    env = {
        "PATH": os.environ["PATH"],
        "MCP_PORT": str(port),
        "MCP_GATE_DIR": str(there.stage.gates[0].folder),
        "MCP_PUBLIC_URL": "http://127.0.0.1:1",
        "MCP_OAUTH_ISSUERS_FILE": str(issuers),
        "MCP_OAUTH_KEYS_REFRESH_S": "1",
        "MCP_OAUTH_KEYS_AGAIN_S": "1",
    }
    app = Process("oauth", [sys.executable, "-m", "control_plane.oauth"], env, tmp_path / "oauth.log")
    with server:
        app.start()
        try:
            there.prometheus.scrape("oauth", f"http://127.0.0.1:{port}")
            there.prometheus.until("tekup_oauth_keys_age_seconds < 4", "the issuer's keys", 60)
            with there.watch.fires("AuthorizationServerUnreachable", issuer=server.issuer):
                server.kill()
                about = {"issuer": server.issuer}
                there.watch.leads_to("AuthorizationServerUnreachable", about=about, issuer=server.issuer)
                there.watch.fired("AuthorizationServerUnreachable", severity="critical", **about)
            server.start()
            there.watch.cleared("AuthorizationServerUnreachable", issuer=server.issuer)
        finally:
            there.prometheus.scrape("oauth")
            app.end()


# -- what watches


def test_an_instance_that_says_nothing_of_itself(there: Watched) -> None:
    with another(there, "1.9.0") as instance:
        there.prometheus.until('up{job="instances", version="1.9.0"} == 1', "the instance seen")
        with there.watch.fires("ScrapeMissing", version="1.9.0", job="instances"):
            instance.send(signal.SIGSTOP)
            there.watch.leads_to("ScrapeMissing", about={"version": "1.9.0"}, version="1.9.0", job="instances")
        instance.send(signal.SIGCONT)
        there.watch.cleared("ScrapeMissing", version="1.9.0", job="instances")


def test_instances_that_are_all_gone_from_the_catalog(there: Watched) -> None:
    """In order, one after another; nobody has lost anything, and nothing is left to watch."""
    about = {"job": "instances", "severity": "critical"}
    with there.watch.fires("ScrapeMissing", **about):
        for instance in there.stage.instances:
            instance.end()
        there.watch.fired("ScrapeMissing", **about)
    there.stage.add_instance("1.0.0")
    there.stage.serving("1.0.0")
    there.watch.cleared("ScrapeMissing", **about)


def test_a_receiver_that_refuses_hears_of_it_once_it_takes_again(there: Watched) -> None:
    with there.watch.fires("NotificationsFailing"):
        there.watch.receiver.refuses = True
        there.prometheus.until(
            'ALERTS{alertname="NotificationsFailing", alertstate="firing"}', "failed notifications", 120
        )
        there.watch.receiver.refuses = False
    there.watch.cleared("NotificationsFailing")


def test_the_deadman_s_switch_is_told_again_and_again_and_nowhere_else(there: Watched) -> None:
    def beats() -> int:
        return sum(one.path == "/watchdog" for one in there.watch.receiver.told)

    before = beats()
    wait_until(lambda: beats() > before + 2, "three more beats", 60)
    assert {one.labels["alertname"] for one in there.watch.receiver.told if one.path == "/watchdog"} == {"Watchdog"}
    assert not [
        one for one in there.watch.receiver.told if one.path == "/alerts" and one.labels["alertname"] == "Watchdog"
    ]
