"""What an instance uses of its machine, with all processes it started, and what it may use at most.

Looked up when somebody asks for the metrics, at most once a second, in a thread: a browser's dozen processes take some
milliseconds, and a dead network drive takes for ever. Whoever asks meanwhile is shown what was last known.
"""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.cgroup import Cgroup, own_cgroup

__all__ = ["Usage"]

AT_MOST_EVERY_S: Final = 1.0
WAIT_S: Final = 1.0

_GAUGES: Final = {
    "tekup_tree_memory_bytes": "Bytes of memory of the instance and all processes it started, shared pages once",
    "tekup_tree_processes": "Processes of the instance, and their threads, as a limit of processes counts them",
    "tekup_tree_open_files": "Open files of that process of the instance which has most; the limit is each process's",
    "tekup_limit_memory_bytes": "Memory in bytes that the instance may use; absent without a limit",
    "tekup_limit_cpus": "Processors that the instance may keep busy; absent without a limit",
    "tekup_limit_processes": "Processes and threads that the instance may have; absent without a limit",
    "tekup_limit_open_files": "Files that each process of the instance may have open; absent without a limit",
}
_CPU: Final = "tekup_tree_cpu_seconds"
_DISKS: Final = {
    "tekup_disk_free_bytes": "Free bytes where the instance writes: temporary files (work), the fullest root (roots)",
    "tekup_disk_size_bytes": "Size in bytes of the file system that tekup_disk_free_bytes speaks of",
}


@dataclass(frozen=True)
class _Seen:
    gauges: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    cpu_raw_seconds: float = 0.0
    disks: dict[str, os.statvfs_result] = field(default_factory=dict)


class Usage(Collector):
    """Use and limits of this process and those it started.

    Args:
        cgroup: The control group of its own that this process is in, None for none.
    """

    def __init__(self, cgroup: Cgroup | None = None) -> None:
        self._process = psutil.Process()
        self._cgroup = cgroup or own_cgroup()
        self._places: dict[str, tuple[Path, ...]] = {"work": (Path(tempfile.gettempdir()),)}
        self._seen = _Seen()
        self._at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    def watch_disk(self, place: str, paths: Iterable[Path]) -> None:
        """Show how full the disk beneath some paths is, the fullest of several.

        Args:
            place: What they are to the instance: `roots`.
            paths: Files or folders that exist.
        """
        self._places[place] = tuple(paths)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the instance and all processes it started, in seconds, as it was last seen."""
        return self._seen.cpu_seconds

    async def refresh(self) -> None:
        """Look again, unless that was done a moment ago or is still being done; waits a second for it at most."""
        if self._looking is None and time.monotonic() - self._at >= AT_MOST_EVERY_S:
            self._looking = asyncio.create_task(self._look_aside())
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=WAIT_S)

    def collect(self) -> Iterator[Metric]:
        """What was last seen."""
        seen = self._seen
        for name, text in _GAUGES.items():
            family = GaugeMetricFamily(name, text, labels=[])
            if name in seen.gauges:
                family.add_metric([], seen.gauges[name])
            yield family
        text = "Processor time in seconds of the instance and all processes it started"
        yield CounterMetricFamily(_CPU, text, value=seen.cpu_seconds)
        free, size = (GaugeMetricFamily(name, text, labels=["place"]) for name, text in _DISKS.items())
        for place, disk in seen.disks.items():
            free.add_metric([place], disk.f_bavail * disk.f_frsize)
            size.add_metric([place], disk.f_blocks * disk.f_frsize)
        yield from (free, size)

    async def _look_aside(self) -> None:
        try:
            self._seen = await asyncio.to_thread(self._look)
        finally:
            self._at = time.monotonic()
            self._looking = None

    def _look(self) -> _Seen:
        tree = _Tree.of(self._process)
        group = self._cgroup
        gauges = {
            "tekup_tree_memory_bytes": group.memory_bytes() if group else None,
            "tekup_tree_processes": group.tasks() if group else None,
            "tekup_tree_open_files": tree.open_files,
            "tekup_limit_memory_bytes": group.memory_limit_bytes() if group else None,
            "tekup_limit_cpus": _least(group.cpus_limit() if group else None, _bound_to_cpus()),
            "tekup_limit_processes": _least(group.tasks_limit() if group else None, _tasks_of_user()),
            "tekup_limit_open_files": _soft(resource.RLIMIT_NOFILE),
        }
        if gauges["tekup_tree_memory_bytes"] is None:
            gauges["tekup_tree_memory_bytes"] = tree.memory_bytes()
        if gauges["tekup_tree_processes"] is None:
            gauges["tekup_tree_processes"] = tree.tasks
        spent = group.cpu_seconds() if group else None
        raw_seconds = tree.cpu_seconds if spent is None else spent
        # A process whose parent did not wait for it takes its time with it; a counter must not go back.
        cpu_seconds = self._seen.cpu_seconds + max(raw_seconds - self._seen.cpu_raw_seconds, 0)
        known = {name: value for name, value in gauges.items() if value is not None}
        disks = {place: disk for place, paths in self._places.items() if (disk := _fullest(paths)) is not None}
        return _Seen(known, cpu_seconds, raw_seconds, disks)


@dataclass(frozen=True)
class _Tree:
    """What a process and its descendants use; those that end meanwhile are left out."""

    members: tuple[psutil.Process, ...]
    cpu_seconds: float
    tasks: int
    open_files: int

    @classmethod
    def of(cls, top: psutil.Process) -> _Tree:
        members = (top, *_descendants(top))
        cpu_seconds, tasks, open_files = 0.0, 0, 0
        for member in members:
            with suppress(psutil.Error), member.oneshot():
                spent = member.cpu_times()
                cpu_seconds += spent.user + spent.system + spent.children_user + spent.children_system
                tasks += member.num_threads()
            with suppress(psutil.Error):  # another user's files are not ours to count
                open_files = max(open_files, member.num_fds())
        return cls(members, cpu_seconds, tasks, open_files)

    def memory_bytes(self) -> float:
        return sum(map(_memory_bytes, self.members))


def _descendants(top: psutil.Process) -> list[psutil.Process]:
    """All processes it started, and theirs; by the kernel's own lists, which cost 0.1 ms where a look at all processes
    of a machine with 240 of them costs 6."""
    try:
        listed = [
            pid for each in Path(f"/proc/{top.pid}/task").iterdir() for pid in (each / "children").read_text().split()
        ]
    except ProcessLookupError:
        return []
    except OSError:  # a kernel without these lists
        return top.children(recursive=True)
    found: list[psutil.Process] = []
    for pid in listed:
        with suppress(psutil.Error):
            child = psutil.Process(int(pid))
            found += [child, *_descendants(child)]
    return found


def _memory_bytes(process: psutil.Process) -> float:
    """Its pages, those it shares with others by their part; all of them where that is not shown to us."""
    try:
        return float(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        with suppress(psutil.Error):
            return float(process.memory_info().rss)
    return 0.0


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _bound_to_cpus() -> float | None:
    bound = len(os.sched_getaffinity(0))
    return float(bound) if bound < (os.cpu_count() or bound) else None


def _tasks_of_user() -> float | None:
    """What the user of this process may have; root has no bound."""
    return _soft(resource.RLIMIT_NPROC) if os.geteuid() != 0 else None


def _soft(what: int) -> float | None:
    limit, _ = resource.getrlimit(what)
    return None if limit == resource.RLIM_INFINITY else float(limit)


def _fullest(paths: Iterable[Path]) -> os.statvfs_result | None:
    found = []
    for path in paths:
        with suppress(OSError):
            found.append(os.statvfs(path))
    return min(found, key=lambda disk: disk.f_bavail / max(disk.f_blocks, 1), default=None)
