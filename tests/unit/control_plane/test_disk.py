"""The gate's folder as the agent keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from control_plane.agent.disk import GateFolder
from control_plane.errors import Refused

pytestmark = pytest.mark.feature("C2")


def test_what_traefik_would_run_as_a_template_is_not_written(tmp_path: Path) -> None:
    folder = GateFolder(tmp_path)
    with pytest.raises(Refused, match="template"):
        folder.write_routes({"http": {"routers": {"x": {"rule": "Header(`a`, `{{ env `HOME` }}`)"}}}})
    assert not (tmp_path / "dynamic" / "routes.yml").exists()


def test_a_folder_is_swept_of_what_is_not_ours_and_nothing_else(tmp_path: Path) -> None:
    folder = GateFolder(tmp_path)
    for name in ("gate.yml", "routes.yml", "stray.yml", "stray.yaml", "notes.txt"):
        (tmp_path / "dynamic" / name).touch()
    assert folder.sweep() == ("stray.yaml", "stray.yml")
    assert sorted(path.name for path in (tmp_path / "dynamic").iterdir()) == ["gate.yml", "notes.txt", "routes.yml"]


def test_what_somebody_else_writes_is_noticed_and_what_we_write_is_not(tmp_path: Path) -> None:
    folder = GateFolder(tmp_path)
    assert folder.table("services") == {}
    folder.write_table("services", {"serial": 1})
    folder.write_routes({"http": {}})
    assert folder.touched() == ()
    (tmp_path / "tables" / "services.json").write_text(json.dumps({"serial": 2}))
    (tmp_path / "dynamic" / "routes.yml").unlink()
    assert sorted(folder.touched()) == ["routes", "services"]


@pytest.mark.feature("A5")
def test_revocations_are_remembered_from_the_table_where_the_memory_is_lost(tmp_path: Path) -> None:
    folder = GateFolder(tmp_path)
    folder.write_table("clients", {"keys": {"k1": {"revoked": 7}, "k2": {"revoked": 0}, "k3": "nonsense"}})
    assert folder.recall().memory.revoked == {"k1": 7}
    (tmp_path / "agent.json").write_text("spoilt")
    assert folder.recall().memory.revoked == {"k1": 7}


def test_tables_are_for_the_gate_alone(tmp_path: Path) -> None:
    GateFolder(tmp_path).write_table("clients", {})
    assert (tmp_path / "tables" / "clients.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("secrets", ["", "{}", '{"mac": []}', '{"mac": ["zz"]}', '{"mac": "00"}'])
def test_a_missing_mac_key_is_named_with_its_file(tmp_path: Path, secrets: str) -> None:
    folder = GateFolder(tmp_path)
    (tmp_path / "tables" / "secrets.json").write_text(secrets)
    with pytest.raises(Refused, match=r"secrets.json holds no MAC key"):
        folder.mac_key()
