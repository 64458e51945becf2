"""Backups without an environment: names, retention, manifests, archives that lie, and the locks."""

from __future__ import annotations

import datetime
import fcntl
import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.backup.archive import part_of, read, write
from compose.backup.hold import held
from compose.backup.kept import to_delete
from compose.backup.key import encrypt, make_key
from compose.backup.manifest import BackupRefused, Manifest, name_of
from compose.backup.schedule import due
from compose.local.errors import BadInput

pytestmark = pytest.mark.feature("F5")
MINE, OTHERS = "0a0a0a0a", "0b0b0b0b"
HERE = "1.2.3"
NOON = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC).timestamp()


def daily(days: int, each: int = 1) -> list[Path]:
    hours = range(0, 24 * days, 24 // each)
    return [Path(name_of(NOON - 3600 * hour, MINE)) for hour in hours]


def kept(paths: list[Path], **wanted: int) -> list[str]:
    gone = set(to_delete(paths, MINE, **wanted))
    return sorted(path.name[6:14] for path in paths if path not in gone)


def test_of_each_of_the_last_days_and_weeks_the_last_backup_is_kept() -> None:
    assert kept(daily(60), daily=3, weekly=0) == ["20261124", "20261125", "20261126"]
    assert kept(daily(60), daily=2, weekly=3) == ["20261115", "20261122", "20261125", "20261126"]
    assert len(kept(daily(2, each=4), daily=7, weekly=1)) == 3


def test_days_without_a_backup_do_not_count_and_the_newest_always_stays() -> None:
    old = [Path(name_of(NOON - 86_400 * day, MINE)) for day in (100, 200, 300)]
    assert len(kept(old, daily=2, weekly=0)) == 2
    assert to_delete([Path(name_of(NOON, MINE))], MINE, daily=1, weekly=0) == []


def test_what_is_another_environments_or_no_backup_is_never_deleted() -> None:
    others = [Path(name_of(NOON - 86_400 * day, OTHERS)) for day in range(9)]
    strange = [Path("notes.txt"), Path(f"tekup-revocations-{MINE}.json"), Path(f".{name_of(NOON, MINE)}.tmp")]
    assert to_delete([*others, *strange, *daily(2)], MINE, daily=1, weekly=0) == daily(2)[1:]


def test_a_backup_is_due_by_what_lies_there(tmp_path: Path) -> None:
    assert due(tmp_path, MINE, 3600, NOON)
    (tmp_path / name_of(NOON - 1800, MINE)).touch()
    (tmp_path / f"tekup-revocations-{MINE}.json").touch()
    assert not due(tmp_path, MINE, 3600, NOON)
    assert due(tmp_path, MINE, 1200, NOON)
    assert due(tmp_path, OTHERS, 3600, NOON)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "backup.key"
    assert make_key(path)
    assert not make_key(path)
    assert path.stat().st_mode & 0o077 == 0
    return path


def manifest(files: Path, **fields: object) -> Manifest:
    names = sorted(str(path.relative_to(files)) for path in files.rglob("*") if path.is_file())
    told = {
        "platform": HERE, "environment": MINE, "datacenter": "local", "epoch": 1, "revision": 7, "taken": NOON,
        "held_s": 0.1, "whole": True, "parts": {name: part_of(files / name) for name in names},
    }  # fmt: skip
    return Manifest.model_validate(told | fields)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "state" / "secrets").mkdir(parents=True)
    (folder / "consul.snap").write_bytes(b"snapshot")
    (folder / "state" / "secrets" / "search.json").write_text("secret-of-search")
    return folder


def written(files: Path, key: Path, **fields: object) -> Path:
    folder = files.parent / "backups"
    folder.mkdir(exist_ok=True)
    return write(manifest(files, **fields), files, folder, key)


def into(tmp_path: Path) -> Path:
    folder = tmp_path / "read"
    folder.mkdir()
    return folder


def test_what_is_written_is_read_and_nobody_else_can_read_it(tmp_path: Path, files: Path, key: Path) -> None:
    archive = written(files, key)
    assert b"secret-of-search" not in archive.read_bytes()
    assert archive.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    told = read(archive, key, into(tmp_path), HERE)
    assert told.revision == 7
    assert (tmp_path / "read" / "state/secrets/search.json").read_text() == "secret-of-search"


def test_a_backup_for_another_key_or_without_a_key_is_refused(tmp_path: Path, files: Path, key: Path) -> None:
    archive = written(files, key)
    another = tmp_path / "another.key"
    make_key(another)
    with pytest.raises(BackupRefused, match=r"cannot be opened with .*another\.key .*encrypted for another key"):
        read(archive, another, into(tmp_path), HERE)
    with pytest.raises(BadInput, match="the key of backups, cannot be read"):
        read(archive, tmp_path / "none", tmp_path / "read", HERE)
    another.chmod(0o644)
    with pytest.raises(BadInput, match="may be read by others"):
        read(archive, another, tmp_path / "read", HERE)


HARMS: tuple[Callable[[bytes], bytes], ...] = (
    lambda raw: raw[:-1],
    lambda raw: raw[: len(raw) // 2],
    lambda raw: raw + b"x",
    lambda raw: raw[:-40] + bytes([raw[-40] ^ 1]) + raw[-39:],
    lambda _: b"",
)


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_backup_is_refused(tmp_path: Path, files: Path, key: Path, harm: Callable[[bytes], bytes]) -> None:
    archive = written(files, key)
    archive.write_bytes(harm(archive.read_bytes()))
    with pytest.raises(BackupRefused, match=r"[Nn]othing was touched"):
        read(archive, key, into(tmp_path), HERE)


@pytest.mark.parametrize(("fields", "said"), [
    ({"platform": "1.3.0"}, r"taken by TekUp MCP 1\.3\.0 .* this is 1\.2\.3"),
    ({"format": 2}, r"format 2\), this is"),
    ({"links": {"state/../../etc/passwd": "x"}}, "lies outside of an environment"),
    ({"folders": ["/etc"]}, "lies outside of an environment"),
])  # fmt: skip
def test_a_newer_or_hostile_backup_is_refused(
    tmp_path: Path, files: Path, key: Path, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(BackupRefused, match=said):
        read(written(files, key, **fields), key, into(tmp_path), HERE)
    assert not [path for path in (tmp_path / "read").rglob("*") if path.is_file()]


def crafted(files: Path, key: Path, entries: dict[str, bytes], told: Manifest | None) -> Path:
    """An archive with a valid key whose content does not fit its manifest."""
    plain, archive = files.parent / "crafted.tar.gz", files.parent / "crafted.age"
    with tarfile.open(plain, "w:gz") as tar:
        head = {"manifest.json": told.model_dump_json().encode()} if told else {}
        for name, raw in {**head, **entries}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))
    encrypt(plain, archive, key)
    return archive


def test_an_archive_that_does_not_fit_its_manifest_is_refused(tmp_path: Path, files: Path, key: Path) -> None:
    told = manifest(files)
    good = {"consul.snap": b"snapshot", "state/secrets/search.json": b"secret-of-search"}
    for number, (entries, head, said) in enumerate((
        ({**good, "state/more": b"x"}, told, "holds state/more, which its manifest does not name"),
        ({**good, "consul.snap": b"snapshoT"}, told, "consul.snap is not what was backed up"),
        ({"consul.snap": b"snapshot"}, told, r"state/secrets/search\.json is missing"),
        (good, None, "is no backup of TekUp MCP"),
        ({"manifest.json": json.dumps({"format": 3}).encode()}, None, "manifest makes no sense"),
    )):  # fmt: skip
        folder = tmp_path / f"read-{number}"
        folder.mkdir()
        with pytest.raises(BackupRefused, match=said):
            read(crafted(files, key, entries, head), key, folder, HERE)


def test_the_hold_locks_every_folder_and_lets_go(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    fd = os.open(inner, os.O_RDONLY)
    try:
        with held(tmp_path, 5) as until:
            assert until > time.monotonic()
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with held(tmp_path, 0.05) as until:
            assert until == 0, "a writer that does not end is not waited for longer than was said"
    finally:
        os.close(fd)
