"""What README tells a newcomer to type, typed."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.local, pytest.mark.timeout(300), pytest.mark.feature("G1", "G6")]
README = (Path(__file__).parents[2] / "README.md").read_text()
TEKUP = ".venv/bin/tekup "


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


def test_the_python_example_prints_what_it_called_for(environment: Any) -> None:
    (example,) = blocks("python")
    filled = example.replace("tk_…", environment.key).replace("http://127.0.0.1:3000", environment.gateway_url)
    assert filled.count(environment.key) == filled.count(environment.gateway_url) == 1
    done = subprocess.run([sys.executable, "-c", filled], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "welcome.md" in done.stdout


async def test_every_command_of_the_first_page_works_in_its_order(fresh_environment: Any) -> None:
    await asyncio.to_thread(fresh_environment.start)
    lines = [line.removeprefix(TEKUP) for block in blocks("") for line in block.splitlines() if line.startswith(TEKUP)]
    assert lines[-1] == "down"
    for line in lines:
        done = await asyncio.to_thread(fresh_environment.tekup, *shlex.split(line))
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert fresh_environment.running() == []
