"""Each limit of a container is hit on purpose, from inside; it holds, and the service serves on or is back soon."""

from __future__ import annotations

import json
import statistics
import textwrap
import threading
from typing import Any

import pytest

from tests.support.container_environment import ContainerEnvironment
from tests.support.sdk import sdk_client
from tests.support.wait import eventually

pytestmark = [pytest.mark.docker, pytest.mark.feature("E4", "A14")]

SERVICE = "mcp-filesystem"
BACK_S = 120.0
PROCESSES = 128
OPEN_FILES = 4096
TMP_BYTES = 64 << 20
CPUS = 0.5
SLACK = 1.3
"""Of processor time: the kernel accounts by periods of 100 ms."""

FORK_BOMB = """
import json, os, signal
children = []
try:
    while len(children) < 10_000:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
    said = "never refused"
except BlockingIOError as error:
    said = error.strerror
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(json.dumps({"said": said, "children": len(children)}))
"""
FILE_LEAK = """
import json
files = []
try:
    while len(files) < 1_000_000:
        files.append(open("/dev/null"))
    said = "never refused"
except OSError as error:
    said = error.strerror
print(json.dumps({"said": said, "files": len(files)}))
"""
DISK_FILLER = """
import json, os
written = 0
try:
    with open("/tmp/filler", "wb", buffering=0) as file:
        while written < 1 << 30:
            written += file.write(bytes(1 << 20))
    said = "never refused"
except OSError as error:
    said = error.strerror
os.unlink("/tmp/filler")
print(json.dumps({"said": said, "bytes": written}))
"""
MEMORY_HOG = """
held = []
while len(held) < 4096:
    held.append(bytearray(b"x") * (1 << 20))
print("never refused")
"""
CPU_BURNER = """
import json, os, time
children, began = [], time.monotonic()
for _ in range(4):
    child = os.fork()
    if child == 0:
        while time.monotonic() < began + 4:
            pass
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
took_s = time.monotonic() - began
used = os.times()
print(json.dumps({"processors": (used.children_user + used.children_system) / took_s}))
"""


def inside(environment: ContainerEnvironment, script: str) -> dict[str, Any]:
    """What a Python script prints inside the container."""
    done = environment.compose("exec", "-T", SERVICE, "python", "-c", script)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout} {done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def serves(environment: ContainerEnvironment) -> bool:
    """Whether a call of the service through the gate is answered well."""
    try:
        async with sdk_client(f"{environment.gateway_url}/filesystem/mcp", environment.key, "2026-07-28") as client:
            return not (await client.call_tool("filesystem_list_roots", {})).is_error
    except Exception:  # whatever it is, it is not served yet
        return False


async def is_well(environment: ContainerEnvironment) -> None:
    """The service answers, at the latest soon."""

    async def well() -> bool:
        return await serves(environment)

    await eventually(well, f"{SERVICE} to serve", BACK_S)


async def test_a_fork_bomb_is_refused_its_processes(dev: ContainerEnvironment) -> None:
    found = inside(dev, FORK_BOMB)
    assert found["said"] == "Resource temporarily unavailable"
    assert 10 < found["children"] < PROCESSES
    await is_well(dev)


async def test_a_leak_of_open_files_is_refused_more(dev: ContainerEnvironment) -> None:
    found = inside(dev, FILE_LEAK)
    assert found["said"] == "Too many open files"
    assert OPEN_FILES - 100 < found["files"] < OPEN_FILES
    await is_well(dev)


async def test_what_fills_the_disk_finds_it_full_at_its_size(dev: ContainerEnvironment) -> None:
    found = inside(dev, DISK_FILLER)
    assert found["said"] == "No space left on device"
    assert TMP_BYTES / 2 < found["bytes"] <= TMP_BYTES
    await is_well(dev)


async def test_who_burns_processors_gets_no_more_than_its_share(dev: ContainerEnvironment) -> None:
    found = inside(dev, CPU_BURNER)
    assert CPUS / 4 < found["processors"] < CPUS * SLACK
    await is_well(dev)


async def test_who_takes_more_memory_than_there_is_is_killed_and_the_service_is_there_again(
    dev: ContainerEnvironment,
) -> None:
    done = dev.compose("exec", "-T", SERVICE, "python", "-c", MEMORY_HOG)
    assert done.returncode == 137, f"{done.returncode}: {done.stdout} {done.stderr}"
    assert "never refused" not in done.stdout
    await is_well(dev)
    async with sdk_client(f"{dev.gateway_url}/search/mcp", dev.key, "2026-07-28") as neighbour:
        assert not (await neighbour.call_tool("search_status", {})).is_error


OFFENDERS = {"forks": FORK_BOMB, "files": FILE_LEAK, "disk": DISK_FILLER, "processors": CPU_BURNER}
NEIGHBOUR = "mcp-search"
WORK = """
import json, os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
end, done = time.monotonic() + 3, 0
while time.monotonic() < end:
    sum(range(2000))
    done += 1
print(json.dumps({"done": done}))
"""
KEPT = 0.8
"""Of its throughput, whoever is beside it and on the other core."""


def work(environment: ContainerEnvironment) -> int:
    """How much the neighbour gets done in three seconds on core 1, within its own limit."""
    done = environment.compose("exec", "-T", NEIGHBOUR, "python", "-c", WORK, "1")
    return int(json.loads(done.stdout)["done"])


@pytest.mark.long
@pytest.mark.parametrize("offender", sorted(OFFENDERS))
def test_a_neighbour_on_the_other_core_keeps_its_throughput(dev: ContainerEnvironment, offender: str) -> None:
    pinned = "import os; os.sched_setaffinity(0, {0})\nwhile True:\n" + textwrap.indent(OFFENDERS[offender], "    ")
    ratios = []
    for _ in range(3):
        alone = work(dev)
        beside = threading.Thread(
            target=dev.compose, args=("exec", "-T", SERVICE, "timeout", "9", "python", "-c", pinned)
        )
        beside.start()
        threading.Event().wait(2)  # until it is at it
        ratios.append(work(dev) / alone)
        beside.join()
    assert statistics.median(ratios) >= KEPT, ratios
