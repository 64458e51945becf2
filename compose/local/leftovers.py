"""Which processes are ours, and ending them: by pid and start time, by session, by the mark they carry.

Every process of an environment carries `TEKUP_ENVIRONMENT`, a random mark, in its environment variables,
and so does whatever it starts, a browser in a session of its own included. So all can be found again after
the supervisor was killed, and nothing is ever ended by its name.
"""

import json
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from .files import PRIVATE, write_atomically

MARK = "TEKUP_ENVIRONMENT"
SAME_START_S = 2.0
"""Start times are computed from the clock's and the kernel's time; a small step of the clock is forgiven."""


@dataclass(frozen=True)
class Started:
    """A process that was started, so that it cannot be taken for another with the same pid."""

    pid: int
    at: float

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.at) < SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def started(pid: int) -> Started | None:
    """What to remember of a process just started; None if it is gone already."""
    try:
        return Started(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def identity(path: Path) -> str:
    """The environment's random mark; made at first use."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        mark = secrets.token_hex(16)
        write_atomically(path, mark + "\n", PRIVATE)
        return mark


def write_record(path: Path, processes: dict[str, Started]) -> None:
    """Remember what runs."""
    write_atomically(path, json.dumps({name: asdict(item) for name, item in processes.items()}, indent=1) + "\n")


def read_record(path: Path) -> dict[str, Started]:
    """What was remembered; nothing if there is no record or it is damaged."""
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): Started(int(item["pid"]), float(item["at"])) for name, item in items.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def family(roots: Iterable[Started], mark: str, also: str = "") -> list[psutil.Process]:
    """All running processes that belong to some roots.

    Args:
        roots: processes started by a supervisor, running or gone.
        mark: value of `TEKUP_ENVIRONMENT` that makes a process belong; "" for none.
        also: a `NAME=value` its environment must hold besides the mark.

    Returns:
        The roots still running, whatever runs in their sessions, and whatever carries the mark; never this process.
    """
    alive = {root.pid for root in roots if root.process()}
    me = os.getpid()
    return [process for process in psutil.process_iter() if process.pid != me and _belongs(process, alive, mark, also)]


def _belongs(process: psutil.Process, roots: set[int], mark: str, also: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.pid in roots or os.getsid(process.pid) in roots:
            return True
        if not mark:
            return False
        environ = process.environ()
        name, _, value = also.partition("=")
        return environ.get(MARK) == mark and (not also or environ.get(name) == value)
    except (psutil.Error, OSError):
        return False  # gone meanwhile, or somebody else's: then not ours


def end(processes: list[psutil.Process], grace_s: float) -> list[psutil.Process]:
    """End processes: TERM, then KILL for those that stay.

    Args:
        processes: the ones to end.
        grace_s: time between the two; 0 kills at once.

    Returns:
        Those that are still there, which nobody but the kernel can explain.
    """
    if grace_s > 0:
        _signal(processes, kill=False)
        _, processes = psutil.wait_procs(processes, timeout=grace_s)
    _signal(processes, kill=True)
    _, alive = psutil.wait_procs(processes, timeout=5)
    return [process for process in alive if process.is_running()]


def _signal(processes: list[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            process.kill() if kill else process.terminate()
        except psutil.Error:
            continue


def end_leftovers(record: Path, mark: str, grace_s: float) -> list[str]:
    """End what an earlier supervisor left behind.

    Args:
        record: the file it kept.
        mark: the environment's mark.
        grace_s: time to stop by themselves.

    Returns:
        A description of each process ended.
    """
    ended: dict[int, str] = {}
    deadline = time.monotonic() + 30
    # again, because a process may start another between our look and our signal
    while (found := family(read_record(record).values(), mark)) and time.monotonic() < deadline:
        ended |= {process.pid: _name(process) for process in found}
        end(found, grace_s)
    record.unlink(missing_ok=True)
    return [f"{name} (pid {pid})" for pid, name in ended.items()]


def _name(process: psutil.Process) -> str:
    try:
        return process.environ().get("TEKUP_PROCESS") or process.name()
    except psutil.Error:
        return "a process"
