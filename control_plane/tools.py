"""Programs of others that are run for one answer: git, promtool, amtool."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane.errors import Unavailable


@dataclass(frozen=True)
class Said:
    """What a program said.

    Attributes:
        code: Its exit code.
        out: On standard output.
        err: On standard error.
    """

    code: int
    out: bytes
    err: bytes

    @property
    def all(self) -> str:
        """Both, as text."""
        return (self.out + self.err).decode(errors="replace")


async def run(
    *command: str | Path,
    hint: str,
    within_s: float,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    given: bytes = b"",
) -> Said:
    """Run a program to its end; it is killed where it takes too long or nobody waits for it any more.

    Args:
        command: The program and its arguments.
        hint: What to look at where it cannot be run.
        within_s: The most it may take, in seconds.
        folder: Where it runs.
        env: Its environment; None: it gets `PATH` alone.
        given: What it reads.

    Raises:
        Unavailable: It cannot be run, or did not end in time.
    """
    name = Path(command[0]).name
    try:
        running = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", "")} if env is None else env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise Unavailable(f"{name} cannot be run ({error.strerror}); {hint}") from error
    try:
        async with asyncio.timeout(within_s):
            out, err = await running.communicate(given)
    except TimeoutError as error:
        raise Unavailable(f"{name} {command[1]} did not end within {within_s:.0f} s") from error
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    return Said(running.returncode or 0, out, err)
