"""What docs/operations.md tells people to type, typed, in its order, in one environment."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"
pytestmark = [pytest.mark.local, pytest.mark.timeout(400), pytest.mark.feature("F5", "G6")]


def commands() -> list[str]:
    """Every line of every code block, without what stands after it; `sh` blocks are typed in two regions' test."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    return [shlex.join(shlex.split(line, comments=True)) for line in lines]


def typed(environment: Any, line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "tekup":
        done = environment.tekup(*arguments)
    else:
        folder = ROOT if program == "make" else environment.directory
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"


def test_the_page_has_a_command_of_each_kind() -> None:
    begun = {" ".join(line.split()[:2]) for line in commands()}
    for wanted in ("up", "down", "status", "scale", "traffic", "autoscale", "secrets", "keys", "backup", "restart"):
        assert f"tekup {wanted}" in begun


@pytest.mark.long
async def test_every_command_of_the_page_works_in_its_order(fresh_environment: Any, tmp_path: Path) -> None:
    with (fresh_environment.directory / "tekup.toml").open("a") as file:
        file.write(f"MCP_BACKUP_KEY_FILE = '{tmp_path / 'backup.key'}'\n")

    async def settled() -> bool:
        try:
            return not await asyncio.to_thread(lambda: fresh_environment.status().not_ready())
        except Exception as error:  # nothing runs between `down` and `up`
            return "tekup up" in str(error)

    for line in commands():
        await asyncio.to_thread(typed, fresh_environment, line)
        await eventually(settled, f"everything to be ready after {line}", 60)
    done = await asyncio.to_thread(fresh_environment.tekup, "clients", "list")
    assert "ci" in done.stdout
