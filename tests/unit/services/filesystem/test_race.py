"""The race against each operation itself, thousands of times, on kernels with and without openat2."""

import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from services.common.paths import Opener, PathError, Place, Roots
from services.filesystem.changing import NewText, append_text, edit_file, make_folder, move, write_file
from services.filesystem.copying import copy
from services.filesystem.edits import Edit, EditError
from services.filesystem.finding import FindLimits, TreeWish, find, size_of, tree
from services.filesystem.globs import Glob
from services.filesystem.listing import facts, list_folder
from services.filesystem.manyedits import FileEdits, edit_files, settle
from services.filesystem.ranges import read_media, read_range
from services.filesystem.reading import read_tail, read_window
from services.filesystem.storing import sweep
from services.filesystem.trash import delete, empty, listed, restore
from tests.support.swapper import SECRET, Arena, under_attack

pytestmark = pytest.mark.feature("B2")

BUDGET = 64 << 10
SWAPS = [Edit("harmless", "changed"), Edit("changed", "harmless")]
Operation = Callable[[Place, Place, int], object]
"""Done with a file that is swapped and a folder that is, and a number of its own."""

OPERATIONS: dict[str, Operation] = {
    "read_window": lambda file, _, __: read_window(file, offset=1, limit=9, numbers=False, budget_bytes=BUDGET),
    "read_tail": lambda file, _, __: read_tail(file, lines=1, numbers=True, budget_bytes=BUDGET),
    "read_range": lambda file, _, __: read_range(file, offset=0, length=99, whole_characters=True),
    "read_media": lambda file, _, __: read_media(file, most_bytes=999),
    "facts": lambda file, _, __: facts(file, sha256=True),
    "list_folder": lambda _, folder, __: list_folder(folder, after="", limit=99, budget_bytes=BUDGET),
    "by size": lambda _, folder, __: list_folder(folder, after="", limit=99, budget_bytes=BUDGET, order="size"),
    "find": lambda _, folder, __: find(folder, Glob.of("**/*"), skip=frozenset(), limits=FindLimits(paths=99)),
    "find above": lambda _, folder, __: find(
        Place(folder.root, "."), Glob.of("**/*"), skip=frozenset(), limits=FindLimits(paths=9999), order="modified"
    ),
    "tree": lambda _, folder, __: tree(Place(folder.root, "."), TreeWish(9, 9999, sizes=True), budget_bytes=1 << 20),
    "size_of": lambda _, folder, __: size_of(folder),
    "write_file": lambda file, _, __: write_file(file, b"harmless\n", overwrite=True),
    "write new": lambda _, folder, turn: write_file(folder.child(f"new-{turn}/x"), b"new", overwrite=False),
    "append_text": lambda file, _, __: append_text(file, NewText("more\n")),
    "edit_file": lambda file, _, __: edit_file(file, SWAPS, dry_run=False),
    "edit_files": lambda file, folder, __: edit_files(
        [FileEdits(file, SWAPS), FileEdits(folder.child("inner/secret.txt"), SWAPS)], dry_run=False
    ),
    "make_folder": lambda _, folder, turn: make_folder(folder.child(f"made-{turn}/inner")),
    "move out": lambda _, folder, turn: move(
        folder.child("other.txt"), Place(folder.root, f"calm/{turn}"), overwrite=False
    ),
    "move in": lambda _, folder, turn: move(
        Place(folder.root, f"calm/{turn - 1}"), folder.child(f"in-{turn}"), overwrite=True
    ),
    "copy file": lambda file, folder, turn: copy(file, Place(folder.root, f"calm/file-{turn}"), overwrite=False),
    "copy folder": lambda _, folder, turn: copy(folder, Place(folder.root, f"calm/copy-{turn}"), overwrite=False),
    "copy in": lambda _, folder, turn: copy(
        Place(folder.root, f"calm/file-{turn}"), folder.child(f"c-{turn}"), overwrite=False
    ),
    "delete": lambda file, _, __: delete(file, recursive=True, permanent=False),
    "delete for good": lambda _, folder, __: delete(folder.child("spare"), recursive=True, permanent=True),
    "restore": lambda _, folder, turn: restore(
        folder.root, listed(folder.root)[0], folder.child(f"restored-{turn}")
    ),
}  # fmt: skip


def _hold(folder: Path, opener: Opener, seconds: float) -> None:
    with under_attack(folder) as arena:
        before = arena.outside_state()
        _work(arena, opener, seconds)
    assert arena.outside_state() == before
    assert arena.leaked() == []


def _work(arena: Arena, opener: Opener, seconds: float) -> None:
    root = Roots.of([arena.root], opener)[0]
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    until = time.monotonic() + seconds
    for turn in count():
        for name, operation in OPERATIONS.items():
            file = Place(root, "file.txt" if turn % 3 == 0 else "swap/secret.txt")
            try:
                said = operation(file, Place(root, "swap"), turn)
            except (PathError, EditError, IndexError):
                refused[name] += 1
                continue
            finally:
                arena.refill()
            assert SECRET not in repr(said), name
            done[name] += 1
        if turn % 20 == 19:
            assert arena.leaked("calm") == []
            empty(root, listed(root))
            for path in (arena.root / "calm").iterdir():
                delete(Place(root, f"calm/{path.name}"), recursive=True, permanent=True)
        if time.monotonic() > until:
            break
    settle(root)
    sweep(root)
    # Both sides of the race were met, or nothing was proved.
    assert len(done) > len(OPERATIONS) // 2
    assert len(refused) > len(OPERATIONS) // 2
    print(dict(done), dict(refused))


def test_no_operation_is_led_out_in_a_second(tmp_path: Path, opener: Opener) -> None:
    _hold(tmp_path, opener, 1.5)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_no_operation_is_led_out_in_a_minute(tmp_path: Path, opener: Opener) -> None:
    _hold(tmp_path, opener, 60.0)
