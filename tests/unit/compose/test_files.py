"""Atomic writes, secrets, the gate's folder, bounded logs."""

import json
import stat
from pathlib import Path

import pytest
import yaml

from compose.local.credentials import make_credentials, make_sealing_keys, service_secrets
from compose.local.edge import edge_values
from compose.local.errors import StepFailed
from compose.local.files import repository, try_lock, write_atomically
from compose.local.gate_folder import PLUGIN, lay_out_gate
from compose.local.layout import Layout
from compose.local.leftovers import identity
from compose.local.log import bound
from compose.local.settings import Settings

VALUES = {
    "GATEWAY_ADDRESS": "127.0.0.1:3000",
    "INTERNAL_ADDRESS": "127.0.0.1:3005",
    "PRIVATE_ADDRESS": "127.0.0.1:3006",
    "ALLOWED_HOSTS": "",
    "ALLOWED_ORIGINS": "",
    "OAUTH_ADDRESS": "",
    "OAUTH_RESOURCE": "",
    "OAUTH_SCOPE": "",
    "POLICY_MAX_AGE_S": "0",
    "MTLS": "false",
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.make_folders()
    return layout


def test_an_atomic_write_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "one")
    write_atomically(tmp_path / "a", "two", 0o600)
    assert (tmp_path / "a").read_text() == "two"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_lock_is_had_by_one_at_a_time(tmp_path: Path) -> None:
    with try_lock(tmp_path / "lock") as first:
        assert first
        with try_lock(tmp_path / "lock") as second:
            assert not second
    with try_lock(tmp_path / "lock") as third:
        assert third


def test_secrets_are_made_once_private_and_each_service_gets_only_its_own(layout: Layout) -> None:
    make_credentials(layout)
    token = layout.operator_token.read_text()
    gate = json.loads((layout.gate / "tables" / "secrets.json").read_text())
    make_credentials(layout)
    assert layout.operator_token.read_text() == token
    assert json.loads((layout.gate / "tables" / "secrets.json").read_text()) == gate
    assert set(gate["services"]) == {"browser", "filesystem", "search", "hub", "control-plane"}
    assert len(bytes.fromhex(gate["mac"][0])) == 32
    for name, keys in gate["services"].items():
        path = service_secrets(layout, name)
        assert json.loads(path.read_text()) == {"service": name, "keys": keys}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.operator_token.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.state.stat().st_mode) == 0o700


@pytest.mark.feature("E5")
def test_what_seals_keys_is_made_once_and_private(layout: Layout) -> None:
    layout.make_folders()
    make_sealing_keys(layout)
    made = layout.sealing_keys.read_text()
    make_sealing_keys(layout)
    assert layout.sealing_keys.read_text() == made
    assert [len(bytes.fromhex(key)) for key in json.loads(made)["keys"]] == [32]
    assert stat.S_IMODE(layout.sealing_keys.stat().st_mode) == 0o600


def test_damaged_secrets_are_never_replaced_by_themselves(layout: Layout) -> None:
    make_credentials(layout)
    path = layout.gate / "tables" / "secrets.json"
    path.write_text("{")
    with pytest.raises(StepFailed, match="restore it"):
        make_credentials(layout)
    assert path.read_text() == "{"


def test_the_gate_folder_is_laid_out_and_what_the_agent_wrote_stays(layout: Layout) -> None:
    values = {**VALUES, "GATE_DIR": str(layout.gate), **edge_values(Settings.model_validate({}))}
    lay_out_gate(layout.gate, values)
    (layout.gate / "dynamic" / "routes.yml").write_text("http: {}")
    (layout.gate / PLUGIN / "old.go").write_text("package policy")
    lay_out_gate(layout.gate, values)
    assert "127.0.0.1:3000" in (layout.gate / "traefik.yml").read_text()
    assert "${" not in (layout.gate / "dynamic" / "gate.yml").read_text()
    assert (layout.gate / "dynamic" / "routes.yml").read_text() == "http: {}"
    names = {path.name for path in (layout.gate / PLUGIN).iterdir()}
    assert "old.go" not in names
    assert names == {path.name for path in (repository() / "traefik" / "plugin").iterdir()
                     if path.is_file() and not path.name.endswith("_test.go")
                     and (path.suffix == ".go" or path.name in ("go.mod", ".traefik.yml"))}  # fmt: skip


@pytest.mark.feature("A11")
def test_the_gate_lets_foreign_bearers_in_only_while_somebody_judges_them(layout: Layout) -> None:
    values = {**VALUES, "GATE_DIR": str(layout.gate), **edge_values(Settings.model_validate({}))}
    oauth = layout.gate / "dynamic" / "oauth.yml"
    lay_out_gate(layout.gate, {**values, "OAUTH_ADDRESS": "127.0.0.1:9", "OAUTH_SCOPE": "mcp:{service}"})
    read = yaml.safe_load(oauth.read_text())["http"]
    assert read["middlewares"]["oauth"]["forwardAuth"]["address"] == "http://127.0.0.1:9/auth"
    assert read["routers"]["resource-metadata"]["rule"].count("$") == 1
    lay_out_gate(layout.gate, values)
    assert not oauth.exists()


def test_a_template_that_wants_what_we_do_not_have_is_named(layout: Layout) -> None:
    with pytest.raises(StepFailed, match="placeholder without a value"):
        lay_out_gate(layout.gate, {})


def test_a_log_that_grew_too_large_is_cut_and_its_last_full_part_kept(layout: Layout) -> None:
    layout.log("one").write_text("x" * 100)
    layout.log("two").write_text("y")
    with layout.log("one").open("a") as writer:
        assert bound(layout.logs, 50) == ["one.log"]
        writer.write("after")
    assert layout.log("one").read_text() == "after"
    assert (layout.logs / "one.log.1").read_text() == "x" * 100
    assert bound(layout.logs, 50) == []


@pytest.mark.feature("D7")
def test_as_many_cut_off_parts_are_kept_as_the_setting_says_and_older_ones_go(layout: Layout) -> None:
    layout.make_folders()

    def filled(*texts: str, kept: int) -> dict[str, str]:
        for text in texts:
            layout.log("one").write_text(text * 60)
            bound(layout.logs, 50, kept)
        return {path.name: path.read_text()[:1] for path in layout.logs.iterdir() if path.suffix != ".log"}

    assert filled("a", "b", "c", "d", kept=3) == {"one.log.1": "d", "one.log.2": "c", "one.log.3": "b"}
    assert filled("e", kept=2) == {"one.log.1": "e", "one.log.2": "d"}
    assert filled("f", kept=1) == {"one.log.1": "f"}


def test_the_mark_of_an_environment_is_made_once(layout: Layout) -> None:
    assert identity(layout.identity) == identity(layout.identity)
    assert len(identity(layout.identity)) == 32


def test_a_directory_too_deep_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    deep = Layout(tmp_path / ("d" * 90))
    assert len(str(deep.socket)) < 100
    assert deep.socket != Layout(tmp_path / ("e" * 90)).socket
