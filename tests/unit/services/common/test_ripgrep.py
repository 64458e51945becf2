"""Ripgrep as a child: no pattern is an option, nothing waits, nothing stays behind, nothing is passed off as all."""

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from services.common.ripgrep import BadPattern, Grep, Hits, Ripgrep, RipgrepError

pytestmark = [pytest.mark.feature("B3"), pytest.mark.local]


@contextmanager
def folder_of(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_PATH)
    try:
        yield fd
    finally:
        os.close(fd)


async def grep(
    rg: Ripgrep, root: Path, *patterns: str, keep: int = 1000, deadline_s: float = 20, **how: object
) -> Hits:
    with folder_of(root) as fd:
        return await rg.grep(fd, "./", Grep(patterns, **how), keep=keep, deadline_s=deadline_s)  # type: ignore[arg-type]


def shown(hits: Hits) -> list[tuple[str, int]]:
    return [(hit.path, hit.number) for hit in hits.lines]


def expected_from(rg: Ripgrep, root: Path, pattern: str, option: str) -> list[tuple[bytes, ...]]:
    options = ["--no-config", "--smart-case", "--line-number", "--no-heading", "--with-filename", "--sort=path", option]
    command = [rg.binary, *options, "-e", pattern, "--", "./"]
    plain = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return [tuple(line.split(b":", 2)[:2]) for line in plain.stdout.splitlines()]


async def test_matches_are_those_of_ripgrep_itself(rg: Ripgrep) -> None:
    root = Path(__file__).parents[4] / "services"
    chance = random.Random(7)
    words = list({word for path in root.rglob("*.py") for word in path.read_text().split() if len(word) < 30})
    patterns = [(chance.choice(words), True) for _ in range(40)]
    patterns += [(pattern, False) for pattern in (r"def \w+\(", r"^\s*$", r"(a|b)+c", r"\bself\b.*=", "import$")]
    for pattern, literal in patterns:
        expected = expected_from(rg, root, pattern, "--fixed-strings" if literal else "--no-fixed-strings")
        found = await grep(rg, root, pattern, literal=literal, keep=10**6)
        assert [(b"./" + os.fsencode(hit.path), b"%d" % hit.number) for hit in found.lines] == expected, pattern
        assert found.matched == len(expected)


@pytest.mark.parametrize(
    "pattern",
    ["-v", "--pre=/bin/sh", "--files", "-f/etc/passwd", "--", "-", "", "$(id)", "`id`", "a" * 3000, "é\u2028"],
)
async def test_a_pattern_is_never_an_option(rg: Ripgrep, tmp_path: Path, pattern: str) -> None:
    (tmp_path / "file").write_text(f"before\n{pattern}\nafter\n")
    found = await grep(rg, tmp_path, pattern, literal=True)
    assert ("file", 2) in shown(found)
    assert found.matched == (3 if pattern in ("",) else 1)


@pytest.mark.parametrize("glob", ["--pre=x", "-v", "$(id)"])
async def test_a_glob_is_never_an_option(rg: Ripgrep, tree: Path, glob: str) -> None:
    assert (await grep(rg, tree, "TODO", globs=(glob,))).matched == 0


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "a{1000}{1000}{1000}", "\\p{nothing}", "a\\nb", "a\0b", "(?=look)"])
async def test_a_bad_pattern_is_an_error_of_its_own(rg: Ripgrep, tree: Path, pattern: str) -> None:
    with pytest.raises(BadPattern):
        await grep(rg, tree, pattern)


async def test_a_bad_glob_is_named(rg: Ripgrep, tree: Path) -> None:
    with pytest.raises(BadPattern, match="unclosed character class"):
        await grep(rg, tree, "x", globs=("[",))


async def test_no_match_is_complete_and_empty(rg: Ripgrep, tree: Path) -> None:
    found = await grep(rg, tree, "nowhere to be found")
    assert (found.matched, found.lines, found.complete) == (0, [], True)


async def test_a_catastrophic_regex_is_not_one(rg: Ripgrep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a" * 100_000 + "!\n")
    assert (await grep(rg, tmp_path, "(a+)+$", deadline_s=10)).complete


async def test_all_are_counted_when_few_are_kept(rg: Ripgrep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x\n" * 5000)
    found = await grep(rg, tmp_path, "x", keep=3, context=1)
    assert (found.matched, found.files) == (5000, 1)
    assert sum(hit.start is not None for hit in found.lines) == 3


async def test_a_line_of_many_megabytes_is_counted_and_memory_stays_bounded(rg: Ripgrep, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"needle" + b"x" * 30_000_000 + b"\nneedle\n")
    found = await grep(rg, tmp_path, "needle")
    assert found.matched == 2
    assert [hit.number for hit in found.lines] == [2]


async def test_a_match_at_more_places_than_can_be_read_is_shown(rg: Ripgrep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * 300_000 + "\n")
    found = await grep(rg, tmp_path, "x|", multiline=True)
    (hit,) = found.lines
    assert (hit.path, hit.number, found.matched) == ("file", 1, 1)
    assert hit.columns == tuple(range(len(hit.columns)))
    assert len(hit.columns) > 100_000


async def test_what_is_not_utf8_comes_back_as_it_is(rg: Ripgrep, tmp_path: Path) -> None:
    (tmp_path / "latin-\udce9").write_bytes(b"caf\xe9 here\n")
    (hit,) = (await grep(rg, tmp_path, "here")).lines
    assert (hit.path, hit.text, hit.start) == ("latin-\udce9", b"caf\xe9 here\n", 5)


@pytest.fixture
async def stuck(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder with a pipe nobody writes to: whoever reads it waits."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("here\n")
    yield tmp_path
    left = [child for child in psutil.Process().children(recursive=True) if child.name() == "rg"]
    assert left == []


@pytest.mark.feature("B10")
async def test_at_the_deadline_ripgrep_is_killed_and_the_answer_is_not_called_complete(
    rg: Ripgrep, stuck: Path
) -> None:
    with folder_of(stuck) as fd:
        found = await rg.grep(fd, "./pipe", Grep(("here",)), keep=10, deadline_s=0.3)
    assert not found.complete


@pytest.mark.feature("B10")
async def test_a_cancelled_search_leaves_no_process(rg: Ripgrep, stuck: Path) -> None:
    with folder_of(stuck) as fd:
        running = asyncio.create_task(rg.grep(fd, "./pipe", Grep(("here",)), keep=10, deadline_s=60))
        async with asyncio.timeout(5):
            while "rg" not in [child.name() for child in psutil.Process().children()]:
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(RipgrepError, match="cannot be run"):
        await grep(Ripgrep(str(tmp_path / "rg")), tmp_path, "x")


async def test_files_lists_what_is_not_ignored(rg: Ripgrep, tree: Path) -> None:
    with folder_of(tree) as fd:
        names, complete = await rg.files(fd, deadline_s=10)
        globbed, _ = await rg.files(fd, globs=("*.md",), deadline_s=10)
    assert (sorted(names), complete) == (["docs/guide.md", "src/reader.py", "src/writer.py"], True)
    assert globbed == ["docs/guide.md"]
