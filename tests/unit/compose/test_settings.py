"""Settings: where values come from, and that every problem is told at once."""

from pathlib import Path

import pytest

from compose.local.errors import BadSettings
from compose.local.layout import Layout
from compose.local.observability_settings import EXTRAS, age_s
from compose.local.settings import Origin, load, named_ports, replica_ports


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_without_anything_the_defaults_are_those_of_the_contract(layout: Layout) -> None:
    effective = load(layout, {})
    assert named_ports(effective.settings) == {
        "MCP_GATEWAY_PORT": 3000,
        "MCP_BROWSER_PORT": 3001,
        "MCP_FILESYSTEM_PORT": 3002,
        "MCP_SEARCH_PORT": 3003,
        "MCP_HUB_PORT": 3004,
        "MCP_INTERNAL_PORT": 3005,
        "MCP_PRIVATE_PORT": 3006,
        "MCP_CONTROL_PLANE_PORT": 3010,
        "MCP_CONSUL_PORT": 8500,
    }
    assert set(effective.origins.values()) == {Origin.DEFAULT}


@pytest.mark.feature("A9")
def test_the_environment_wins_over_the_file_and_the_file_over_the_default(layout: Layout) -> None:
    layout.settings.write_text("MCP_GATEWAY_PORT = 4000\nMCP_SEARCH_PORT = 4003\n")
    effective = load(layout, {"MCP_GATEWAY_PORT": "5000", "HOME": "/root"})
    rows = {name: (value, origin) for name, value, origin in effective.rows()}
    assert rows["MCP_GATEWAY_PORT"] == ("5000", Origin.ENVIRONMENT)
    assert rows["MCP_SEARCH_PORT"] == ("4003", Origin.FILE)
    assert rows["MCP_HUB_PORT"] == ("3004", Origin.DEFAULT)


@pytest.mark.feature("A9")
def test_every_problem_is_told_at_once_with_where_it_came_from(layout: Layout) -> None:
    layout.settings.write_text('MCP_SEARCH_PORT = 70000\nMCP_GATEWAY_PROT = 1\nMCP_LOG_LEVEL = "loud"\n')
    with pytest.raises(BadSettings) as caught:
        load(layout, {"MCP_GATEWAY_PORT": "many"})
    said = str(caught.value)
    assert "MCP_SEARCH_PORT = '70000' (from tekup.toml)" in said
    assert "MCP_GATEWAY_PROT (from tekup.toml): there is no such setting" in said
    assert "MCP_LOG_LEVEL = 'loud'" in said
    assert "MCP_GATEWAY_PORT = 'many' (from environment)" in said


def test_two_settings_with_the_same_port_are_refused(layout: Layout) -> None:
    with pytest.raises(BadSettings, match="MCP_GATEWAY_PORT and MCP_BROWSER_PORT are all 3001"):
        load(layout, {"MCP_GATEWAY_PORT": "3001"})


def test_a_root_that_is_no_folder_is_refused(layout: Layout) -> None:
    with pytest.raises(BadSettings, match=r"MCP_SEARCH_ROOTS .*: /nowhere is not an existing folder"):
        load(layout, {"MCP_SEARCH_ROOTS": "/nowhere"})


def test_a_settings_file_that_cannot_be_parsed_is_named(layout: Layout) -> None:
    layout.settings.write_text("MCP_GATEWAY_PORT == 1")
    with pytest.raises(BadSettings, match=r"tekup\.toml cannot be read"):
        load(layout, {})


def test_a_settings_file_that_is_not_text_is_named(layout: Layout) -> None:
    layout.settings.write_bytes(b'MCP_BROWSER_EXECUTABLE = "/opt/\xe9"\n')
    with pytest.raises(BadSettings, match=r"tekup\.toml cannot be read"):
        load(layout, {})


def test_a_services_own_settings_are_handed_on_to_it_alone(layout: Layout) -> None:
    layout.settings.write_text("MCP_SEARCH_FOLLOW_LINKS = true\nMCP_TOOL_DEADLINE_S = 5\n")
    effective = load(layout, {})
    assert effective.for_service("search") == {"MCP_SEARCH_FOLLOW_LINKS": "true", "MCP_TOOL_DEADLINE_S": "5"}
    assert effective.for_service("browser") == {"MCP_TOOL_DEADLINE_S": "5"}


def test_secrets_are_not_shown(layout: Layout) -> None:
    effective = load(layout, {"MCP_SEARCH_API_KEY": "hunter2"})
    assert "hunter2" not in str(effective.rows())
    assert effective.for_service("search") == {"MCP_SEARCH_API_KEY": "hunter2"}


def test_a_switch_about_secrets_is_shown(layout: Layout) -> None:
    rows = load(layout, {"MCP_API_KEY_ENCRYPTION": "true"}).rows()
    assert [value for name, value, _ in rows if name == "MCP_API_KEY_ENCRYPTION"] == ["true"]


@pytest.mark.feature("C12")
def test_further_replicas_of_the_control_plane_have_ports_of_their_own(layout: Layout) -> None:
    effective = load(layout, {"MCP_CONTROL_PLANE_REPLICAS": "3"})
    assert replica_ports(effective.settings) == {
        "control-plane": "MCP_CONTROL_PLANE_PORT",
        "control-plane-2": "control-plane-2",
        "control-plane-3": "control-plane-3",
    }
    assert replica_ports(load(layout, {}).settings) == {"control-plane": "MCP_CONTROL_PLANE_PORT"}


@pytest.mark.parametrize("count", ["0", "10", "some"])
def test_a_number_of_replicas_that_makes_no_sense_is_refused(layout: Layout, count: str) -> None:
    with pytest.raises(BadSettings, match="MCP_CONTROL_PLANE_REPLICAS"):
        load(layout, {"MCP_CONTROL_PLANE_REPLICAS": count})


def test_the_file_may_call_a_setting_by_its_short_name(layout: Layout) -> None:
    layout.settings.write_text("control_plane_replicas = 3\n")
    effective = load(layout, {})
    assert effective.settings.control_plane_replicas == 3
    assert effective.origins["MCP_CONTROL_PLANE_REPLICAS"] is Origin.FILE


def test_what_runs_besides_is_asked_for_by_name_and_only_then_has_a_port(layout: Layout) -> None:
    settings = load(layout, {"MCP_WITH": " prometheus,", "MCP_PROMETHEUS_PORT": "9191"}).settings
    assert settings.extras == ("prometheus",)
    assert named_ports(settings)["MCP_PROMETHEUS_PORT"] == 9191
    assert "MCP_PROMETHEUS_PORT" not in named_ports(load(layout, {}).settings)


def test_asking_for_what_there_is_not_names_what_there_is(layout: Layout) -> None:
    with pytest.raises(
        BadSettings, match=r"MCP_WITH = 'prometheus,grafana'.*no grafana .*only prometheus, alertmanager, loki"
    ):
        load(layout, {"MCP_WITH": "prometheus,grafana"})


def test_observability_stands_for_all_there_is_to_run_besides(layout: Layout) -> None:
    settings = load(layout, {"MCP_WITH": "observability"}).settings
    assert settings.extras == tuple(EXTRAS)
    assert {f"MCP_{name.upper()}_PORT" for name in EXTRAS} <= named_ports(settings).keys()


@pytest.mark.feature("D7")
@pytest.mark.parametrize(
    ("name", "value"),
    [(f"MCP_{kind}_RETENTION", value) for kind in ("PROMETHEUS", "LOKI", "JAEGER") for value in ("0h", "6 hours", "1w")]
    + [
        ("MCP_LOG_FILE_BYTES", "100"),
        ("MCP_LOG_FILES", "0"),
        ("MCP_TRACE_SAMPLE", "1.5"),
        ("MCP_PROMETHEUS_BYTES", "1"),
    ],
)
def test_a_retention_that_makes_no_sense_is_one_message_before_anything_starts(
    layout: Layout, name: str, value: str
) -> None:
    with pytest.raises(BadSettings) as refused:
        load(layout, {name: value})
    assert str(refused.value).count(name) == 1
    assert f"{value}" in str(refused.value)


@pytest.mark.parametrize(("age", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21_600), ("7d", 604_800)])
def test_an_age_in_words_is_so_many_seconds(age: str, seconds: int) -> None:
    assert age_s(age) == seconds
