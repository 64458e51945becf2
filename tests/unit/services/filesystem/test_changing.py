"""Writing, moving, deleting: whole or not at all, and never more than was said."""

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.common.paths import PathError
from services.filesystem.changing import edit_file, move, write_file
from services.filesystem.edits import Edit, EditError
from services.filesystem.trash import delete

if TYPE_CHECKING:
    from tests.unit.services.filesystem.conftest import World

pytestmark = pytest.mark.feature("B2")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_gets_its_folders_and_replaces_nothing(world: "World") -> None:
    assert write_file(world.place("a/b/c.txt"), b"one", overwrite=False)
    with pytest.raises(PathError, match="overwrite=true"):
        write_file(world.place("a/b/c.txt"), b"two", overwrite=False)
    assert (world.root / "a/b/c.txt").read_bytes() == b"one"
    assert not write_file(world.place("a/b/c.txt"), b"two", overwrite=True)
    assert (world.root / "a/b/c.txt").read_bytes() == b"two"
    assert names(world.root / "a/b") == ["c.txt"]


def test_a_replaced_file_keeps_its_mode(world: "World") -> None:
    script = world.root / "run.sh"
    script.write_text("old")
    script.chmod(0o4751)
    write_file(world.place("run.sh"), b"new", overwrite=True)
    assert stat.S_IMODE(script.stat().st_mode) == 0o4751


def test_a_read_only_file_and_a_link_are_not_replaced(world: "World") -> None:
    (world.root / "fixed").write_text("old")
    (world.root / "fixed").chmod(0o444)
    (world.root / "link").symlink_to(world.outside / "secret.txt")
    for name in ("fixed", "link"):
        with pytest.raises(PathError):
            write_file(world.place(name), b"new", overwrite=True)
    assert (world.root / "fixed").read_text() == "old"
    assert (world.outside / "secret.txt").read_text() == "the secret\n"
    assert names(world.root) == ["fixed", "link"]


def test_nothing_is_written_outside(world: "World") -> None:
    (world.root / "link").symlink_to(world.outside)
    for path in ("../root-outside/new", "link/new", "link/deep/new", "../new"):
        with pytest.raises(PathError):
            write_file(world.place(path), b"x", overwrite=True)
    assert names(world.outside) == ["secret.txt"]


def test_a_dry_run_shows_the_diff_and_changes_nothing(world: "World") -> None:
    (world.root / "file").write_text("one\n")
    diff = edit_file(world.place("file"), [Edit("one", "two")], dry_run=True)
    assert "-one\n+two\n" in diff
    assert (world.root / "file").read_text() == "one\n"
    assert edit_file(world.place("file"), [Edit("one", "two")], dry_run=False) == diff
    assert (world.root / "file").read_text() == "two\n"
    with pytest.raises(EditError):
        edit_file(world.place("file"), [Edit("one", "two")], dry_run=False)
    with pytest.raises(PathError, match="does not exist"):
        edit_file(world.place("missing"), [Edit("one", "two")], dry_run=False)


def test_fifty_edits_at_once_all_survive(world: "World") -> None:
    (world.root / "file").write_text("".join(f"line {number:02}.\n" for number in range(50)))

    def edit(number: int) -> None:
        edit_file(world.place("file"), [Edit(f"line {number:02}.", f"done {number:02}.")], dry_run=False)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(edit, range(50)))
    assert (world.root / "file").read_text() == "".join(f"done {number:02}.\n" for number in range(50))


WRITER = """
import sys
from services.common.paths import Roots
from services.filesystem.changing import write_file
place = Roots.of([sys.argv[1]]).locate("file")
for turn in range(1_000_000):
    write_file(place, (b"ab"[turn % 2 : turn % 2 + 1]) * 300_000, overwrite=True)
    print(turn, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    for turns in (1, 7):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout as said:
            for _ in range(turns):
                said.readline()
            writer.kill()
        writer.wait()
        content = (tmp_path / "file").read_bytes()
        assert content in (b"a" * 300_000, b"b" * 300_000)


def test_moving_replaces_only_when_told_and_moves_the_link_itself(world: "World") -> None:
    (world.root / "a").write_text("a")
    (world.root / "b").write_text("b")
    (world.root / "link").symlink_to("a")
    with pytest.raises(PathError, match="overwrite=true"):
        move(world.place("a"), world.place("b"), overwrite=False)
    assert (world.root / "b").read_text() == "b"
    move(world.place("link"), world.place("deep/moved"), overwrite=False)
    assert (world.root / "deep/moved").is_symlink()
    move(world.place("a"), world.place("b"), overwrite=True)
    assert (world.root / "b").read_text() == "a"
    with pytest.raises(PathError, match="into itself"):
        move(world.place("deep"), world.place("deep/inner"), overwrite=False)
    with pytest.raises(PathError, match="does not exist"):
        move(world.place("missing"), world.place("c"), overwrite=False)
    with pytest.raises(PathError):
        move(world.place("b"), world.place("../root-outside/b"), overwrite=False)


def test_deleting_is_recursive_only_when_told_and_never_follows_a_link(world: "World") -> None:
    (world.root / "folder/inner").mkdir(parents=True)
    (world.root / "folder/inner/file").touch()
    (world.root / "folder/link").symlink_to(world.outside)
    with pytest.raises(PathError, match="recursive=true"):
        delete(world.place("folder"), recursive=False, permanent=True)
    assert delete(world.place("folder/link"), recursive=True, permanent=True).kind == "link"
    (world.root / "folder/link").symlink_to(world.outside)
    assert delete(world.place("folder"), recursive=True, permanent=True).kind == "folder"
    assert names(world.root) == []
    assert names(world.outside) == ["secret.txt"]
    for path in (".", "..", "missing"):
        with pytest.raises(PathError):
            delete(world.place(path), recursive=True, permanent=True)
