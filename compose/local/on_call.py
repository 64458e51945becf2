"""One program of the on-call stack as a process: a group of its own, ready when it says so."""

from collections.abc import Mapping

from .parts import Parts
from .table import Process, Ready


def on_call_program(
    parts: Parts,
    name: str,
    *flags: str,
    port: str,
    ready: str,
    after: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    stop_s: float = 10,
) -> Process:
    """A process of the program of that name.

    Args:
        parts: The environment.
        name: The program's, and the process's.
        flags: What it is started with.
        port: The named port where people reach it.
        ready: URL that answers 200 once it runs.
        after: Groups it is started after, and stopped before.
        env: What it is told besides.
        stop_s: From TERM to KILL, seconds.
    """
    return Process(
        name=name,
        group=name,
        argv=(str(parts.programs[name].path), *flags),
        env=dict(env or {}),
        ready=Ready(url=ready),
        after=after,
        stop_s=stop_s,
        url=parts.url(port),
    )
