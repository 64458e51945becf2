"""What an instance uses of its machine, and what it may."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.cgroup import Cgroup
from services.common.usage import Usage

MIB = 1 << 20
HOLD = "import sys; held = b'x' * (64 << 20); print('held', flush=True); sys.stdin.read()"


def values(usage: Usage) -> dict[tuple[str, str], float]:
    """What is shown, by name and place."""
    samples = (sample for family in usage.collect() for sample in family.samples)
    return {(sample.name, sample.labels.get("place", "")): sample.value for sample in samples}


@pytest.fixture
def child() -> Iterator[None]:
    """A child of the child of this process that holds 64 MiB."""
    shell = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}])"]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield
        process.stdin.close()


async def test_what_the_processes_that_it_started_use_is_counted(child: None) -> None:
    usage = Usage()
    await usage.refresh()
    shown = values(usage)
    assert shown["tekup_tree_memory_bytes", ""] > 64 * MIB
    assert shown["tekup_tree_processes", ""] >= 3
    assert shown["tekup_tree_open_files", ""] >= 3
    assert shown["tekup_tree_cpu_seconds_total", ""] > 0
    assert 0 < shown["tekup_disk_free_bytes", "work"] <= shown["tekup_disk_size_bytes", "work"]


async def test_nothing_is_looked_at_twice_within_a_second(tmp_path: Path) -> None:
    usage = Usage()
    await usage.refresh()
    usage.watch_disk("roots", [tmp_path, tmp_path / "gone"])
    await usage.refresh()
    assert ("tekup_disk_free_bytes", "roots") not in values(usage)


async def test_of_several_roots_the_fullest_is_shown(tmp_path: Path) -> None:
    usage = Usage()
    usage.watch_disk("roots", [tmp_path, Path("/proc")])  # a file system without blocks is as full as can be
    await usage.refresh()
    assert values(usage)["tekup_disk_size_bytes", "roots"] == 0


def group_of_version_2(folder: Path, **files: str) -> Cgroup:
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return Cgroup(dict.fromkeys(("memory", "cpu", "pids"), folder), 2)


async def test_a_control_group_of_its_own_tells_use_and_limits(tmp_path: Path) -> None:
    group = group_of_version_2(
        tmp_path,
        memory_current=f"{300 * MIB}\n",
        memory_max=f"{512 * MIB}\n",
        memory_stat=f"anon 1\ninactive_file {100 * MIB}\n",
        cpu_max="150000 100000\n",
        cpu_stat="usage_usec 2500000\nuser_usec 1\n",
        pids_current="17\n",
        pids_max="64\n",
    )
    usage = Usage(group)
    await usage.refresh()
    shown = values(usage)
    assert shown["tekup_tree_memory_bytes", ""] == 200 * MIB
    assert shown["tekup_limit_memory_bytes", ""] == 512 * MIB
    assert shown["tekup_limit_cpus", ""] == 1.5
    assert shown["tekup_tree_cpu_seconds_total", ""] == 2.5
    assert (shown["tekup_tree_processes", ""], shown["tekup_limit_processes", ""]) == (17, 64)


def test_time_that_processes_took_with_them_does_not_turn_the_counter_back(tmp_path: Path) -> None:
    usage = Usage(group_of_version_2(tmp_path))
    shown = []
    for spent_us in (2_500_000, 500_000, 1_500_000):
        (tmp_path / "cpu.stat").write_text(f"usage_usec {spent_us}\n")
        usage._seen = usage._look()
        shown.append(values(usage)["tekup_tree_cpu_seconds_total", ""])
    assert shown == [2.5, 2.5, 3.5]


async def test_limits_that_are_not_there_are_not_shown(tmp_path: Path) -> None:
    group = group_of_version_2(tmp_path, memory_max="max\n", cpu_max="max 100000\n", pids_max="max\n")
    assert (group.memory_limit_bytes(), group.cpus_limit(), group.tasks_limit()) == (None, None, None)
    usage = Usage(group)
    await usage.refresh()
    assert values(usage)["tekup_tree_memory_bytes", ""] > 0, "counted by process where the group does not tell"
    assert ("tekup_limit_memory_bytes", "") not in values(usage)


def test_the_first_version_of_control_groups_is_known_too(tmp_path: Path) -> None:
    files = {
        "memory.usage_in_bytes": f"{300 * MIB}",
        "memory.stat": f"total_inactive_file {100 * MIB}",
        "memory.limit_in_bytes": f"{512 * MIB}",
        "cpu.cfs_quota_us": "50000",
        "cpu.cfs_period_us": "100000",
        "cpuacct.usage": "2500000000",
        "pids.current": "17",
        "pids.max": "max",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = Cgroup(dict.fromkeys(("memory", "cpu", "cpuacct", "pids"), tmp_path), 1)
    assert (group.memory_bytes(), group.memory_limit_bytes()) == (200 * MIB, 512 * MIB)
    assert (group.cpus_limit(), group.cpu_seconds()) == (0.5, 2.5)
    assert (group.tasks(), group.tasks_limit()) == (17, None)
    (tmp_path / "memory.limit_in_bytes").write_text("9223372036854771712")
    (tmp_path / "cpu.cfs_quota_us").write_text("-1")
    assert (group.memory_limit_bytes(), group.cpus_limit()) == (None, None)
