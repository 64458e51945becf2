"""The control group of this process, if it has one of its own: what it used, and what it may use.

In a container, or as a unit of systemd, a process has one; beside others of the same supervisor it has none, and what
the group counts is not its own. Knows both versions of the kernel's interface. Files that are not there are limits that
are not there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Cgroup", "own_cgroup"]

# Version 1 writes a number near 2^63 where there is no limit.
_NO_LIMIT: Final = 1 << 60
_US: Final = 1e-6
_NS: Final = 1e-9


@dataclass(frozen=True)
class Cgroup:
    """A control group.

    Attributes:
        folders: Where each controller's files lie: `memory`, `cpu`, `cpuacct`, `pids`.
        version: 1 or 2.
    """

    folders: Mapping[str, Path]
    version: int

    def memory_bytes(self) -> float | None:
        """What is used and cannot simply be dropped: without files that were only read once."""
        used = self._number("memory", "memory.current" if self.version == 2 else "memory.usage_in_bytes")
        key = "inactive_file" if self.version == 2 else "total_inactive_file"
        idle = self._fields("memory", "memory.stat").get(key, 0)
        return None if used is None else max(used - idle, 0)

    def memory_limit_bytes(self) -> float | None:
        """The most it may use."""
        return self._limit("memory", "memory.max" if self.version == 2 else "memory.limit_in_bytes")

    def cpu_seconds(self) -> float | None:
        """Processor time, in seconds since the group was made."""
        if self.version == 2:
            used = self._fields("cpu", "cpu.stat").get("usage_usec")
            return None if used is None else used * _US
        spent = self._number("cpuacct", "cpuacct.usage")
        return None if spent is None else spent * _NS

    def cpus_limit(self) -> float | None:
        """How many processors' time it may use."""
        if self.version == 2:
            quota, _, period = self._text("cpu", "cpu.max").partition(" ")
        else:
            quota, period = self._text("cpu", "cpu.cfs_quota_us"), self._text("cpu", "cpu.cfs_period_us")
        if not quota.isdigit() or not period.isdigit() or int(period) == 0:
            return None
        return int(quota) / int(period)

    def tasks(self) -> float | None:
        """Processes and their threads."""
        return self._number("pids", "pids.current")

    def tasks_limit(self) -> float | None:
        """The most of them there may be."""
        return self._limit("pids", "pids.max")

    def _limit(self, controller: str, name: str) -> float | None:
        found = self._number(controller, name)
        return found if found is not None and found < _NO_LIMIT else None

    def _number(self, controller: str, name: str) -> float | None:
        text = self._text(controller, name)
        return float(text) if text.isdigit() else None

    def _fields(self, controller: str, name: str) -> dict[str, float]:
        pairs = (line.split() for line in self._text(controller, name).splitlines())
        return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

    def _text(self, controller: str, name: str) -> str:
        folder = self.folders.get(controller)
        try:
            return (folder / name).read_text().strip() if folder else ""
        except OSError:
            return ""


def own_cgroup(proc: Path = Path("/proc"), mounts: Path = Path("/sys/fs/cgroup")) -> Cgroup | None:
    """The control group of this process; None where it shares it with whoever started it.

    Args:
        proc: Where the kernel shows processes.
        mounts: Where the control groups are mounted.
    """
    paths = _paths_of(proc)
    if "" in paths and (mounts / "cgroup.controllers").exists():
        folder = _below(mounts, paths[""])
        group = Cgroup(dict.fromkeys(("memory", "cpu", "pids"), folder), 2)
    else:
        controllers = ("memory", "cpu", "cpuacct", "pids")
        group = Cgroup({name: _below(mounts / name, paths[name]) for name in controllers if name in paths}, 1)
    return group if _is_own(group) else None


def _paths_of(proc: Path) -> dict[str, str]:
    """Controllers and the path of this process's group below the mount; "" stands for version 2."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _below(mount: Path, path: str) -> Path:
    """A container often sees its own group mounted as the top, under whatever path the host knows it by."""
    inner = mount / path.lstrip("/")
    return inner if inner.is_dir() else mount


def _is_own(group: Cgroup) -> bool:
    """Whoever started this process is not in it, or is the container's first process."""
    folder = group.folders.get("memory")
    try:
        members = (folder / "cgroup.procs").read_text().split() if folder else []
    except OSError:
        return False
    parent = os.getppid()
    if str(os.getpid()) not in members:
        return False
    return str(parent) not in members or parent == 1
