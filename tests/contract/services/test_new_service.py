"""A service as `tekup new-service` makes it: its own tests pass, an edit is served, and mistakes are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from compose.local.bridged.project import declaration_of, make_project
from compose.local.errors import BadInput
from services.common.trying import DidNotServe, running, trying
from tests.support.wait import eventually

pytestmark = [pytest.mark.feature("B7"), pytest.mark.timeout(120)]


def test_its_tests_pass_as_they_are_made(tmp_path: Path) -> None:
    make_project("my-notes", tmp_path / "made")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path / "made",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.feature("B8")
async def test_an_edit_of_it_is_served_by_itself(tmp_path: Path) -> None:
    make_project("notes", tmp_path)
    source = tmp_path / "notes" / "service.py"

    async def listed(url: str) -> tuple[str, ...]:
        async with Client(streamable_http_client(url), mode="2026-07-28") as client:
            found = (await client.call_tool("notes_list", {})).structured_content
        return tuple((found or {}).get("entries", ()))

    async with running("notes", tmp_path, MCP_RELOAD="true") as url:
        assert await listed(url) == ()
        source.write_text(source.read_text().replace("if file.exists() else ()", 'if file.exists() else ("edited",)'))

        async def edited() -> bool:
            try:
                return await listed(url) == ("edited",)
            except Exception:  # while one child ends and the next begins
                return False

        await eventually(edited, "the edit to be served", 30)


async def test_a_service_that_breaks_says_how(tmp_path: Path) -> None:
    make_project("notes", tmp_path)
    (tmp_path / "notes" / "service.py").write_text("raise RuntimeError('not yet written')")
    with pytest.raises(DidNotServe, match="not yet written"):
        async with trying("notes", tmp_path):
            pass


@pytest.mark.parametrize("name", ["Notes", "search", "1st", "a b", ""])
def test_a_name_that_cannot_be_one_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        make_project(name, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_what_is_in_the_folder_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="is there already"):
        make_project("notes", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(BadInput, match="holds no service notes"):
        declaration_of("notes", tmp_path)
