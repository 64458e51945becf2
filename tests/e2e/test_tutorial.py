"""What the tutorial and the migration guide tell people to type, typed, in its order, each in one environment."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.programs import program
from tests.support.typed_pages import Block, blocks, command_of, typed

pytestmark = [pytest.mark.local, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.feature("G6")]


def run(page: str, environment: Any, programs: Path) -> dict[str, str]:
    """Run all shell of a page, with its files where it says to put them; what each block printed, by its first line."""
    said: dict[str, str] = {}
    for block in blocks(page):
        if block.language == "bash":
            own = {"TEKUP_URL": url_of(environment)} if (environment.state / "ports.json").exists() else {}
            said[block.text.splitlines()[0]] = typed(block, environment.directory, programs, own)
        else:
            (environment.directory / file_of(block)).write_text(block.text)
    return said


def file_of(block: Block) -> str:
    """The file that the text before a block calls it."""
    return {"python": "load.py", "json": "mcp.json"}[block.language]


def with_any_port(environment: Any) -> Path:
    """Have Prometheus take a free port as well; the environment's folder."""
    with (environment.directory / "tekup.toml").open("a") as file:
        file.write("MCP_PROMETHEUS_PORT = 0\n")
    folder: Path = environment.directory
    return folder


def url_of(environment: Any) -> str:
    """Where clients find the environment, which takes a free port here."""
    ports = json.loads((environment.state / "ports.json").read_text())
    return f"http://127.0.0.1:{ports['MCP_GATEWAY_PORT']}/mcp"


def end_load(folder: Path) -> None:
    """End the callers of the tutorial, where it did not come to that itself."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        caller = psutil.Process(int((folder / "load.pid").read_text()))
        if "load.py" in caller.cmdline():
            caller.kill()


@pytest.mark.feature("C4")
def test_the_tutorial_ends_with_a_canary_that_was_rolled_back(fresh_environment: Any, tmp_path: Path) -> None:
    folder = with_any_port(fresh_environment)
    programs = command_of(tmp_path / "bin")
    try:
        said = run("tutorial.md", fresh_environment, programs)
    finally:
        end_load(folder)
    assert "filesystem_read_file" in said["tekup connect python > hello.py"]
    tutorial = said["tekup clients add tutorial --allow 'search_*' --reason \"the tutorial\""]
    assert "search_grep" in tutorial
    assert "filesystem_read_file" not in tutorial
    waited = said['tekup rollout status search --wait --timeout 240 || echo "it was not promoted"']
    assert "it was not promoted" in waited
    explained = said["tekup rollout explain search"]
    assert "back to 0.1.0" in explained
    assert "'ok'" in explained.splitlines()[-1]
    assert fresh_environment.running() == []
    assert not psutil.pid_exists(int((folder / "load.pid").read_text()))


@pytest.mark.feature("F10")
def test_the_migration_guide_ends_with_the_server_retired(fresh_environment: Any, tmp_path: Path) -> None:
    with_any_port(fresh_environment)
    programs = command_of(tmp_path / "bin")
    npx = programs / "npx"  # the same server from the tests' own lock, in place of whatever npm has today
    npx.write_text(f'#!/bin/sh\nshift\nexec {program("published-npm")} "$@"\n')
    npx.chmod(0o755)
    said = run("migration.md", fresh_environment, programs)
    assert "memory_read_graph" in said["tekup import mcp.json"]
    written = json.loads((fresh_environment.directory / ".cursor" / "mcp.json").read_text())
    assert written["mcpServers"]["tekup"]["url"].endswith("/mcp")
    assert not [one for one in fresh_environment.status().processes if one.group == "memory"]
