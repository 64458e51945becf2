"""The outside programs, found for tests as ``tekup up`` finds them."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def program(name: str) -> str:
    """Path of a program.

    Raises:
        AssertionError: It is not to be had; says why and what to install.
    """
    command = [sys.executable, "-m", "compose.local.programs", name]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()
