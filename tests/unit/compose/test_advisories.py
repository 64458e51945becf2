"""The folder of advisories: what is there, how old it is, and everything that is wrong with it."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from compose.images.advisories import age_days, laid_out, too_old
from compose.images.scan_errors import ScanFailed

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def advisory(identity: str, ecosystem: str = "PyPI", modified: str = "2026-11-20T00:00:00Z") -> str:
    package = {"package": {"name": "spam", "ecosystem": ecosystem}}
    return json.dumps({"id": identity, "modified": modified, "affected": [package]})


def export(folder: Path, ecosystem: str, **advisories: str) -> None:
    (folder / ecosystem).mkdir(parents=True)
    with zipfile.ZipFile(folder / ecosystem / "all.zip", "w") as archive:
        for name, text in advisories.items():
            archive.writestr(f"{name}.json", text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_exports_and_own_advisories_count_together(data: Path, tmp_path: Path) -> None:
    export(data, "PyPI", A=advisory("A"), B=advisory("B", modified="2026-11-24T00:00:00Z"))
    (data / "own.json").write_text(advisory("OWN-1", "Debian:12"), encoding="utf-8")
    known = laid_out(data, ["Debian", "PyPI"], tmp_path / "out")
    assert {name: each.advisories for name, each in known.items()} == {"Debian": 1, "PyPI": 2}
    assert age_days(known["PyPI"], NOW) == 2
    with zipfile.ZipFile(tmp_path / "out/osv-scalibr/Debian/all.zip") as archive:
        assert archive.namelist() == ["own.json"]


def test_data_too_old_are_named_with_their_age(data: Path, tmp_path: Path) -> None:
    export(data, "PyPI", A=advisory("A", modified="2026-10-01T00:00:00Z"))
    known = laid_out(data, ["PyPI"], tmp_path / "out")
    assert "older than 30 days: PyPI (56 days)" in too_old(known, NOW, timedelta(days=30))
    assert too_old(known, NOW, timedelta(days=60)) == ""


def test_an_ecosystem_of_which_nothing_is_known_is_an_error(data: Path, tmp_path: Path) -> None:
    export(data, "PyPI", A=advisory("A"))
    with pytest.raises(ScanFailed, match=r"no advisories for Debian, npm: put OSV's export there as .*Debian/all\.zip"):
        laid_out(data, ["PyPI", "npm", "Debian"], tmp_path / "out")


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScanFailed, match="there is no folder of advisories"):
        laid_out(tmp_path / "none", ["PyPI"], tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no advisory in the OSV format"),
        ('{"id": "A"}', "does not tell when it was modified"),
    ],
)
def test_an_advisory_that_cannot_be_read_is_an_error_and_not_passed_over(
    data: Path, tmp_path: Path, text: str, said: str
) -> None:
    export(data, "PyPI", A=text)
    with pytest.raises(ScanFailed, match=rf"A\.json {said}"):
        laid_out(data, ["PyPI"], tmp_path / "out")


def test_a_broken_archive_is_an_error(data: Path, tmp_path: Path) -> None:
    (data / "PyPI").mkdir()
    (data / "PyPI/all.zip").write_bytes(b"PK no")
    with pytest.raises(ScanFailed, match="cannot be read"):
        laid_out(data, ["PyPI"], tmp_path / "out")
