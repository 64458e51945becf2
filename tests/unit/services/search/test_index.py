"""The index: as fresh as the files, there after any death, shared, bounded."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from services.common.paths import Place, Roots
from services.common.ripgrep import Grep
from services.search import indexer
from services.search.courtesy import Courtesy
from services.search.indexer import State
from services.search.textindex import Document, Query, TextIndex

if TYPE_CHECKING:
    from tests.unit.services.search.conftest import Made, MakeSearch

pytestmark = [pytest.mark.feature("B4"), pytest.mark.local]

REPOSITORY = Path(__file__).parents[4]
WRITER = """
import sys
from pathlib import Path
from services.common.ripgrep import Grep
from services.search.textindex import Document, TextIndex
index = TextIndex(Path(sys.argv[1]))
for number in range(100_000):
    index.update([Document(f"f{number}.txt", (number, 1), f"word{number} common")])
    if number % 50 == 49:
        index.commit()
        print(number, flush=True)
"""


async def paths(made: Made, root: Path, query: str) -> set[str]:
    found = await made.ranked.text([Place(Roots.of([root])[0], ".")], query, limit=50)
    return {hit.path.removeprefix(f"{root}/") for hit in found.facts.hits}


async def until_watched(made: Made) -> None:
    async with asyncio.timeout(20):
        while not (await made.indexer.status()).watched:
            await asyncio.sleep(0.02)


async def test_watched_files_are_found_as_they_are_now(tree: Path, make_search: MakeSearch) -> None:
    async with make_search(tree, watch=True) as made:
        await until_watched(made)
        for number in range(5):
            (tree / "docs/guide.md").write_text(f"marmalade{number}\n")
            assert await paths(made, tree, f"marmalade{number}") == {"docs/guide.md"}
        (tree / "new").mkdir()
        (tree / "new/deep.py").write_text("pineapple = 1\n")
        assert await paths(made, tree, "pineapple") == {"new/deep.py"}
        (tree / "new").rename(tree / "other")
        assert await paths(made, tree, "pineapple") == {"other/deep.py"}
        (tree / "other/deep.py").unlink()
        assert await paths(made, tree, "pineapple") == set()


@pytest.mark.feature("B3")
async def test_an_answer_is_given_again_only_while_nothing_changed(tree: Path, make_search: MakeSearch) -> None:
    place = Place(Roots.of([tree])[0], ".")
    async with make_search(tree, watch=True) as made:
        await until_watched(made)
        first = await made.engine.grep(place, Grep(("TODO",)), limit=9)
        async with asyncio.timeout(20):  # what happened before the watch may still be told
            while (again := await made.engine.grep(place, Grep(("TODO",)), limit=9)) is not first:
                first = again
        for number in range(10):
            (tree / "docs/guide.md").write_text("TODO\n" * number)
            found = await made.engine.grep(place, Grep(("TODO",)), limit=9)
            assert found.facts.matched == 1 + number
        assert (await made.engine.grep(place, Grep(("TODO",), word=True), limit=9)) is not found


async def test_both_kinds_of_ignore_files_are_followed_as_soon_as_they_are_there(
    tree: Path, make_search: MakeSearch
) -> None:
    (tree / ".git").mkdir()
    (tree / "out").mkdir()
    (tree / "out/made.py").write_text("pineapple = 1\n")
    async with make_search(tree, watch=True) as made:
        await until_watched(made)
        assert await paths(made, tree, "pineapple") == {"out/made.py"}
        (tree / ".tekupignore").write_text("out/\n")
        assert await paths(made, tree, "pineapple") == set()
        (tree / ".tekupignore").unlink()
        assert await paths(made, tree, "pineapple") == {"out/made.py"}
        (tree / ".gitignore").write_text("out/\n")
        assert await paths(made, tree, "pineapple") == set()


async def test_a_change_of_very_many_files_holds_up_no_query(tmp_path: Path, make_search: MakeSearch) -> None:
    root = tmp_path / "root"
    await checkout(root, 600, make_search)


@pytest.mark.long
async def test_a_checkout_of_5000_files_holds_up_no_query(tmp_path: Path, make_search: MakeSearch) -> None:
    await checkout(tmp_path / "root", 5000, make_search)


def write_all(root: Path, files: int, word: str) -> None:
    root.mkdir(exist_ok=True)
    for number in range(files):
        (root / f"f{number}.py").write_text(f"{word}{number} = 1\n" * 20)


async def checkout(root: Path, files: int, make_search: MakeSearch) -> None:
    write_all(root, files, "before")
    async with make_search(root, watch=True, fresh_s=0.5) as made:
        await until_watched(made)
        write_all(root, files, "after")
        longest, found, deadline = 0.0, set[str](), time.monotonic() + 60
        while not found:
            began = time.monotonic()
            found = await paths(made, root, f"after{files - 1}")
            longest = max(longest, time.monotonic() - began)
            assert time.monotonic() < deadline
        assert found == {f"f{files - 1}.py"}
        assert longest < 5.0  # half a second and what else this machine does
        assert await paths(made, root, "before7") == set()


async def test_files_beyond_the_most_are_left_out_and_told(tree: Path, make_search: MakeSearch) -> None:
    async with make_search(tree, max_files=2) as made:
        status = await made.indexer.status()
    assert (status.files, status.skipped) == (2, {"beyond the first 2 files": ["src/writer.py"]})


@pytest.mark.parametrize("asked", [False, True])
async def test_files_are_taken_by_their_bytes_and_a_few_at_once_while_somebody_asks(
    asked: bool, tmp_path: Path, make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    put = TextIndex.update

    def seen(index: TextIndex, documents: list[Document], gone: object = ()) -> None:
        sizes.append(len(documents))
        put(index, documents)

    monkeypatch.setattr(TextIndex, "update", seen)
    monkeypatch.setattr(Courtesy, "lately", asked)
    monkeypatch.setattr(indexer, "_BATCH_BYTES", 3000)
    root = tmp_path / "root"
    root.mkdir()
    for number in range(60):
        (root / f"{number:02}.txt").write_text("word " * (200 if number < 9 else 1))
    async with make_search(root) as made:
        assert (await made.indexer.status()).files == 60
    assert sizes == [3, 3, 3, *([16, 16, 16, 3] if asked else [51])]


async def test_an_index_on_disk_is_there_again_and_catches_up(
    tree: Path, tmp_path: Path, make_search: MakeSearch
) -> None:
    async with make_search(tree, folder=tmp_path / "index") as made:
        assert await paths(made, tree, "content") == {"src/reader.py"}
    (tree / "src/reader.py").unlink()
    (tree / "src/new.py").write_text("pineapple = 1\n")
    async with make_search(tree, folder=tmp_path / "index") as made:
        assert await paths(made, tree, "content") == set()
        assert await paths(made, tree, "pineapple") == {"src/new.py"}
        assert (await made.indexer.status()).index_bytes > 0


async def test_one_process_writes_and_others_read_what_it_wrote(
    tree: Path, tmp_path: Path, make_search: MakeSearch
) -> None:
    async with (
        make_search(tree, folder=tmp_path / "index") as writer,
        make_search(tree, folder=tmp_path / "index") as reader,
    ):
        assert (writer.indexer.index.writable, reader.indexer.index.writable) == (True, False)
        (tree / "src/new.py").write_text("pineapple = 1\n")
        assert await paths(writer, tree, "pineapple") == {"src/new.py"}
        assert await paths(reader, tree, "pineapple") == {"src/new.py"}
        writer.indexer.index.close()
        assert reader.indexer.index.writable


async def test_files_are_searched_themselves_while_another_process_builds(
    tree: Path, tmp_path: Path, make_search: MakeSearch
) -> None:
    writer = TextIndex(tmp_path / "index")
    async with make_search(tree, folder=tmp_path / "index") as made:
        told = await made.ranked.text([Place(made.indexer.root, ".")], "content", limit=5)
        assert (told.facts.layers, told.facts.returned) == (("ripgrep",), 1)
        status = await made.indexer.status()
        assert (status.state, status.files) == (State.BUILDING, 0)
        assert status.to_do > 1
        writer.close()
        assert await made.indexer.refresh(60)
        assert await paths(made, tree, "content") == {"src/reader.py"}


def test_the_index_of_another_layout_goes_when_nobody_writes_it(tmp_path: Path) -> None:
    (tmp_path / "index/layout-0/words").mkdir(parents=True)
    (tmp_path / "index/files-1.sqlite").write_text("of the first layout")
    with (tmp_path / "index/layout-0/owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        TextIndex(tmp_path / "index").close()
        assert {path.name for path in (tmp_path / "index").iterdir()} == {"layout-0", "layout-2"}
    TextIndex(tmp_path / "index").close()
    assert {path.name for path in (tmp_path / "index").iterdir()} == {"layout-2"}


@pytest.mark.feature("B10")
@pytest.mark.parametrize("after", [50, 350])
def test_an_index_killed_while_it_was_written_opens_again_with_nothing_wrong_in_it(tmp_path: Path, after: int) -> None:
    folder = tmp_path / "index"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= after:
            break
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    index = TextIndex(folder)
    known = index.files()
    assert len(known) >= after
    # What is listed is found; what is not is put in again under its path, and is there once.
    index.update([Document(f"f{number}.txt", (number, 1), f"word{number} common") for number in range(after + 200)])
    index.commit()
    for number in (0, after, after + 199):
        chunks, total = index.search(Query([f"word{number}"]), limit=5)
        assert ([chunk.path for chunk in chunks], total) == ([f"f{number}.txt"], 1)
    index.close()


@pytest.mark.feature("B10")
def test_a_damaged_index_is_begun_anew(tmp_path: Path) -> None:
    index = TextIndex(tmp_path / "index")
    index.update([Document("a.txt", (1, 1), "pineapple")])
    index.commit()
    index.close()
    for path in (tmp_path / "index").rglob("*"):
        if path.is_file() and path.name != "owner":
            path.write_bytes(b"damaged" * 1000)
    again = TextIndex(tmp_path / "index")
    assert (again.files(), again.search(Query(["pineapple"]), limit=1)) == ({}, ([], 0))
    again.update([Document("a.txt", (1, 1), "pineapple")])
    again.commit()
    assert again.search(Query(["pineapple"]), limit=1)[1] == 1
    again.close()


def test_the_memory_of_an_index_is_bounded(tmp_path: Path) -> None:
    index = TextIndex(tmp_path / "index")
    before = psutil.Process().memory_info().rss
    text = "\n".join(f"def name_{number}(argument): return other_{number}" for number in range(100))
    for number in range(2000):
        index.update([Document(f"f{number}.py", (1, number), text.replace("name", f"name{number}"))])
    index.commit()
    assert index.counts()[0] == 2000
    assert psutil.Process().memory_info().rss - before < 250 << 20
    index.close()


def dividers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "anyio.to_process" in child.cmdline()]


async def test_many_files_are_divided_beside_and_here_when_that_process_dies(
    tmp_path: Path, make_search: MakeSearch
) -> None:
    many = tmp_path / "many"
    many.mkdir()

    def written(word: str) -> None:
        lines = "\n".join(f"readFile = old_value_{line}  # ünïcode" for line in range(100))
        for number in range(400):
            (many / f"f{number}.py").write_text(f"def {word}{number}():\n    pass\n{lines}\n")

    written("pineapple")
    async with make_search(many) as made:
        here = TextIndex()
        here.update([Document(path.name, (1, 1), path.read_text()) for path in many.iterdir()])
        here.commit()
        assert made.indexer.index.counts() == here.counts()
        assert "f399.py" in await paths(made, many, "pineapple399")

        written("marmalade")
        refreshed = asyncio.create_task(made.indexer.refresh(100, everything=True))
        async with asyncio.timeout(60):
            while not 0 < made.indexer.to_do < 380:
                await asyncio.sleep(0)
        for process in dividers():
            process.kill()
        assert await refreshed
        for number in (0, 200, 399):
            assert await paths(made, many, f"marmalade{number}") == {f"f{number}.py"}
        assert made.indexer.index.counts() == here.counts()
