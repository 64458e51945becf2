"""The resolver on this machine: the programs the local environment needs are found, or fetched and built."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose.local.programs import NEEDED

pytestmark = [pytest.mark.local, pytest.mark.timeout(3600)]


def test_every_program_the_environment_needs_is_found_and_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compose.local.programs", *NEEDED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert len(paths) == len(NEEDED)
    assert all(os.access(path, os.X_OK) for path in paths)
    for name in NEEDED:
        assert f"{name}: " in done.stderr


def test_an_unknown_program_is_refused_with_those_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compose.local.programs", "emacs"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "consul" in done.stderr
