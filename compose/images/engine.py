"""The Docker engine, by its own command."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from compose.images.errors import ImageError

__all__ = ["check_engine", "docker"]

_ASK_S: Final = 60.0


def docker(
    *arguments: str,
    timeout_s: float = _ASK_S,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    read: str = "",
    show: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `docker`.

    Args:
        arguments: of the command.
        timeout_s: the most it may take.
        cwd: folder to run in.
        env: variables on top of our own.
        read: what it gets to read.
        show: whether what it says goes to standard error while it runs, instead of into the answer.

    Returns:
        How it ended; that it failed is for the caller to see.

    Raises:
        ImageError: there is no such command, or it took too long.
    """
    try:
        return subprocess.run(
            ["docker", *arguments],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=read,
            stdout=sys.stderr if show else subprocess.PIPE,
            stderr=sys.stderr if show else subprocess.PIPE,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise ImageError(
            "docker is not on PATH; install Docker Engine 20.10 or newer, with its plugin buildx"
        ) from None
    except subprocess.TimeoutExpired:
        raise ImageError(f"`docker {' '.join(arguments[:3])} …` did not end within {timeout_s:.0f} s") from None


def check_engine() -> None:
    """See that an engine answers and that it can build.

    Raises:
        ImageError: which of the two is missing.
    """
    answered = docker("version", "--format", "{{.Server.Version}}")
    if answered.returncode != 0:
        said = answered.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise ImageError(f"no Docker engine answers ({said[0]}); start it, or name it in DOCKER_HOST")
    if docker("buildx", "version").returncode != 0:
        raise ImageError("docker has no plugin buildx, without which there is no BuildKit; install docker-buildx")
