"""Trees, copies, the trash and edits of many files, on kernels with and without openat2; paging loses nothing."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.paths import PathError, Roots, RootsError
from services.filesystem.changing import write_file
from services.filesystem.copying import CopyLimits, copy
from services.filesystem.edits import Edit, EditError
from services.filesystem.finding import FindLimits, TreeWish, find, size_of, tree
from services.filesystem.globs import Glob
from services.filesystem.listing import Order, list_folder
from services.filesystem.manyedits import FileEdits, edit_files
from services.filesystem.own import refuse_own
from services.filesystem.storing import STAGING, fresh_name, sweep
from services.filesystem.trash import delete, listed, purge, restore

if TYPE_CHECKING:
    from tests.unit.services.filesystem.conftest import World

pytestmark = pytest.mark.feature("B2")

NAMES = st.sampled_from(["a", "a.b", "a-b", "B", "ä", "z z", "~", "0", "-", "aa"])


def planted(folder: Path, paths: list[tuple[str, ...]]) -> Roots:
    for parts in paths:
        file = folder.joinpath(*parts)
        if any(above.is_file() for above in file.parents) or file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x" * len(parts))
    return Roots.of([folder])


@settings(max_examples=60, deadline=None)
@given(
    paths=st.lists(st.lists(NAMES, min_size=1, max_size=4).map(tuple), max_size=25),
    limit=st.integers(1, 6),
    order=st.sampled_from(["name", "size", "modified"]),
    descending=st.booleans(),
)
def test_pages_put_together_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    paths: list[tuple[str, ...]],
    limit: int,
    order: Order,
    descending: bool,
) -> None:
    folder = tmp_path_factory.mktemp("pages")
    place = planted(folder, paths).locate(".")
    everything = {str(path.relative_to(folder)) for path in folder.rglob("*")}

    whole = tree(place, TreeWish(200, 10_000), budget_bytes=1 << 20)
    lines: list[str] = []
    after: str | None = ""
    while after is not None:
        page = tree(place, TreeWish(200, limit, after), budget_bytes=1 << 20)
        lines += page.text.split("\n")[-page.entries :] if page.entries else []
        after = page.next_after
    assert lines == [line for line in whole.text.split("\n") if line]
    assert len(lines) == len(everything)

    found: list[str] = []
    after = ""
    while after is not None:
        part = find(place, Glob.of("**/*"), skip=frozenset(), limits=FindLimits(paths=limit), order=order, after=after)
        assert part.matched == len(everything)
        found += part.paths
        after = part.next_after
    assert sorted(found) == sorted(everything)

    names: list[str] = []
    after = ""
    while after is not None:
        some = list_folder(place, after=after, limit=limit, budget_bytes=1 << 20, order=order, descending=descending)
        names += [entry.name for entry in some.entries]
        after = some.next_after
    assert sorted(names) == sorted(os.listdir(folder))  # noqa: PTH208


def test_many_files_are_edited_copied_deleted_and_restored_on_every_kernel(world: "World") -> None:
    for name in ("a", "deep/b"):
        write_file(world.place(name), b"one\n", overwrite=False)
    edits = [FileEdits(world.place(name), [Edit("one", "two")]) for name in ("a", "deep/b")]
    edit_files(edits, dry_run=False)
    with pytest.raises(EditError, match="no file was changed"):
        edit_files(edits, dry_run=False)
    assert copy(world.place("deep"), world.place("other/deep"), overwrite=False).files == 1
    assert (world.root / "other/deep/b").read_text() == "two\n"
    (world.root / "out").symlink_to(world.outside)
    with pytest.raises(PathError):
        copy(world.place("out"), world.place("stolen"), overwrite=False)
    with pytest.raises(PathError):
        copy(world.place("a"), world.place("out/a"), overwrite=False)
    gone = delete(world.place("deep"), recursive=True, permanent=False)
    note = listed(world.roots[0])[0]
    assert (note.id, note.kind) == (gone.trash_id, "folder")
    with pytest.raises(PathError):
        restore(world.roots[0], note, world.place("out/deep"))
    restore(world.roots[0], note, world.place("back"))
    assert (world.root / "back/b").read_text() == "two\n"
    assert size_of(world.place(".")).files == 3
    assert sorted(path.name for path in world.outside.iterdir()) == ["secret.txt"]


def test_what_lay_in_the_trash_for_too_long_is_removed(world: "World") -> None:
    write_file(world.place("a"), b"one\n", overwrite=False)
    delete(world.place("a"), recursive=False, permanent=False)
    assert purge(world.roots[0], days=1) == 0
    assert purge(world.roots[0], days=0) == 1
    assert listed(world.roots[0]) == []


def test_a_trash_swapped_for_a_link_is_not_followed(world: "World") -> None:
    (world.root / ".tekup-files").mkdir()
    for name in ("trash", "staging", "journal"):
        (world.root / ".tekup-files" / name).symlink_to(world.outside)
    write_file(world.place("a"), b"one\n", overwrite=False)
    for attempt in (
        lambda: delete(world.place("a"), recursive=False, permanent=False),
        lambda: write_file(world.place("a"), b"two\n", overwrite=True),
        lambda: copy(world.place("."), world.place("b"), overwrite=False),
    ):
        with pytest.raises(PathError):
            attempt()
    assert (world.root / "a").read_text() == "one\n"
    assert sorted(path.name for path in world.outside.iterdir()) == ["secret.txt"]
    with pytest.raises(PathError, match="this service's own"):
        refuse_own(world.place("x/../.tekup-files/trash"))


def test_what_a_dead_writer_left_is_swept_and_what_a_living_one_holds_is_not(world: "World") -> None:
    write_file(world.place("a"), b"one\n", overwrite=False)
    write_file(world.place("a"), b"two\n", overwrite=True)
    staging = world.root / ".tekup-files" / STAGING
    (staging / fresh_name()).write_text("half")
    (staging / fresh_name()).mkdir()
    assert sweep(world.roots[0]) == 2
    assert list(staging.iterdir()) == []


def test_a_copy_that_is_too_much_is_refused_and_leaves_nothing(world: "World") -> None:
    for number in range(5):
        write_file(world.place(f"many/{number}"), b"x", overwrite=False)
    with pytest.raises(PathError, match="more than 3 entries"):
        copy(world.place("many"), world.place("new/copy"), overwrite=False, limits=CopyLimits(entries=3))
    assert not (world.root / "new").exists()


def test_a_read_only_root_inside_one_that_is_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with pytest.raises(RootsError, match="is read-only and lies in"):
        Roots.of([tmp_path], read_only=[tmp_path / "inner"])
    roots = Roots.of([tmp_path / "inner"], read_only=[tmp_path])
    assert roots.locate(f"{tmp_path}/inner/x").root.writable
    assert not roots.locate(f"{tmp_path}/x").root.writable
    narrowed = roots.narrowed([f"{tmp_path}/inner/deep"])
    assert narrowed.locate("x").root.writable
