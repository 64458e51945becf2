"""Settings are read once, and every problem is told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from services.common.errors import SettingsError
from services.common.settings import Folders, ServiceSettings, Words, load_settings


class DemoSettings(ServiceSettings):
    """A service's settings."""

    model_config = SettingsConfigDict(env_prefix="MCP_DEMO_", frozen=True)

    roots: Folders = ()
    hosts: Words = ()
    depth: int = 3


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Only a sound secrets file is set."""
    for name in ("MCP_PORT", "MCP_LOG_LEVEL", "MCP_STANDALONE", "MCP_DEMO_ROOTS", "MCP_DEMO_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps({"service": "demo", "keys": ["ab" * 32, "cd" * 32]}))
    monkeypatch.setenv("MCP_SECRETS_FILE", str(file))
    return file


def test_everything_has_a_default_but_the_secrets() -> None:
    loaded = load_settings("demo", DemoSettings)
    assert (loaded.kit.host, loaded.kit.port, loaded.kit.tool_deadline_s) == ("127.0.0.1", 0, 60.0)
    assert len(loaded.kit.instance) == 6
    assert loaded.keys == (bytes.fromhex("ab" * 32), bytes.fromhex("cd" * 32))
    assert "abab" not in repr(loaded)


def test_lists_are_separated_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_DEMO_ROOTS", "/srv/a:/srv/b c:")
    monkeypatch.setenv("MCP_DEMO_HOSTS", "a.example, b.example  c.example,")
    own = load_settings("demo", DemoSettings).service
    assert own.roots == (Path("/srv/a"), Path("/srv/b c"))
    assert own.hosts == ("a.example", "b.example", "c.example")


def test_all_problems_of_kit_and_service_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_PORT", "70000")
    monkeypatch.setenv("MCP_VERSION", "not a version")
    monkeypatch.setenv("MCP_CONSUL_URL", "nowhere")
    monkeypatch.setenv("MCP_DEMO_DEPTH", "deep")
    with pytest.raises(SettingsError) as error:
        load_settings("demo", DemoSettings)
    assert {problem.partition(":")[0] for problem in error.value.problems} == {
        "MCP_PORT",
        "MCP_VERSION",
        "MCP_CONSUL_URL",
        "MCP_DEMO_DEPTH",
    }
    assert "(it is '70000')" in str(error.value)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"service": "demo", "keys": []}', '{"service": "demo", "keys": ["short-secret"]}'],
)
def test_a_bad_secrets_file_is_named_without_its_content(bare_environment: Path, content: str) -> None:
    bare_environment.write_text(content)
    with pytest.raises(SettingsError) as error:
        load_settings("demo", DemoSettings)
    assert str(bare_environment) in str(error.value)
    assert "short-secret" not in str(error.value)


def test_anothers_secrets_are_refused() -> None:
    with pytest.raises(SettingsError, match="belongs to 'demo', not to 'other'"):
        load_settings("other", DemoSettings)


def test_without_secrets_only_standalone_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCP_SECRETS_FILE")
    with pytest.raises(SettingsError, match="MCP_STANDALONE=true"):
        load_settings("demo", DemoSettings)
    monkeypatch.setenv("MCP_STANDALONE", "true")
    assert len(load_settings("demo", DemoSettings).keys[0]) == 32


def test_production_has_no_drills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_ENV", "production")
    monkeypatch.setenv("MCP_DRILL_FILE", "drill.json")
    with pytest.raises(SettingsError, match="MCP_DRILL_FILE"):
        load_settings("demo", DemoSettings)
