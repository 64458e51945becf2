"""Runs one command with limits and leaves nothing of it behind: `python -I -S launch.py CONTROL_FD CONFIG_JSON`.

It stands between a bridge and its child, and takes part in none of their talk: both pipes are the child's own. It
adopts whatever the child leaves (a "subreaper"), so that a helper that went into a session of its own is still found,
and kills all of it when the child ends, when it is told to, or when the bridge is gone: then the control socket ends.

A file of its own that imports nothing of ours, for it is started with each child and has to be small. It tells the
bridge in JSON lines: `started`, `usage`, `ended`.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PDEATHSIG, _SUBREAPER, _NO_NEW_PRIVS = 1, 36, 38
_CAPABILITIES_V3 = 0x20080522
_LOOK_EVERY_S = 0.25
_TELL_EVERY_S = 2.0
_CGROUPS = Path("/sys/fs/cgroup")
_MOUNT = "tekup-bridge"
_NOT_STARTED = 127


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class _Group:
    """A control group of the child's own, where this process may make one; limits hold in it whatever it forks."""

    def __init__(self, limits: dict[str, Any]) -> None:
        self.folders: dict[str, Path] = {}
        self.unified = (_CGROUPS / "cgroup.controllers").exists()
        for controller, values in self._wanted(limits).items():
            folder = _CGROUPS / ("" if self.unified else controller) / f"{_MOUNT}-{os.getpid()}"
            try:
                _sweep(folder.parent)
                folder.mkdir(exist_ok=True)
                self.folders[controller] = folder  # from here on it has to be removed
                for name, value in values.items():
                    (folder / name).write_text(value)
            except OSError:
                self._remove(controller)

    def _wanted(self, limits: dict[str, Any]) -> dict[str, dict[str, str]]:
        memory, processes, cpus = limits["memory_bytes"], limits["processes"], limits["cpus"]
        if self.unified:
            quota = {"cpu.max": f"{int(cpus * 100_000)} 100000"} if cpus else {}
            return {
                "memory": {"memory.max": str(memory), "memory.oom.group": "1"},
                "pids": {"pids.max": str(processes)},
                **({"cpu": quota} if quota else {}),
            }
        quota = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": str(int(cpus * 100_000))} if cpus else {}
        return {
            "memory": {"memory.limit_in_bytes": str(memory)},
            "pids": {"pids.max": str(processes)},
            **({"cpu": quota} if quota else {}),
        }

    def join(self) -> None:
        """Put the calling process into it."""
        for folder in set(self.folders.values()):
            try:
                (folder / "cgroup.procs").write_text("0")
            except OSError:
                continue

    def kill(self) -> None:
        """Kill all of it at once, where the kernel can."""
        for folder in set(self.folders.values()):
            try:
                (folder / "cgroup.kill").write_text("1")
            except OSError:
                continue

    def overran(self) -> bool:
        """Whether the kernel killed some of it for its memory."""
        folder, name = self.folders.get("memory"), "memory.events" if self.unified else "memory.oom_control"
        try:
            lines = (folder / name).read_text().splitlines() if folder else []
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)

    def remove(self) -> None:
        """Remove it; it is empty by now."""
        for controller in list(self.folders):
            self._remove(controller)

    def _remove(self, controller: str) -> None:
        folder = self.folders.pop(controller, None)
        if folder is None or folder in self.folders.values():
            return
        for _ in range(50):
            try:
                folder.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)  # a process that was just reaped leaves its group a moment later
            else:
                return


def _sweep(parent: Path) -> None:
    """Remove the groups of launchers that were killed; one that somebody is still in cannot be removed."""
    for stale in parent.glob(f"{_MOUNT}-*"):
        if not Path("/proc", stale.name.rpartition("-")[2]).exists():
            _quietly(stale.rmdir)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return found


def _family() -> Iterator[int]:
    """Everything below this process."""
    todo = _children(os.getpid())
    while todo:
        pid = todo.pop()
        yield pid
        todo += _children(pid)


def _usage() -> tuple[int, int]:
    """Processes below this one, and the memory that is theirs, in bytes."""
    page, count, used = resource.getpagesize(), 0, 0
    for pid in _family():
        try:
            size, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
        except (OSError, ValueError):
            continue
        count += 1
        used += max(int(resident) - int(shared), 0) * page if int(size) else 0
    return count, used


class _Keeper:
    """Keeps one child."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self._control = control
        self._config = config
        self._limits: dict[str, Any] = config["limits"]
        self._group = _Group(self._limits)
        self._child = 0
        self._why = ""
        self._told_at = 0.0

    def run(self) -> int:
        """From the start of the child to the end of all that is left of it."""
        _prctl(_SUBREAPER, 1)
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._signal(signal.SIGTERM))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        problem = self._start()
        if problem:
            self._end()
            self._tell(event="ended", code=_NOT_STARTED, why=problem)
            return _NOT_STARTED
        held = sorted(self._group.folders)
        self._tell(event="started", pid=self._child, held=held)
        _become_quiet()
        code = self._watch(woken)
        if not self._why and self._group.overran():
            self._why = self._too_much()
        self._end()
        self._tell(event="ended", code=code, why=self._why)
        return 0

    def _start(self) -> str:
        failed, fail = os.pipe()
        keeper = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            try:
                self._become_child(keeper)
            except BaseException as error:
                os.write(fail, f"{getattr(error, 'strerror', None) or error}".encode()[:500])
                os._exit(_NOT_STARTED)
        os.close(fail)
        with os.fdopen(failed, "rb") as said:
            return said.read().decode(errors="replace")

    def _become_child(self, keeper: int) -> None:
        os.setsid()
        self._group.join()
        for kind, value in _rlimits(self._limits):
            hard = resource.getrlimit(kind)[1]
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))
        if self._config["user"]:
            _become(self._config["user"])
        _prctl(_PDEATHSIG, signal.SIGKILL)  # whoever changes its user loses it
        if os.getppid() != keeper:
            os._exit(_NOT_STARTED)
        if self._config["cwd"]:
            os.chdir(self._config["cwd"])
        for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        self._control.close()
        argv: list[str] = self._config["argv"]
        os.execvp(argv[0], argv)  # noqa: S606 (without a shell is the point)

    def _watch(self, woken: int) -> int:
        """Until the child has ended or has to."""
        while True:
            readable, _, _ = select.select([self._control.fileno(), woken], [], [], _LOOK_EVERY_S)
            if woken in readable:
                os.read(woken, 4096)
            if (code := self._reaped()) is not None:
                return code
            if self._control.fileno() in readable and not self._control.recv(4096):
                self._why = "told"
                return -signal.SIGKILL
            if problem := self._over_limits():
                self._why = problem
                return -signal.SIGKILL

    def _reaped(self) -> int | None:
        """Reap whatever has ended; the child's own code once it is among that."""
        code = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code
            if pid == 0:
                return code
            if pid == self._child:
                code = os.waitstatus_to_exitcode(status)

    def _over_limits(self) -> str:
        count, used = _usage()
        if time.monotonic() - self._told_at >= _TELL_EVERY_S:
            self._told_at = time.monotonic()
            self._tell(event="usage", processes=count, memory_bytes=used)
        if count > self._limits["processes"]:
            return f"it ran {count} processes and may run {self._limits['processes']}"
        if used > self._limits["memory_bytes"]:
            return self._too_much()
        return ""

    def _too_much(self) -> str:
        return f"it took more than the {self._limits['memory_bytes'] >> 20} MiB of memory that it may take"

    def _end(self) -> None:
        """Kill until nothing is left: what is killed may have started another a moment before."""
        self._group.kill()
        while True:
            for pid in list(_family()):
                _quietly(lambda pid=pid: os.kill(pid, signal.SIGKILL))  # type: ignore[misc]  # its default is its type
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(0.005)
        self._group.remove()

    def _signal(self, number: int) -> None:
        if self._child:
            _quietly(lambda: os.killpg(self._child, number))

    def _tell(self, **said: object) -> None:
        _quietly(lambda: self._control.sendall(json.dumps(said).encode() + b"\n", socket.MSG_DONTWAIT))


def _rlimits(limits: dict[str, Any]) -> Iterator[tuple[int, int]]:
    yield resource.RLIMIT_CORE, 0
    yield resource.RLIMIT_NOFILE, limits["open_files"]
    if limits["cpu_s"]:
        yield resource.RLIMIT_CPU, limits["cpu_s"]
    if limits["file_bytes"]:
        yield resource.RLIMIT_FSIZE, limits["file_bytes"]
    if limits["user_processes"]:  # it counts a user's processes, wherever they are
        yield resource.RLIMIT_NPROC, limits["user_processes"]


def _become(name: str) -> None:
    import pwd  # noqa: PLC0415 (only where asked for)

    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    _give_up_rights()


def _give_up_rights() -> None:
    """All capabilities, and any program's that would bring some: from one user but root to another they stay."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, none) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _prctl(_NO_NEW_PRIVS, 1)


def _become_quiet() -> None:
    """Give up both pipes, so that either end sees the other's end."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(null, 2)


def _quietly(act: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):
        act()


def main() -> int:
    """Keep what the arguments say."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    return _Keeper(control, json.loads(sys.argv[2])).run()


if __name__ == "__main__":
    sys.exit(main())
