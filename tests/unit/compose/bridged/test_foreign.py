"""Other programs' lists of servers, read into declarations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compose.local.bridged.foreign import read_foreign
from compose.local.errors import BadInput

pytestmark = pytest.mark.feature("B7")
ENVIRON = {"HOME": "/home/me", "GITHUB": "sesame"}


def listed(folder: Path, content: object) -> Any:
    path = folder / "mcp.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return {one.called: one for one in read_foreign(path, ENVIRON)}


def test_claude_desktop_and_cursor(tmp_path: Path) -> None:
    server = {"command": "npx", "args": ["-y", "some-server", "${HOME}/x"], "env": {"API_KEY": "k", "COLOUR": "red"}}
    one = listed(tmp_path, {"mcpServers": {"Some Server": server}})["Some Server"]
    assert (one.name, one.problem) == ("some-server", "")
    assert one.content == {"command": ["npx", "-y", "some-server", "/home/me/x"], "env": {"COLOUR": "red"}}
    assert one.secrets == {"env/API_KEY": "k"}


def test_claude_code_with_remote_servers(tmp_path: Path) -> None:
    servers = {
        "gh": {"type": "http", "url": "https://a/mcp", "headers": {"Authorization": "Bearer ${GITHUB}"}},
        "old": {"type": "sse", "url": "https://a/${PLACE:-sse}"},
    }
    found = listed(tmp_path, {"mcpServers": servers})
    assert found["gh"].content == {"url": "https://a/mcp", "transport": "http"}
    assert found["gh"].secrets == {"header/Authorization": "Bearer sesame"}
    assert found["old"].content == {"url": "https://a/sse", "transport": "sse"}


def test_vscode_with_comments_and_inputs(tmp_path: Path) -> None:
    text = """{
      // what I use
      "inputs": [{"id": "k", "type": "promptString"}],
      "servers": {
        "here": {"type": "stdio", "command": "${workspaceFolder}/run", "envFile": "${workspaceFolder}/.env"}, /* mine */
        "asks": {"command": "x", "env": {"A_KEY": "${input:k}"}},
        "url": {"url": "http://localhost//x"},
      },
    }"""
    found = listed(tmp_path, text)
    assert found["here"].content == {"command": [f"{tmp_path}/run"], "env_file": f"{tmp_path}/.env"}
    assert "asks its user for k" in found["asks"].problem
    assert found["url"].content["url"] == "http://localhost//x"


def test_names_become_names_of_services_and_stay_apart(tmp_path: Path) -> None:
    server = {"command": "x"}
    found = listed(tmp_path, {"mcpServers": dict.fromkeys(("hub", "A B", "a-b", "1st", "é", "x" * 60), server)})
    names = [one.name for one in found.values()]
    assert names[:4] == ["my-hub", "a-b", "a-b-2", "s-1st"]
    assert len(set(names)) == 6


@pytest.mark.parametrize(
    ("server", "problem"),
    [({"disabled": True, "command": "x"}, "switched off"), ({}, "neither"), (7, "no object"),
     ({"command": "${NOT_SET}"}, "NOT_SET is not set")],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_told(tmp_path: Path, server: object, problem: str) -> None:
    assert problem in listed(tmp_path, {"mcpServers": {"a": server}})["a"].problem


@pytest.mark.parametrize("text", ["{", "[]", '{"other": {}}'])
def test_a_file_that_lists_no_servers_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput):
        listed(tmp_path, text)
