"""A large table and what lies beside it, as the agent writes and reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control_plane.agent.beside import LARGE, MOST_CHANGED, Beside, merged
from control_plane.agent.disk import GateFolder

pytestmark = pytest.mark.feature("C2", "A5")


def table(serial: int, count: int = LARGE, **keys: object) -> dict[str, Any]:
    many = {f"c{number}": {"allow": ["*"]} for number in range(count)}
    return {"serial": serial, "epoch": 1, "number": serial, "gates": 1, "clients": many, "keys": keys}


def test_changes_make_of_the_last_whole_table_the_present_one() -> None:
    beside, whole = Beside(), table(5, k1={"revoked": 0}, k2={"revoked": 0})
    assert beside.changes(whole) is None
    beside.written(whole)
    now = {**whole, "serial": 6, "number": 6, "gates": 2, "keys": {"k1": {"revoked": 7}, "k3": {"revoked": 0}}}
    changes = beside.changes(now)
    assert changes is not None
    assert (changes["base"], changes["clients"]) == (5, {})
    assert changes["keys"] == {"k1": {"revoked": 7}, "k2": None, "k3": {"revoked": 0}}
    read = merged({**whole, "changes": True}, json.loads(json.dumps(changes)))
    assert {name: read[name] for name in now} == now


@pytest.mark.parametrize("now", [table(6, LARGE - 2), table(6, LARGE + MOST_CHANGED + 1)])
def test_a_small_table_and_one_that_has_changed_much_are_written_whole(now: dict[str, Any]) -> None:
    beside = Beside()
    beside.written(table(5))
    assert beside.changes(now) is None


def test_what_lies_beside_another_whole_table_means_nothing() -> None:
    whole = {**table(7, k1={"revoked": 0}), "changes": True}
    changes = {"base": 5, "serial": 6, "clients": {}, "keys": {"k1": None}}
    assert merged(whole, changes)["keys"] == {"k1": {"revoked": 0}}


def test_what_is_in_force_by_the_tables_alone_is_recalled(tmp_path: Path) -> None:
    folder, beside = GateFolder(tmp_path), Beside()
    whole = table(5, k1={"revoked": 0})
    folder.write_table("clients", whole)
    beside.written(whole)
    changes = beside.changes({**whole, "serial": 6, "number": 9, "keys": {"k1": {"revoked": 7}}})
    assert changes is not None
    folder.write_changes(changes)
    memory = GateFolder(tmp_path).recall().memory
    assert (memory.revoked, memory.seen) == ({"k1": 7}, (1, 9))
    assert folder.touched() == ()
    (tmp_path / "tables" / "clients-changes.json").unlink()
    assert folder.touched() == ("clients-changes",)


def test_a_large_table_never_lies_without_a_file_of_changes(tmp_path: Path) -> None:
    folder, changes = GateFolder(tmp_path), tmp_path / "tables" / "clients-changes.json"
    folder.write_table("clients", table(5))
    assert json.loads(changes.read_bytes())["base"] == 5
    assert changes.stat().st_mode & 0o077 == 0
    folder.write_table("clients", table(6))
    assert json.loads(changes.read_bytes())["base"] == 5
    folder.write_table("clients", table(7, count=1))
    assert not changes.exists()
    assert "changes" not in folder.table("clients")
