"""The command `tekup`, as tests run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def run_tekup(
    *args: str, folder: Path, timeout_s: float, own: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a `tekup` command; never raises for its exit code.

    Args:
        args: Its arguments.
        folder: Where.
        timeout_s: The most it may take.
        own: Variables on top of the environment's.
    """
    return subprocess.run(
        [sys.executable, "-c", "from control_plane.cli import main; main()", *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(own or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """What a command that was run with `--json`, and must have succeeded, has printed."""
    command = " ".join(done.args[3:])
    assert done.returncode == 0, f"tekup {command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)
