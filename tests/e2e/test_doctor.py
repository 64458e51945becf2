"""`tekup doctor` beside a running environment in which one thing after another is really broken, and put right."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from compose.local.consul_acl import MANAGEMENT
from compose.local.doctor import examine
from compose.local.finding import Finding
from compose.local.layout import Layout
from tests.e2e.conftest import Environment, make_environment

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.feature("G3")]
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment with Prometheus, in which the doctor finds nothing."""
    made = make_environment(tmp_path_factory.mktemp("watched"))
    with (made.directory / "tekup.toml").open("a") as file:
        file.write('MCP_PROMETHEUS_PORT = 0\nMCP_WITH = "prometheus"\n')
    try:
        made.start()
        sound(made)
        yield made
    finally:
        made.tekup("down")


def faults(environment: Environment) -> list[Finding]:
    """All that is wrong now; each has a remedy."""
    found = [finding for finding in examine(Layout(environment.directory)) if not finding.ok]
    assert all(finding.remedy for finding in found)
    return found


def sound(environment: Environment) -> None:
    """Wait until nothing is wrong."""
    wait(environment, lambda found: not found)


def named(environment: Environment, what: str, said: str) -> Finding:
    """Wait until a fault is named; the finding."""

    def fits(finding: Finding) -> bool:
        return finding.what.startswith(what) and said in finding.said

    found = wait(environment, lambda found: any(map(fits, found)))
    return next(filter(fits, found))


def wait(environment: Environment, until: Callable[[list[Finding]], bool]) -> list[Finding]:
    deadline = time.monotonic() + WITHIN_S
    while not until(found := faults(environment)):
        assert time.monotonic() < deadline, f"not so within {WITHIN_S:.0f} s: {found}"
        time.sleep(0.2)
    return found


@contextlib.contextmanager
def frozen(environment: Environment, name: str) -> Iterator[None]:
    """A process that is there and does nothing, while the block runs."""
    pid = environment.process(name).pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # what hangs for long is ended, and comes anew
            os.kill(pid, signal.SIGCONT)


def test_an_instance_that_hangs_is_critical_and_cannot_be_scraped(watched: Environment) -> None:
    name = watched.process("search").name
    with frozen(watched, "search"):
        critical = named(watched, "instance mcp-search", "critical")
        assert name in critical.said
        assert f"tekup restart {name}" in critical.remedy
        named(watched, "Prometheus", "cannot scrape instances search")
        done = watched.tekup("doctor")
        assert done.returncode == 1
        assert "instance mcp-search" in done.stdout
        assert [line for line in done.stdout.splitlines() if len(line) > 80 and " " in line.strip()] == []
    sound(watched)


def test_a_gate_whose_agent_does_not_follow_is_on_an_old_policy(watched: Environment) -> None:
    with frozen(watched, "agent"):
        late = watched.tekup("clients", "add", "late", "--allow", "search_*", "--reason", "a drill")
        assert late.returncode == 4, late.stderr
        stale = named(watched, "gate local", "in force, the policy is")
        assert "tekup restart agent" in stale.remedy
    sound(watched)


def test_a_consul_that_does_not_answer_is_named_once(watched: Environment) -> None:
    with frozen(watched, "consul"):
        found = named(watched, "Consul", "does not answer")
        assert "calls go on" in found.remedy
        assert "tekup restart consul" in found.remedy
    sound(watched)


@contextlib.contextmanager
def leaderless(environment: Environment) -> Iterator[None]:
    """The leader's key is held by nobody who could lead, while the block runs."""
    token, key = environment.consul_token(MANAGEMENT), "/v1/kv/tekup/leader"
    with httpx.Client(base_url=environment.consul_url, headers=token, trust_env=False) as consul:
        session = {"Name": "test", "LockDelay": "0s", "Behavior": "delete"}
        ours = consul.put("/v1/session/create", json=session).raise_for_status().json()["ID"]
        try:
            deadline = time.monotonic() + WITHIN_S
            while not consul.put(key, params={"acquire": ours}, content=b"nobody").raise_for_status().json():
                assert time.monotonic() < deadline, "somebody leads on"
                found = consul.get(key)
                if found.is_success and (held := found.json()[0].get("Session")):
                    consul.put(f"/v1/session/destroy/{held}").raise_for_status()
            yield
        finally:
            consul.put(f"/v1/session/destroy/{ours}").raise_for_status()


def test_a_control_plane_without_a_leader_is_named(watched: Environment) -> None:
    with leaderless(watched):
        found = named(watched, "leadership", "no control plane leads")
        assert "tekup logs control-plane" in found.remedy
    sound(watched)
