"""Answers, memory and time are bounded, whatever lies in a root; a full disk changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from services.common.paths import PathError, Roots
from services.filesystem.changing import edit_file, move, write_file
from services.filesystem.copying import copy
from services.filesystem.edits import Edit
from services.filesystem.manyedits import FileEdits, edit_files
from services.filesystem.trash import delete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.services.conftest import Instance, Said, Session, Starter

pytestmark = [pytest.mark.local, pytest.mark.feature("B2")]

BUDGET = 64 << 10
ROOM = 1024
"""For notes around the text of an answer."""


def _tree(root: Path, files: int, per_folder: int = 1000) -> None:
    for folder in range(-(-files // per_folder)):
        (root / f"folder-{folder:04}").mkdir(parents=True)
        fd = os.open(root / f"folder-{folder:04}", os.O_RDONLY)
        for number in range(min(per_folder, files - folder * per_folder)):
            os.close(os.open(f"file-{number:05}.txt", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd))
        os.close(fd)


def _peak_mb(instance: Instance) -> float:
    """The most memory the instance had so far."""
    status = Path(f"/proc/{instance.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


class Measured:
    """Calls that are timed, and held to the budget."""

    def __init__(self, session: Session, instance: Instance) -> None:
        self.session = session
        self.instance = instance
        self.before_mb = _peak_mb(instance)
        self.rows: list[tuple[str, float, float]] = []

    async def call(self, tool: str, **arguments: object) -> Said:
        began = time.monotonic()
        said = await self.session.call(f"filesystem_{tool}", **arguments)
        took = time.monotonic() - began
        assert not said.error, said.error
        assert len(said.text.encode()) <= BUDGET + ROOM, tool
        assert len(said.result.model_dump_json()) <= 3 * BUDGET, tool
        self.rows.append((f"{tool} {arguments}"[:90], took, _peak_mb(self.instance) - self.before_mb))
        return said

    def hold(self, *, seconds: float, grown_mb: float) -> None:
        for name, took, grown in self.rows:
            print(f"{name:92} {took:7.2f} s  +{grown:.0f} MB")
        assert max(took for _, took, _ in self.rows) < seconds
        assert self.rows[-1][2] < grown_mb


async def _hold_tree(starter: Starter, folder: Path, files: int, *, seconds: float, grown_mb: float) -> None:
    _tree(folder, files)
    instance = starter.start("filesystem", MCP_FILESYSTEM_ROOTS=folder)
    async with instance.session() as session:
        measured = Measured(session, instance)
        found = await measured.call("find_files", path=".", pattern="*.txt")
        assert (found.facts["matched"], found.facts["complete"]) == (files, True)
        assert found.facts["returned"] < files
        further = await measured.call(
            "find_files", path=".", pattern="*.txt", after=found.facts["next_after"], order="name"
        )
        assert further.facts["matched"] == files
        await measured.call("find_files", path=".", pattern="*.txt", order="modified")
        assert (await measured.call("directory_size", path=".")).facts["files"] == files
        assert (await measured.call("tree", path=".")).facts["next_after"]
        assert (await measured.call("list_directory", path="folder-0000")).facts["total"] == 1000
        assert (await measured.call("search_content", path=".", pattern="x")).facts["matched"] == 0
        measured.hold(seconds=seconds, grown_mb=grown_mb)


async def _hold_file(starter: Starter, folder: Path, size: int, line: int, *, seconds: float, grown_mb: float) -> None:
    """A sparse file of `size` bytes that ends in text, and one of a single line of `line` bytes."""
    with (folder / "large.txt").open("wb") as file:
        file.write(b"first\n")
        for start in range(1 << 20, size, 64 << 20):
            file.seek(start)
            file.write(b"text\n")
        file.seek(size - 5)
        file.write(b"last\n")
    with (folder / "line.txt").open("wb") as file:
        for _ in range(line >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b"needle\nafter\n")
    instance = starter.start("filesystem", MCP_FILESYSTEM_ROOTS=folder)
    async with instance.session() as session:
        measured = Measured(session, instance)
        await measured.call("read_bytes", path="large.txt", offset=size - 5)
        await measured.call("stat", path="large.txt", sha256=True)
        first = await measured.call("read_file", path="line.txt")
        assert first.facts["next_offset"] == 2
        assert f"has {(line >> 20 << 20) + 7} bytes" in first.facts["note"]
        assert (await measured.call("read_file", path="line.txt", offset=2)).text == "after"
        assert (await measured.call("read_file", path="line.txt", tail=1)).text == "after"
        await measured.call("read_bytes", path="line.txt", offset=line >> 1)
        found = await measured.call("search_content", path="line.txt", pattern="needle")
        assert found.facts["matched"] == 1
        refused = await session.call(
            "filesystem_edit_file", path="large.txt", edits=[{"old_text": "a", "new_text": "b"}]
        )
        assert "larger than 16 MiB" in refused.error
        await measured.call("read_file", path="large.txt", tail=1)
        measured.hold(seconds=seconds, grown_mb=grown_mb)


async def test_a_tree_of_thousands_is_answered_in_pages(starter: Starter, tmp_path: Path) -> None:
    await _hold_tree(starter, tmp_path, 5_000, seconds=10, grown_mb=100)


async def test_a_long_line_and_a_large_file_are_answered_in_parts(starter: Starter, tmp_path: Path) -> None:
    await _hold_file(starter, tmp_path, 64 << 20, 8 << 20, seconds=10, grown_mb=60)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_tree_of_200_000_files_is_answered_in_pages(starter: Starter, tmp_path: Path) -> None:
    await _hold_tree(starter, tmp_path, 200_000, seconds=30, grown_mb=200)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_line_of_100_mb_and_a_file_of_2_gb_are_answered_in_parts(starter: Starter, tmp_path: Path) -> None:
    await _hold_file(starter, tmp_path, 2 << 30, 100 << 20, seconds=30, grown_mb=100)


FULL = """
import os, sys
from services.common.paths import PathError, Roots
from services.filesystem.changing import NewText, append_text, edit_file, write_file, write_text
from services.filesystem.copying import copy
from services.filesystem.edits import Edit
from services.filesystem.manyedits import FileEdits, edit_files
roots = Roots.of([sys.argv[1]])
write_file(roots.locate("file"), b"a" * 600_000, overwrite=False)
write_file(roots.locate("other"), b"b" * 1000, overwrite=False)
before = sorted(os.walk(sys.argv[1]))
grow = [Edit("a" * 600_000, "a" * 900_000)]
attempts = [
    lambda: write_file(roots.locate("deep/new"), b"c" * 900_000, overwrite=False),
    lambda: write_text(roots.locate("file"), NewText("c" * 900_000), overwrite=True),
    lambda: append_text(roots.locate("file"), NewText("c" * 500_000)),
    lambda: edit_file(roots.locate("file"), grow, dry_run=False),
    lambda: edit_files([FileEdits(roots.locate("other"), [Edit("b" * 1000, "c")]),
                        FileEdits(roots.locate("file"), grow)], dry_run=False),
    lambda: copy(roots.locate("file"), roots.locate("copy"), overwrite=False),
]
for number, attempt in enumerate(attempts):
    try:
        attempt()
    except PathError as error:
        assert "the disk is full" in str(error), error
    else:
        raise SystemExit(f"attempt {number} found room")
    assert open(f"{sys.argv[1]}/file").read() == "a" * 600_000
    assert open(f"{sys.argv[1]}/other").read() == "b" * 1000
    after = [one for one in sorted(os.walk(sys.argv[1])) if ".tekup-files" not in one[0]]
    assert [(above, sorted(set(names) - {".tekup-files"}), files) for above, names, files in after] == before, after
print("held")
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tekup-test", disk], check=False)
    if made.returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_says_so_and_changes_nothing(small_disk: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", FULL, small_disk], capture_output=True, text=True, check=False)
    assert ran.stdout == "held\n", ran.stderr
    assert psutil.disk_usage(str(small_disk)).free > 300_000


def test_a_file_system_mounted_in_a_root_is_written_to_whole_or_not_at_all(tmp_path: Path, small_disk: Path) -> None:
    roots = Roots.of([tmp_path])
    inner = roots.locate(f"{small_disk.name}/inner/file")
    write_file(inner, b"one\n", overwrite=False)
    write_file(inner, b"two\n", overwrite=True)
    edit_file(inner, [Edit("two", "three")], dry_run=False)
    assert (small_disk / "inner/file").read_bytes() == b"three\n"
    write_file(roots.locate("beside"), b"three\n", overwrite=False)
    both = [FileEdits(place, [Edit("three", "four")]) for place in (roots.locate("beside"), inner)]
    for attempt, said in (
        (lambda: edit_files(both, dry_run=False), "another file system"),
        (lambda: delete(inner, recursive=False, permanent=False), "permanent=true"),
        (lambda: move(roots.locate("beside"), roots.locate(f"{small_disk.name}/moved"), overwrite=False), "copy it"),
    ):
        with pytest.raises(PathError, match=said):
            attempt()
    assert ((tmp_path / "beside").read_bytes(), (small_disk / "inner/file").read_bytes()) == (b"three\n",) * 2
    assert copy(roots.locate("beside"), roots.locate(f"{small_disk.name}/copied"), overwrite=False).files == 1
    assert sorted(path.name for path in small_disk.rglob("*")) == ["copied", "file", "inner"]
    assert list((tmp_path / ".tekup-files/staging").iterdir()) == []
