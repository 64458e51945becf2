"""Settings are read once, and every problem is told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field
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


def test_a_variable_with_the_services_prefix_that_nobody_reads_is_a_problem_like_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MCP_DEMO_FOO", "1")
    monkeypatch.setenv("MCP_DEMO_DETPH", "")
    monkeypatch.setenv("MCP_DEMO_DEPTH", "deep")
    with pytest.raises(SettingsError) as error:
        load_settings("demo", DemoSettings)
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "MCP_DEMO_DEPTH",
        "MCP_DEMO_DETPH",
        "MCP_DEMO_FOO",
    ]
    assert "those of demo are: MCP_DEMO_DEPTH, MCP_DEMO_HOSTS, MCP_DEMO_ROOTS" in str(error.value)


def test_what_the_platform_uses_for_the_service_and_what_belongs_to_others_is_no_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MCP_DEMO_PORT", "MCP_DEMO_URL", "MCP_DEMO_MEMORY", "MCP_DEMO_CPUS", "MCP_OTHER_FOO", "MCP_FOO"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("mcp_demo_depth", "4")
    assert load_settings("demo", DemoSettings).service.depth == 4


class AliasedSettings(ServiceSettings):
    """Settings with a name of their own, once instead of the usual one."""

    model_config = SettingsConfigDict(env_prefix="MCP_DEMO_", frozen=True)

    place: str = Field(default="", validation_alias="MCP_PLACE")
    door: str = Field(default="", validation_alias="MCP_DEMO_ENTRANCE")


def test_a_setting_with_another_name_is_known_by_that_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_PLACE", "here")
    monkeypatch.setenv("MCP_DEMO_ENTRANCE", "front")
    own = load_settings("demo", AliasedSettings).service
    assert (own.place, own.door) == ("here", "front")
    monkeypatch.setenv("MCP_DEMO_DOOR", "back")
    with pytest.raises(SettingsError, match="MCP_DEMO_DOOR"):
        load_settings("demo", AliasedSettings)


def test_a_service_whose_prefix_is_the_kits_keeps_the_kits_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCP_SECRETS_FILE")
    monkeypatch.setenv("MCP_STANDALONE", "true")
    monkeypatch.setenv("MCP_DRAIN_QUIET_S", "2")
    assert load_settings("drain", ServiceSettings).kit.drain_quiet_s == 2


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
