"""The search as its callers see it."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.common.paths import PathError, Place, Roots
from services.common.ripgrep import Grep, Hit
from services.common.targets import clip_line, confirmed, opened_target
from services.search.names import rank_names
from services.search.snippets import passage
from services.search.textindex import query_words

if TYPE_CHECKING:
    from tests.unit.services.search.conftest import MakeEngine

pytestmark = [pytest.mark.feature("B3"), pytest.mark.local]


def place(root: Path, path: str = ".") -> Place:
    return Roots.of([root]).locate(path)


async def test_grep_answers_with_paths_lines_and_exact_counts(tree: Path, make_engine: "MakeEngine") -> None:
    async with make_engine(tree, index=False) as engine:
        found = await engine.grep(place(tree), Grep(("TODO",)), limit=1)
        assert (found.outcome, found.matched, found.returned, found.omitted) == ("complete", 2, 1, 1)
        assert [file.path for file in found.files] == [f"{tree}/docs/guide.md"]
        inside = await engine.grep(place(tree, "src"), Grep(("TODO",), context=1), limit=10)
        (file,) = inside.files
        assert file.path == f"{tree}/src/writer.py"
        assert [(line.number, line.match) for line in file.lines] == [(1, False), (2, True), (3, False)]
        one = await engine.grep(place(tree, "src/writer.py"), Grep(("fsync",)), limit=10)
        assert [file.path for file in one.files] == [f"{tree}/src/writer.py"]
        assert (await engine.grep(place(tree), Grep(("zzz",)), limit=1)).outcome == "no match"


async def test_an_answer_stays_within_its_budget_and_counts_what_it_left_out(
    tmp_path: Path, make_engine: "MakeEngine"
) -> None:
    (tmp_path / "file").write_text(("x" * 300 + "\n") * 1000)
    async with make_engine(tmp_path, index=False, answer_bytes=4096) as engine:
        found = await engine.grep(place(tmp_path), Grep(("x",)), limit=1000)
    assert len(found.model_dump_json()) < 5000
    assert (found.matched, found.returned + found.omitted) == (1000, 1000)


@pytest.mark.parametrize("path", ["..", "link", "missing", "../other/secret"])
async def test_nothing_outside_the_root_is_searched(tree: Path, make_engine: "MakeEngine", path: str) -> None:
    (tree.parent / "other").mkdir()
    (tree.parent / "other/secret").write_text("secret")
    (tree / "link").symlink_to("../other")
    async with make_engine(tree, index=False) as engine:
        with pytest.raises(PathError):
            await engine.grep(place(tree, path), Grep(("secret",)), limit=10)
        assert (await engine.grep(place(tree), Grep(("secret",)), limit=10)).matched == 0


async def test_what_ripgrep_read_outside_the_root_is_not_passed_on(tree: Path) -> None:
    (tree.parent / "secret").write_text("the secret\n")
    (tree / "swapped").symlink_to(tree.parent / "secret")
    (tree / "wide").write_text("in sixteen bits\n", encoding="utf-16")
    async with opened_target(place(tree)) as target:
        hit = Hit("swapped", 1, b"the secret\n", 0, 0)
        assert confirmed(target, "swapped", [hit]) == []
        assert confirmed(target, "docs/guide.md", [Hit("docs/guide.md", 1, b"# Guide\n", 0, 0)])
        assert confirmed(target, "wide", [Hit("wide", 1, b"in sixteen bits\n", 0, 0)])


@pytest.mark.feature("B10")
async def test_a_search_past_its_deadline_is_called_partial(tmp_path: Path, make_engine: "MakeEngine") -> None:
    for number in range(200):
        (tmp_path / f"{number}").write_bytes(b"needle\n" * 20_000)
    async with make_engine(tmp_path, index=False, search_s=0.03) as engine:
        found = await engine.grep(place(tmp_path), Grep(("needle",)), limit=5)
    assert found.outcome == "timed out, partial"


async def test_names_are_found_by_typing_errors_and_by_glob(tree: Path, make_engine: "MakeEngine") -> None:
    async with make_engine(tree, index=False) as engine:
        fuzzy = await engine.files(place(tree), "raeder.py", "fuzzy", limit=1)
        assert [hit.path for hit in fuzzy.files] == [f"{tree}/src/reader.py"]
        assert fuzzy.matched == fuzzy.returned + fuzzy.omitted
        globbed = await engine.files(place(tree), "*.py", "glob", limit=10)
        assert [hit.path for hit in globbed.files] == [f"{tree}/src/reader.py", f"{tree}/src/writer.py"]
        assert (await engine.files(place(tree), "qqqqqqq", "fuzzy", limit=10)).outcome == "no match"


def test_a_name_counts_more_than_a_folder() -> None:
    ranked = rank_names("gateway", ["gateway/readme.md", "src/gateway.py", "docs/other.md"])
    assert [hit.path for hit in ranked] == ["src/gateway.py", "gateway/readme.md"]


@pytest.mark.feature("B4")
async def test_words_are_ranked_by_the_index_and_identifiers_are_split(tree: Path, make_engine: "MakeEngine") -> None:
    async with make_engine(tree) as engine:
        found = await engine.text([place(tree)], "read file content", limit=5)
        assert found.layers == ("index",)
        assert found.hits[0].path == f"{tree}/src/reader.py"
        assert "readFileContent" in found.hits[0].text
        assert (found.matched, found.returned + found.omitted) == (3, 3)
        within = await engine.text([place(tree, "docs")], "read file", limit=5)
        assert {hit.path for hit in within.hits} == {f"{tree}/docs/guide.md"}
        one = await engine.text([place(tree, "src/writer.py")], "path", limit=5)
        assert {hit.path for hit in one.hits} == {f"{tree}/src/writer.py"}
        assert (await engine.text([place(tree)], "nowhere", limit=5)).outcome == "no match"
        assert (await engine.text([place(tree)], '" OR (*) NEAR: ^', limit=5)).outcome in ("complete", "no match")


@pytest.mark.feature("B4")
async def test_a_change_is_found_by_the_next_search(tree: Path, make_engine: "MakeEngine") -> None:
    async with make_engine(tree) as engine:
        (tree / "docs/guide.md").write_text("the marmalade chapter\n")
        (tree / "src/new.py").write_text("marmalade = 1\n")
        (tree / "src/reader.py").unlink()
        found = await engine.text([place(tree)], "marmalade", limit=5)
        assert {hit.path for hit in found.hits} == {f"{tree}/docs/guide.md", f"{tree}/src/new.py"}
        gone = await engine.text([place(tree)], "readFileContent", limit=5)
        assert f"{tree}/src/reader.py" not in {hit.path for hit in gone.hits}


@pytest.mark.feature("B4")
async def test_without_an_index_ripgrep_answers_and_it_is_said(tree: Path, make_engine: "MakeEngine") -> None:
    async with make_engine(tree, index=False) as engine:
        found = await engine.text([place(tree)], "write file", limit=2)
        assert found.layers == ("ripgrep",)
        assert found.hits[0].path == f"{tree}/src/writer.py"
        assert found.matched == found.returned + found.omitted
        status = await engine.indexers[0].status()
        assert (status.state, status.files) == ("building", 0)


async def test_large_and_binary_files_are_counted_as_skipped(tree: Path, make_engine: "MakeEngine") -> None:
    (tree / "large.txt").write_text("word " * 300_000)
    (tree / "binary").write_bytes(b"\0word")
    async with make_engine(tree) as engine:
        status = await engine.indexers[0].status()
    assert (status.state, status.files, status.skipped) == ("ready", 3, 2)


def test_long_lines_are_cut_around_the_match() -> None:
    line = b"a" * 1000 + b"needle" + b"b" * 1000
    shown = clip_line(line, 1000)
    assert "needle" in shown
    assert len(shown) < 410
    assert clip_line("æ".encode() * 10 + b"\r\n", 2) == "æ" * 10


def test_a_passage_holds_the_lines_with_most_words() -> None:
    text = "\n".join(["filler"] * 20 + ["alpha", "beta gamma"] + ["filler"] * 18)
    found = passage(text, 41, query_words("alpha gamma"))
    assert found.first_line <= 61
    assert found.last_line >= 62
