"""No edit is lost: by many callers at once, over several instances that share a folder, and by processes that die."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from services.common.paths import Roots
from services.filesystem.manyedits import settle
from services.filesystem.storing import sweep

if TYPE_CHECKING:
    from tests.contract.services.conftest import Session, Starter

pytestmark = [pytest.mark.local, pytest.mark.feature("B2")]

EDITS = 50
FILES = ("a.txt", "deep/b.txt", "deep/er/c.txt")


async def test_fifty_edits_at_once_over_three_instances_all_survive(starter: Starter, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("".join(f"line {number:02}.\n" for number in range(EDITS)))
    (tmp_path / "many").write_text("".join(f"line {number:02}.\n" for number in range(EDITS)))
    instances = [starter.start("filesystem", MCP_FILESYSTEM_ROOTS=tmp_path) for _ in range(3)]
    errors: list[str] = []

    async def edit(session: Session, number: int) -> None:
        edits = [{"old_text": f"line {number:02}.", "new_text": f"done {number:02}."}]
        said = await session.call("filesystem_edit_file", path="file", edits=edits)
        both = await session.call("filesystem_edit_files", edits=[{"path": "many", "edits": edits}])
        errors.extend(filter(None, (said.error, both.error)))

    async with AsyncExitStack() as held:
        sessions = [await held.enter_async_context(instance.session()) for instance in instances]
        async with anyio.create_task_group() as callers:
            for number in range(EDITS):
                callers.start_soon(edit, sessions[number % 3], number)
    assert errors == []
    for name in ("file", "many"):
        assert (tmp_path / name).read_text() == "".join(f"done {number:02}.\n" for number in range(EDITS))


WRITER = """
import sys
from services.common.paths import Roots
from services.filesystem.edits import Edit
from services.filesystem.manyedits import FileEdits, edit_files, settle
roots = Roots.of([sys.argv[1]])
places = [roots.locate(name) for name in sys.argv[2:]]
for turn in range(1_000_000):
    settle(roots[0])
    old, new = (b"ab"[turn % 2], b"ab"[1 - turn % 2])
    body = (places[0], [Edit(chr(old) * 1000, chr(new) * 1000, True)])
    edit_files([FileEdits(place, body[1]) for place in places], dry_run=False)
    print(turn, flush=True)
"""


def _killed(root: Path, turns: int, after_s: float) -> None:
    """Start a process that edits the files over and over, and kill it in the middle of one edit."""
    command = [sys.executable, "-c", WRITER, str(root), *FILES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(turns):
            assert writer.stdout.readline(), "the writer ended by itself"
        try:
            writer.wait(after_s)
        except subprocess.TimeoutExpired:
            writer.send_signal(signal.SIGKILL)


def _hold(root: Path, kills: int) -> None:
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"a" * 100_000)
        (root / name).chmod(0o604)
    roots = Roots.of([root])
    for kill in range(kills):
        _killed(root, turns=1 + kill % 3, after_s=0.0007 * (kill % 13))
        settled = settle(roots[0])
        contents = {(root / name).read_bytes() for name in FILES}
        assert len(contents) == 1, f"kill {kill}: some files are edited and some are not (settled {settled})"
        assert contents <= {b"a" * 100_000, b"b" * 100_000}
        sweep(roots[0])
        assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
            ".tekup-files/.gitignore",
            *FILES,
        ]
        assert {(root / name).stat().st_mode & 0o777 for name in FILES} == {0o604}
        if contents == {b"b" * 100_000}:  # the writer begins with turning a to b
            for name in FILES:
                (root / name).write_bytes(b"a" * 100_000)


@pytest.mark.feature("B10")
def test_an_edit_of_several_files_that_is_killed_is_made_wholly_or_not_at_all(tmp_path: Path) -> None:
    _hold(tmp_path, kills=2)


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.feature("B10")
def test_two_hundred_kills_in_the_middle_of_edits_leave_no_third_thing_and_no_litter(tmp_path: Path) -> None:
    _hold(tmp_path, kills=200)


@pytest.mark.feature("B10")
async def test_an_instance_killed_while_it_writes_leaves_no_litter_after_its_restart(
    starter: Starter, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a" * 2_000_000)
    first = starter.start("filesystem", MCP_FILESYSTEM_ROOTS=tmp_path)
    answered = anyio.Event()

    async def write() -> None:
        async with first.session() as session:
            for turn in range(10_000):
                content = "ab"[turn % 2] * 2_000_000
                said = await session.call("filesystem_write_file", path="file", content=content, overwrite=True)
                if said.error or first.process.poll() is not None:
                    return
                answered.set()

    async with anyio.create_task_group() as callers:

        async def kill() -> None:
            with anyio.fail_after(60):
                await answered.wait()
            first.end(signal.SIGKILL)
            callers.cancel_scope.cancel()

        callers.start_soon(write)
        callers.start_soon(kill)
    assert set((tmp_path / "file").read_text()) in ({"a"}, {"b"})
    second = starter.start("filesystem", MCP_FILESYSTEM_ROOTS=tmp_path)
    async with second.session() as session:
        assert (await session.call("filesystem_stat", path="file")).facts["size_bytes"] == 2_000_000
    assert _names(tmp_path / ".tekup-files" / "staging") == []
    assert _names(tmp_path) == [".tekup-files", "file"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
