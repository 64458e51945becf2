"""What `tekup connect` prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compose.local.bridged.clients import CLIENTS, Where, setup_for, write_setup
from compose.local.errors import BadInput, StepFailed

pytestmark = pytest.mark.feature("G2")
WHERE = Where("http://127.0.0.1:3000/mcp", "tk_a_sesame")


@pytest.mark.parametrize("client", CLIENTS)
def test_the_key_is_told_once(client: str, tmp_path: Path) -> None:
    setup = setup_for(client, WHERE, tmp_path, tmp_path)
    assert "\n".join((*setup.before, setup.text)).count("sesame") == 1
    assert WHERE.url in setup.text


@pytest.mark.parametrize("client", ["claude-code", "vscode", "cursor"])
def test_no_file_holds_the_key_where_the_client_can_do_without(client: str, tmp_path: Path) -> None:
    setup = setup_for(client, WHERE, tmp_path, tmp_path)
    assert write_setup(setup) is None
    assert setup.file is not None
    assert "sesame" not in setup.file.read_text()
    assert WHERE.url in setup.file.read_text()


@pytest.mark.parametrize("client", ["claude-code", "claude-desktop", "vscode", "cursor"])
def test_writing_keeps_what_was_there_and_a_copy_of_it_and_twice_is_once(client: str, tmp_path: Path) -> None:
    setup = setup_for(client, WHERE, tmp_path, tmp_path)
    assert setup.file is not None
    member = "servers" if client == "vscode" else "mcpServers"
    before = {member: {"other": {"command": "x"}, "tekup": {"url": "old"}}, "theme": "dark"}
    setup.file.parent.mkdir(parents=True, exist_ok=True)
    setup.file.write_text(json.dumps(before))
    backup = write_setup(setup)
    after = json.loads(setup.file.read_text())
    assert backup is not None
    assert json.loads(backup.read_text()) == before
    assert after["theme"] == "dark"
    assert after[member]["other"] == {"command": "x"}
    assert "old" not in json.dumps(after)
    assert write_setup(setup) is None
    assert setup.file.stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_plain_json_is_left_alone(tmp_path: Path) -> None:
    setup = setup_for("cursor", WHERE, tmp_path, tmp_path)
    assert setup.file is not None
    setup.file.parent.mkdir()
    setup.file.write_text("{ // mine\n}")
    with pytest.raises(StepFailed, match="by hand"):
        write_setup(setup)
    assert setup.file.read_text() == "{ // mine\n}"


def test_an_unknown_client_is_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="claude-code"):
        setup_for("emacs", WHERE, tmp_path, tmp_path)
