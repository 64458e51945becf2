"""A replica of the workspace by the real rsync: what is there comes, what is gone goes, and nothing empties it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compose.backup.replica import STAMP, carry_out
from compose.local.errors import BadInput, StepFailed
from tests.support.programs import program

pytestmark = [pytest.mark.local, pytest.mark.feature("F5")]


def test_a_round_brings_what_is_there_takes_what_is_gone_and_says_its_age(tmp_path: Path) -> None:
    rsync, source, target = Path(program("rsync")), tmp_path / "workspace", tmp_path / "standby"
    (source / "deep").mkdir(parents=True)
    (source / "deep/a.txt").write_text("one")
    first = carry_out(rsync, source, str(target), 30)
    assert (target / "deep/a.txt").read_text() == "one"
    (source / "b.txt").write_text("two")
    (source / "deep/a.txt").unlink()
    second = carry_out(rsync, source, f"{target}/", 30)
    assert (target / "b.txt").read_text() == "two"
    assert not (target / "deep/a.txt").exists()
    assert json.loads((tmp_path / f"standby{STAMP}").read_text())["at"] == second.at > first.at
    assert second.bound_s == 30 + 2 * second.seconds


def test_a_workspace_that_is_empty_or_missing_empties_nothing(tmp_path: Path) -> None:
    rsync, target = Path(program("rsync")), tmp_path / "standby"
    target.mkdir()
    (target / "kept.txt").write_text("kept")
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(BadInput, match="is its disk mounted"):
            carry_out(rsync, source, str(target), 30)
    assert (target / "kept.txt").exists()


def test_a_target_that_cannot_be_written_is_said_in_rsyncs_words(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("x")
    with pytest.raises(StepFailed, match="rsync failed"):
        carry_out(Path(program("rsync")), tmp_path / "a", "/proc/nowhere/standby", 30)
