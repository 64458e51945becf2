"""A bridge's declaration: what it may say, and where secrets come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.bridge.child import child_environment
from services.bridge.declaration import BadDeclaration, read_declaration

pytestmark = pytest.mark.feature("B11")


def declared(folder: Path, text: str) -> Path:
    path = folder / "pear.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('name = "pear"', "either a command or a url"),
        ('name = "pear"\ncommand = ["x"]\nurl = "http://a"', "either a command or a url"),
        ('name = "Pear"\ncommand = ["x"]', "name"),
        ('name = "pear"\ncommand = ["x"]\nenv = {API_KEY = "k"}', "API_KEY looks like a secret"),
        ('name = "pear"\nurl = "http://a"\nheaders = {Authorization = "k"}', "Authorization looks like a secret"),
        ('name = "pear"\ncommand = ["x"]\nenv = {MCP_VERSION = "1"}', "MCP_VERSION is a name of the platform's"),
        ('name = "pear"\ncommand = ["x"]\nlimits = {memory = 1}', "limits.memory"),
        ("name =", "cannot be understood"),
    ],
)
def test_what_is_wrong_with_one_is_said(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadDeclaration, match=reason):
        read_declaration(declared(tmp_path, text))


def test_a_child_gets_what_is_declared_and_what_every_program_needs(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("sesame\n")
    (tmp_path / "more").write_text("# a remark\nexport A=1\nB='two words'\n")
    text = f'name = "pear"\ncommand = ["x"]\nenv = {{C = "c"}}\nenv_file = "{tmp_path}/more"\n'
    text += f'env_files = {{D_KEY = "{tmp_path}/word"}}\n'
    around = {"PATH": "/bin", "MCP_SECRETS_FILE": "/s", "CONSUL_HTTP_TOKEN": "t", "HOME": "/root", "EDITOR": "vi"}
    given = child_environment(read_declaration(declared(tmp_path, text)), around)
    assert given == {"PATH": "/bin", "HOME": "/root", "A": "1", "B": "two words", "C": "c", "D_KEY": "sesame"}


def test_a_line_that_is_no_variable_is_named_by_its_number_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("A=1\nsesame\n")
    text = f'name = "pear"\ncommand = ["x"]\nenv_file = "{tmp_path}/more"\n'
    with pytest.raises(BadDeclaration, match="line 2") as raised:
        child_environment(read_declaration(declared(tmp_path, text)), {})
    assert "sesame" not in str(raised.value)
