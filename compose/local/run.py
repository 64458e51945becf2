"""Runs one outside command to its end, line by line, and ends all of it when it is cancelled."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import SourceFailed

LAST_LINES = 15
LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Finished:
    """How a command ended and the last lines it wrote, both streams in order."""

    code: int
    tail: tuple[str, ...]


def _ignore(_line: str) -> None:
    return None


async def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = _ignore,
) -> Finished:
    """Run a command in its own process group.

    Args:
        argv: program and arguments.
        timeout_s: the most it may take.
        cwd: folder to run in.
        env: variables on top of our own.
        on_line: called with each line of output.

    Returns:
        Its exit code and last lines.

    Raises:
        SourceFailed: it could not be started or took too long.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=LINE_BYTES,
        )
    except OSError as error:
        raise SourceFailed(f"{argv[0]} could not be started: {error.strerror}") from error
    tail: deque[str] = deque(maxlen=LAST_LINES)
    try:
        async with asyncio.timeout(timeout_s):
            await _read(process, tail, on_line)
            return Finished(await process.wait(), tuple(tail))
    except TimeoutError as error:
        raise SourceFailed(
            f"`{' '.join(argv)}` did not end within {timeout_s:.0f} s; last output:\n" + indent(tail)
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _read(process: asyncio.subprocess.Process, tail: deque[str], on_line: Callable[[str], None]) -> None:
    stream = process.stdout
    if stream is None:  # cannot be: stdout is a pipe above; the type does not know it
        return
    while raw := await stream.readline():
        line = raw.decode(errors="replace").rstrip()
        if line:
            tail.append(line)
            on_line(line)


async def run_or_fail(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = _ignore,
) -> tuple[str, ...]:
    """Like `run`, but a non-zero exit is an error that carries the last lines.

    Raises:
        SourceFailed: it could not be started, took too long or ended with another code than 0.
    """
    finished = await run(argv, timeout_s=timeout_s, cwd=cwd, env=env, on_line=on_line)
    if finished.code != 0:
        raise SourceFailed(f"`{' '.join(argv)}` ended with code {finished.code}; last output:\n{indent(finished.tail)}")
    return finished.tail


def indent(lines: Sequence[str] | deque[str]) -> str:
    """Lines as an indented block, for error messages."""
    return "\n".join(f"    {line}" for line in lines) or "    (none)"
