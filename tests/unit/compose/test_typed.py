"""People are told to type what works where they are."""

import sys
from pathlib import Path

import pytest

from compose.local.typed import own_name, typed


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `tekup` in the virtual environment of a checkout; none is on the PATH."""
    path = tmp_path / ".venv" / "bin" / "tekup"
    path.parent.mkdir(parents=True)
    path.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


def test_a_program_on_the_path_is_called_by_its_name(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    assert own_name(str(program), Path("/")) == "tekup"


def test_another_one_on_the_path_does_not_count(program: Path, tmp_path: Path) -> None:
    (tmp_path / "tekup").touch(0o755)
    assert own_name(str(program), program.parents[1] / "lib") == str(program)


def test_a_program_below_is_called_by_the_way_to_it(program: Path, tmp_path: Path) -> None:
    assert own_name(str(program), tmp_path) == ".venv/bin/tekup"
    assert own_name(".venv/bin/tekup", tmp_path) == ".venv/bin/tekup"
    assert own_name("tekup", program.parent) == "./tekup"


def test_a_program_elsewhere_is_called_as_it_was(program: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert own_name("../.venv/bin/tekup", other) == "../.venv/bin/tekup"
    spaced = tmp_path / "a b" / "tekup"
    spaced.parent.mkdir()
    spaced.touch(0o755)
    assert own_name(str(spaced), other) == f"'{spaced}'"


def test_who_came_by_uvx_is_told_to_come_that_way_again(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = program.with_name("tekup-mcp")
    called.touch(0o755)
    assert own_name(str(called), program.parents[1] / "lib") == str(called)
    monkeypatch.setenv("UV", "/usr/bin/uv")
    assert own_name(str(called), Path("/")) == "uvx tekup-mcp"


@pytest.mark.parametrize("called", ["-c", "/usr/lib/pytest/__main__.py", ".venv/bin/gone/tekup"])
def test_without_a_program_the_name_must_do(called: str, tmp_path: Path) -> None:
    assert own_name(called, tmp_path) == "tekup"


def test_only_commands_in_a_text_are_replaced(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(program)])
    text = "`tekup up`; tekup logs x; tekup.toml, .venv/bin/tekup up, tekup: no"
    assert typed(text) == "`.venv/bin/tekup up`; .venv/bin/tekup logs x; tekup.toml, .venv/bin/tekup up, tekup: no"
