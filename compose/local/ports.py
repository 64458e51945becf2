"""Ports: choosing free ones, remembering them, and naming who holds a taken one."""

import errno
import json
import random
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from .errors import PortsTaken
from .files import write_atomically
from .progress import Reporter

HOST = "127.0.0.1"
LOWEST, HIGHEST = 15000, 31999
"""Below the range Linux takes outgoing connections' ports from (32768-60999), so that a port stays ours
while its process restarts."""
SHORT_COMMAND = 60


def is_free(port: int, host: str = HOST) -> bool:
    """Whether somebody could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def free_port(avoid: Iterable[int] = ()) -> int:
    """A port nobody listens on.

    Args:
        avoid: ports already promised to somebody.
    """
    taken = set(avoid)
    for _ in range(1000):
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311 (not a secret)
        if port not in taken and is_free(port):
            return port
    raise PortsTaken(f"no free port between {LOWEST} and {HIGHEST} found in 1,000 tries")


def chosen_ports(wanted: Mapping[str, int], memory: Path) -> dict[str, int]:
    """Give each name its port: the wanted one, or for 0 the one remembered or a free one, then remembered.

    Args:
        wanted: names and ports, 0 for any.
        memory: the file that remembers.

    Returns:
        A port for every name.
    """
    remembered = remembered_ports(memory)
    fixed = {name: port for name, port in wanted.items() if port}
    chosen: dict[str, int] = dict(fixed)
    for name in wanted:
        if name not in chosen:
            port = remembered.get(name, 0)
            chosen[name] = port if port and port not in chosen.values() else free_port(chosen.values())
    new = {name: port for name, port in chosen.items() if name not in fixed}
    # names nobody asked about stay: other commands ask about fewer ports than `up`
    kept = {name: port for name, port in remembered.items() if name not in fixed} | new
    if kept != remembered:
        write_atomically(memory, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return {name: chosen[name] for name in wanted}


def settled_ports(wanted: Mapping[str, int], named: Iterable[str], memory: Path, report: Reporter) -> dict[str, int]:
    """As `chosen_ports`, for a start: remembered ports that others hold now are chosen anew.

    Args:
        wanted: names and ports, 0 for any.
        named: those that are settings.
        memory: the file that remembers.
        report: told which were chosen anew.

    Raises:
        PortsTaken: one that a setting names is held by another.
    """
    lost = [name for name, port in chosen_ports(wanted, memory).items() if not wanted[name] and not is_free(port)]
    if lost:
        forget_ports(lost, memory)
        report.note(f"took new ports, since others hold the old ones: {', '.join(lost)}")
    ports = chosen_ports(wanted, memory)
    require_free({name: ports[name] for name in named})
    return ports


def forget_ports(names: Iterable[str], memory: Path) -> None:
    """Forget remembered ports, so that the next choice is a new one."""
    gone = set(names)
    kept = {name: port for name, port in remembered_ports(memory).items() if name not in gone}
    write_atomically(memory, json.dumps(kept, indent=1, sort_keys=True) + "\n")


def remembered_ports(memory: Path) -> dict[str, int]:
    """The ports that were chosen for names that wanted any; none if there is no memory."""
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {str(name): port for name, port in values.items() if isinstance(port, int)}


def require_free(ports: Mapping[str, int]) -> None:
    """Check that all ports can be had.

    Args:
        ports: by the setting that names them.

    Raises:
        PortsTaken: naming each taken port, who holds it and which setting changes it.
    """
    taken = {name: port for name, port in ports.items() if not is_free(port)}
    if taken:
        lines = [f"port {port} ({name}) is taken by {holder(port)}; stop it, or set {name} to another port (0: any)"
                 for name, port in taken.items()]  # fmt: skip
        raise PortsTaken("\n".join(lines))


def holder(port: int) -> str:
    """Who listens on a port: name, pid and command line, as far as we may know."""
    try:
        listeners = {c.pid for c in psutil.net_connections("tcp")
                     if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port}  # fmt: skip
    except psutil.AccessDenied:
        listeners = set()
    names = [_describe(pid) for pid in listeners if pid is not None]
    return " and ".join(names) or "a process we may not see (another user's?)"


def _describe(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())
        short = command if len(command) <= SHORT_COMMAND else command[: SHORT_COMMAND - 1] + "…"
        return f"{process.name()} (pid {pid}: {short}{_environment_of(process)})"
    except psutil.Error:
        return f"pid {pid}"


def _environment_of(process: psutil.Process) -> str:
    try:
        directory = process.environ().get("TEKUP_DIRECTORY", "")
    except psutil.Error:
        return ""
    return f", the TekUp environment in {directory}" if directory else ""
