"""Listing and finding: sorted, bounded, counted, links not followed."""

import os
from typing import TYPE_CHECKING

import pytest

from services.common.paths import PathError
from services.filesystem.finding import FindLimits, Found, find
from services.filesystem.globs import Glob, GlobError
from services.filesystem.listing import facts, list_folder

if TYPE_CHECKING:
    from tests.unit.services.filesystem.conftest import World

pytestmark = pytest.mark.feature("B2")


def search(world: "World", pattern: str, limits: FindLimits | None = None, skip: frozenset[str] = frozenset()) -> Found:
    return find(world.place("."), Glob.of(pattern), skip=skip, limits=limits or FindLimits(paths=1000))


def test_pages_of_a_folder_are_sorted_and_complete(world: "World") -> None:
    names = sorted(f"f{number:03}" for number in range(95))
    for name in names:
        (world.root / name).write_text("x")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = list_folder(world.place("."), after=after, limit=10, budget_bytes=65536)
        assert page.total == 95
        seen += [entry.name for entry in page.entries]
        after = page.next_after
    assert seen == names


def test_a_page_stays_within_the_budget(world: "World") -> None:
    for number in range(40):
        (world.root / f"{number:02}{'x' * 200}").touch()
    page = list_folder(world.place("."), after="", limit=1000, budget_bytes=1500)
    assert 0 < len(page.entries) < 10
    assert page.next_after == page.entries[-1].name


def test_kinds_and_sizes_are_those_of_the_entry_itself(world: "World") -> None:
    (world.root / "file").write_text("four")
    (world.root / "folder").mkdir()
    (world.root / "link").symlink_to(world.outside / "secret.txt")
    os.mkfifo(world.root / "pipe")
    (world.root / "latin-\udce9").mkdir()
    page = list_folder(world.place("."), after="", limit=100, budget_bytes=65536)
    assert [(entry.name, entry.kind, entry.size_bytes) for entry in page.entries] == [
        ("file", "file", 4),
        ("folder", "folder", None),
        ("latin-\\udce9", "folder", None),
        ("link", "link", None),
        ("pipe", "other", None),
    ]


def test_facts_do_not_tell_where_a_link_out_of_the_root_leads(world: "World") -> None:
    (world.root / "file").write_text("four")
    (world.root / "link").symlink_to(world.outside / "secret.txt")
    found = facts(world.place("link"))
    assert found.kind == "link"
    assert str(world.outside) not in str(found.links_to)
    assert (facts(world.place("file")).kind, facts(world.place("file")).size_bytes) == ("file", 4)
    assert facts(world.place(".")).kind == "folder"
    with pytest.raises(PathError, match="does not exist"):
        facts(world.place("missing"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.py", ["a.py", "src/b.py", "src/deep/c.py"]),
        ("src/*.py", ["src/b.py"]),
        ("src/**/*.py", ["src/b.py", "src/deep/c.py"]),
        ("**/deep/**", ["src/deep", "src/deep/c.py", "src/deep/d.ts"]),
        ("**/*.{ts,md}", ["read.md", "src/deep/d.ts"]),
        ("*/deep", ["src/deep"]),
        ("[ab].py", ["a.py", "src/b.py"]),
        ("nothing", []),
    ],
)
def test_globs_find_what_they_say(world: "World", pattern: str, expected: list[str]) -> None:
    for name in ("a.py", "read.md", "src/b.py", "src/deep/c.py", "src/deep/d.ts"):
        (world.root / name).parent.mkdir(parents=True, exist_ok=True)
        (world.root / name).touch()
    (world.root / "out").symlink_to(world.outside)
    assert list(search(world, pattern).paths) == expected


def test_counts_are_exact_and_an_unfinished_search_says_so(world: "World") -> None:
    for number in range(30):
        (world.root / f"{number:02}.txt").touch()
    found = search(world, "*.txt", FindLimits(paths=10))
    assert (len(found.paths), found.matched, found.complete) == (10, 30, True)
    assert not search(world, "*.txt", FindLimits(paths=10, entries=20)).complete


def test_skipped_folders_are_not_looked_into_and_links_not_followed(world: "World") -> None:
    (world.root / "node_modules").mkdir()
    (world.root / "node_modules/secret.txt").touch()
    (world.root / "link").symlink_to(world.outside)
    assert search(world, "secret.txt", skip=frozenset({"node_modules"})).paths == ()


def test_a_very_deep_tree_is_not_followed_for_ever(world: "World") -> None:
    fd = os.open(world.root, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    assert not search(world, "x").complete


@pytest.mark.parametrize("pattern", ["", "/", "x" * 2000, "../x", "{a,b}" * 10])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(GlobError):
        Glob.of(pattern)


def test_no_pattern_makes_matching_slow() -> None:
    assert not Glob.of("**/" * 100 + "*a*a*a*a*a*a*b").matches("/".join(["a" * 200] * 100))
