"""What `tekup connect` prints, run as it is printed, by the clients themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.support.command_line import run_tekup, told
from tests.support.programs import program

pytestmark = [pytest.mark.local, pytest.mark.timeout(300), pytest.mark.feature("G2")]
EVERY_SERVICE = ("browser_", "filesystem_", "search_")


def run(environment: Any, client: str, command: list[str], folder: Path) -> str:
    """Run a command with the variables that its user is told to set, and no others; what it prints."""
    before = environment.tekup_json("connect", client)["before"]
    variables = dict(line.removeprefix("export ").split("=", 1) for line in before)
    path = f"{folder}:{Path(program('node')).parent}:{os.environ['PATH']}"
    env = {**variables, "PATH": path, "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lists_everything(said: str) -> None:
    """Whether tools of every service are in what a client printed."""
    assert [name for name in EVERY_SERVICE if name not in said] == []


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder where Node finds the published clients, and `npx` starts them from."""
    inspector = Path(program("inspector"))
    modules = inspector.parent / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    npx = tmp_path / "npx"
    npx.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -y ] && shift\n'
        "name=$1; shift\n"
        f'case $name in @*) exec {inspector} "$@";; *) exec {modules}/.bin/"$name" "$@";; esac\n'
    )
    npx.chmod(0o755)
    return tmp_path


def test_python(environment: Any, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(environment.tekup("connect", "python").stdout)
    lists_everything(run(environment, "python", [sys.executable, "client.py"], tmp_path))


def test_typescript(environment: Any, published: Path) -> None:
    (published / "client.mjs").write_text(environment.tekup("connect", "typescript").stdout)
    lists_everything(run(environment, "typescript", [program("node"), "client.mjs"], published))


def test_inspector(environment: Any, published: Path) -> None:
    shown = environment.tekup("connect", "inspector").stdout
    said = run(environment, "inspector", ["sh", "-c", shown], published)
    lists_everything(json.dumps([tool["name"] for tool in json.loads(said)["tools"]]))


async def test_claude_desktop_by_the_program_its_file_names(environment: Any, published: Path) -> None:
    shown = json.loads(environment.tekup_json("connect", "claude-desktop")["text"])["mcpServers"]["tekup"]
    path = f"{published}:{Path(program('node')).parent}:{os.environ['PATH']}"
    env = {**shown["env"], "PATH": path, "HOME": str(published)}
    server = StdioServerParameters(command=str(published / "npx"), args=shown["args"], env=env)
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        lists_everything(json.dumps([tool.name for tool in (await session.list_tools()).tools]))


def test_what_is_shown_can_be_kept_in_a_file_as_it_is(environment: Any) -> None:
    shown = environment.tekup("connect", "claude-code")
    assert json.loads(shown.stdout)["mcpServers"]["tekup"]["url"].endswith("/mcp")
    assert environment.key not in shown.stdout
    assert f"export TEKUP_KEY={environment.key}" in shown.stderr


@pytest.mark.parametrize("client", ["claude-code", "claude-desktop", "vscode", "cursor"])
def test_what_is_written_twice_is_there_once(environment: Any, client: str, tmp_path: Path) -> None:
    def written() -> tuple[Path, str]:
        own = {"HOME": str(tmp_path)}
        done = run_tekup("connect", client, "--write", "--json", folder=environment.directory, timeout_s=60, own=own)
        return Path(told(done)["file"]), told(done)["backup"]

    file, _ = written()
    try:
        text = file.read_text()
        assert written() == (file, "")
        assert file.read_text() == text
    finally:
        file.unlink()
