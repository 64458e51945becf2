"""Production on three machines under a constant, counted load: what is lost with one of them, and how long it takes."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from compose.images.table import IMAGES
from compose.images.tested import ids_of
from compose.local.served import WELCOME_FILE, WORD
from tests.support.engine_install import NoEngine
from tests.support.gate import wait_until
from tests.support.images import SECCOMP, our_images
from tests.support.machines import Machine, usual_machines
from tests.support.several import Asked, Several
from tests.support.stand_ins import base_image, stand_in
from tests.support.swarm_environment import SwarmEnvironment, swarm_environment

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.feature("F7"), pytest.mark.timeout(45 * 60)]

COUNT = 3
HARDENED = ("--seccomp-profile", str(SECCOMP / "chromium.json"), "--no-new-privileges")
"""Swarm hands neither on to containers: each machine's engine has it for all (docs/containers.md)."""
FILE = f"/workspace/{WELCOME_FILE}"
CALLS = (
    Asked.tool("filesystem_read_file", path=FILE),
    Asked.tool("search_grep", pattern=WORD, path="/workspace"),
    Asked("hub", "tools/list", {}),
)
PER_SECOND = 6.0
NOTICED_S = 20.0
"""After so long nobody is sent to a machine that fell silent: gossip and the gates' own checks have noticed."""
CHANGED_S = 60.0
"""Two servers of Consul, and then two control planes, have elected another leader."""
BACK_S = 300.0


@pytest.fixture(scope="module")
def environment(run_prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmEnvironment]:
    """Production on three machines, up, every service let in; the images are built on the first."""
    with usual_machines(COUNT, HARDENED) as machines:
        first, *others = machines
        base = base_image(first.engine)
        our_images(first.engine, base)
        names = [*(f"{image.repository}:latest" for image in IMAGES.values()), stand_in(first.engine, base, "consul")]
        for machine in others:
            machine.load(names, first.engine)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in first.engine.env.items():
                patch.setenv(name, value)
            ids = ids_of("latest")
        folder = tmp_path_factory.mktemp("machines")
        with swarm_environment(machines, folder, f"{run_prefix}-swarm", ids) as running:
            yield running


@asynccontextmanager
async def load(environment: SwarmEnvironment) -> AsyncIterator[Several]:
    """The load, through the gates of all machines."""
    urls = [environment.gate(machine).direct_url for machine in environment.machines]
    made = Several(urls, environment.key, environment.trust(), CALLS, PER_SECOND)
    async with made.running():
        await until(lambda: len(made.ended) > 3 * len(CALLS), "the load to begin", 60)
        yield made


async def until(true: Callable[[], object], what: str | Callable[[], str], within_s: float) -> float:
    """Wait for a condition beside the load; how long it took, in seconds."""
    began_s = time.monotonic()
    await asyncio.to_thread(wait_until, true, what, within_s)
    return time.monotonic() - began_s


def spare(environment: SwarmEnvironment, on: Machine) -> int:
    """How many of Consul's servers may be lost now without losing the rest, as one of them thinks; -1 unknown.

    Whether all vote says less: one that lost its disk stands among the voters with the address of before until the
    leader has put it out and let it in again, for ten seconds at least without a vote.
    """
    try:
        holder = next(one for one in environment.machines if one.on and environment.containers(one, "consul-access"))
        token = environment.inside(holder, "consul-access", "cat", "/keep/.tekup/secrets/consul/management.token")
        asked = ["env", f"CONSUL_HTTP_TOKEN={token.strip()}", "CONSUL_HTTP_ADDR=https://localhost:8501"]
        command = [*asked, "CONSUL_CACERT=/run/tekup/consul-ca.pem", "consul", "operator", "autopilot", "state"]
        said = environment.inside(on, "consul-1", *command, "-format=json")
    except (NoEngine, StopIteration):
        return -1
    return int(json.loads(said)["FailureTolerance"])


def test_each_machine_serves_and_holds_its_share(environment: SwarmEnvironment) -> None:
    for number, machine in enumerate(environment.machines, 1):
        said = environment.first_calls(machine)
        assert all(call.ok for call in said), (machine.name, said)
        suffix = "" if number == 1 else f"-{number}"
        for service in (f"mcp-gateway{suffix}", f"control-plane{suffix}", f"consul-{number}", "mcp-hub"):
            assert len(environment.containers(machine, service)) == 1, (machine.name, service)
    first, *others = environment.machines
    assert len(environment.containers(first, "mcp-filesystem")) == len(environment.containers(first, "mcp-search")) == 2
    assert not any(environment.containers(other, "mcp-filesystem") for other in others)


def test_a_container_may_do_no_more_than_on_one_machine(environment: SwarmEnvironment) -> None:
    machine = environment.machines[1]
    status = environment.inside(machine, "mcp-hub", "cat", "/proc/1/status")
    bounds = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert bounds["CapEff"] == "0" * 16
    assert (bounds["NoNewPrivs"], bounds["Seccomp"]) == ("1", "2")
    (made,) = json.loads(machine.engine.docker("inspect", environment.containers(machine, "mcp-hub")[0]))
    limits = made["HostConfig"]
    assert (limits["Memory"], limits["PidsLimit"], limits["ReadonlyRootfs"]) == (512 << 20, 128, True)
    assert made["Config"]["User"] == "10001:10001"


def test_deploying_again_changes_nothing_that_runs(environment: SwarmEnvironment) -> None:
    before = [environment.containers(machine, "mcp-gateway") for machine in environment.machines]
    done = environment.deploy(environment.directory / "tested.json")
    assert done.returncode == 0, done.stderr
    assert "all healthy" in done.stdout
    assert "in the history" in " ".join(done.stdout.split())
    assert [environment.containers(machine, "mcp-gateway") for machine in environment.machines] == before


async def test_a_server_of_consul_that_loses_its_disk_comes_back_and_nobody_notices(
    environment: SwarmEnvironment,
) -> None:
    first, second, _ = environment.machines
    async with load(environment) as calls:
        environment.inside(second, "consul-2", "sh", "-c", "rm -rf /consul/data/*")
        second.engine.docker("kill", environment.containers(second, "consul-2")[0])
        began_s = time.monotonic()
        said = await asyncio.to_thread(environment.tekup, "clients", "add", "meanwhile", "--reason", "a test")
        changed_s = time.monotonic() - began_s
        await until(lambda: environment.containers(second, "consul-2"), "the server to be started again", BACK_S)
        await until(lambda: spare(environment, first) == 0, "its loss to be noticed", BACK_S)
        await until(lambda: spare(environment, first) == 1, "three servers to vote", BACK_S)
        back_s = time.monotonic() - began_s
    print(
        f"Consul's server without its disk: a change took {changed_s:.1f} s, another may be lost after {back_s:.1f} s"
    )
    assert said is not None
    assert not calls.lost, calls.lost[:5]


async def test_a_machine_that_loses_power_takes_only_what_it_was_doing_with_it(environment: SwarmEnvironment) -> None:
    first, second, third = environment.machines
    async with load(environment) as calls:
        third.cut_power()
        cut_s = time.monotonic()
        refused: list[str] = []
        await until(lambda: accepted(environment, second, refused), lambda: f"a change: {refused}", CHANGED_S)
        changed_s = time.monotonic() - cut_s
        await until(lambda: time.monotonic() > cut_s + 2 * NOTICED_S, "the time after the cut to pass", 3 * NOTICED_S)
        again_s = time.monotonic()
        await asyncio.to_thread(third.start)
        await until(lambda: environment.containers(third, "mcp-gateway-3"), "its gate to be started", BACK_S)
        await until(lambda: len(answered_by(calls, 2, again_s)) > 5, "its gate to answer", BACK_S)
        back_s = time.monotonic() - again_s
    lost = calls.lost
    last_s = max((one.began_s - cut_s for one in lost), default=0.0)
    print(
        f"a machine without power: {len(calls.ended)} calls, {len(lost)} lost with it, the last sent {last_s:.1f} s "
        f"after the cut; a change took {changed_s:.1f} s; it serves again {back_s:.1f} s after its power is back"
    )
    print(Counter((one.name, one.endpoint, one.problem[:60]) for one in lost))
    # what runs elsewhere, asked through gates that are elsewhere, is not touched
    assert not [one for one in lost if one.endpoint != 2 and one.name != "hub"]
    assert last_s < NOTICED_S
    assert [call.ok for call in await asyncio.to_thread(environment.first_calls, first)] == [True] * 3


def accepted(environment: SwarmEnvironment, on: Machine, refused: list[str]) -> bool:
    """Whether policy can be changed at a machine's control plane; that the gate without power lags is no refusal.

    Args:
        environment: Whose.
        on: The machine.
        refused: Why not, so far; each time it is another change, since one may be written and not yet be in force.
    """
    try:
        environment.tekup("clients", "add", f"after-the-cut-{len(refused)}", "--reason", "a test", on=on)
    except NoEngine as error:
        refused.append(str(error))
        return "local-3" in str(error)
    return True


def answered_by(calls: Several, endpoint: int, since_s: float) -> list[object]:
    """Calls that an endpoint answered since a time."""
    return [one for one in calls.since(since_s) if one.endpoint == endpoint and not one.problem]
