"""What grep answers is what ripgrep itself says, line for line, whatever the pattern."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import string
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.common.paths import Place, Roots
from services.common.ripgrep import BadPattern, Grep, Ripgrep

if TYPE_CHECKING:
    from services.search.answers import Matches
    from services.search.engine import Engine
    from tests.unit.services.search.conftest import MakeSearch

pytestmark = [pytest.mark.feature("B3"), pytest.mark.local]

ROOT = Path(__file__).parents[4]
PARTS = ("services", "tests", "control_plane")
HOSTILE = (
    "-v", "--pre=/bin/sh", "--files", "-f/etc/passwd", "--", "-", "$(id)", "(a+)+$", "(x*)*y", "a{0,5000}", "\\", "(",
    "[z-a]", "(?=look)", "a\\nb", "a\0b", "\\p{Greek}", "(?i)SELF", "^$", "\\b", "\\xff", "(?-u)\\xff", ".*" * 50,
    "é\u2028",
)  # fmt: skip


def itself(rg: Ripgrep, root: Path, pattern: str, options: list[str]) -> list[tuple[str, int]] | None:
    """Paths and lines that ripgrep shows, sorted by path; None when it refuses the pattern."""
    command = [rg.binary, "--no-config", "--json", "--sort=path", *options, "-e", pattern, "--", "./"]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    found: list[tuple[str, int]] = []
    for line in done.stdout.splitlines():
        if line.startswith(b'{"type":"match"'):
            data = json.loads(line)["data"]
            found.append((data["path"]["text"].removeprefix("./"), data["line_number"]))
    return None if done.returncode == 2 and b'"type":"summary"' not in done.stdout else found


async def ours(engine: Engine, root: Path, wanted: Grep, limit: int) -> tuple[list[tuple[str, int]], Matches] | None:
    """The same from us, page by page; None when the pattern was refused."""
    place = Place(Roots.of([root])[0], ".")
    found: list[tuple[str, int]] = []
    cursor = ""
    try:
        while True:
            facts = (await engine.grep(place, wanted, limit=limit, cursor=cursor)).facts
            found += [
                (file.path.removeprefix(f"{root}/"), line.number)
                for file in facts.files
                for line in file.lines
                if line.match
            ]
            assert facts.matched == facts.returned + facts.omitted
            if not facts.cursor:
                return found, facts
            cursor = facts.cursor
    except BadPattern:
        return None


def made_up(chance: random.Random, words: list[str]) -> tuple[str, bool]:
    """A pattern, and whether it is meant literally."""
    word, other = chance.choice(words), chance.choice(words)
    cut = word[chance.randrange(len(word)) :]
    shapes = [
        (word, True),
        (cut, True),
        (re.escape(cut), False),
        (f"{re.escape(word[:3])}.*{re.escape(other[-3:])}", False),
        (rf"\b{re.escape(word)}\b", False),
        (f"({re.escape(word)}|{re.escape(other)})", False),
        (rf"^\s*{re.escape(word)}", False),
        (rf"\w+{re.escape(cut[-2:])}$", False),
        (f"[{re.escape(cut[:2])}]{{2,4}}", False),
        ("".join(chance.choices(string.printable[:94], k=chance.randint(1, 4))), False),
        ("".join(chance.choices(string.printable[:94], k=chance.randint(1, 4))), True),
    ]
    return chance.choice(shapes)


def words_of(root: Path) -> list[str]:
    found = {word for path in root.rglob("*.py") for word in path.read_text("utf-8", "replace").split()}
    return [word for word in sorted(found) if 2 < len(word) < 40 and word.isascii()]


async def compare(engine: Engine, rg: Ripgrep, root: Path, patterns: int, seed: int) -> None:
    chance, words = random.Random(seed), words_of(root)
    cases = [(pattern, literal) for pattern in HOSTILE for literal in (True, False)]
    cases += [made_up(chance, words) for _ in range(patterns)]
    for pattern, literal in cases:
        case = chance.choice(["smart", "sensitive", "insensitive"])
        word, multiline = chance.random() < 0.2, chance.random() < 0.2
        wanted = Grep((pattern,), literal, case, word=word, multiline=multiline)  # type: ignore[arg-type]
        options = [{"smart": "-S", "sensitive": "-s", "insensitive": "-i"}[case]]
        options += ["-F"] * literal + ["-w"] * word + ["-U"] * multiline
        expected = None if "\0" in pattern else itself(rg, root, pattern, options)
        # Pages of seven cost as many runs; what matches everywhere is asked for at once.
        found = await ours(engine, root, wanted, chance.choice([7, 1000]) if len(expected or []) < 100 else 100_000)
        assert (found and found[0]) == expected, (pattern, wanted)
        if found is not None:
            assert found[1].matched == len(expected or [])
            assert found[1].outcome == ("complete" if expected else "no match")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """This project's, as they are now: somebody may be at work on them."""
    for name in PARTS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    return tmp_path


async def test_random_and_hostile_patterns_match_what_ripgrep_itself_matches(
    rg: Ripgrep, make_search: MakeSearch, sources: Path
) -> None:
    async with make_search(sources / "services", index=False, answer_bytes=1 << 30) as made:
        await compare(made.engine, rg, sources / "services", 120, seed=int.from_bytes(os.urandom(2)))


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_thousands_of_patterns_match_what_ripgrep_itself_matches(
    rg: Ripgrep, make_search: MakeSearch, sources: Path
) -> None:
    for part in PARTS:
        root = sources / part
        async with make_search(root, index=False, answer_bytes=1 << 30) as made:
            await compare(made.engine, rg, root, 1500, seed=int.from_bytes(os.urandom(2)))


def counted_by_itself(rg: Ripgrep, root: Path, pattern: str) -> dict[str, int]:
    command = [rg.binary, "--no-config", "--count-matches", "--sort=path", "-e", pattern, "./"]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.rpartition(":")[0].removeprefix("./"): int(line.rpartition(":")[2]) for line in said}


@pytest.mark.parametrize("mode", ["files", "counts"])
async def test_files_and_counts_are_those_of_ripgrep_page_by_page(
    rg: Ripgrep, make_search: MakeSearch, mode: str
) -> None:
    root = ROOT / "services"
    counts = counted_by_itself(rg, root, r"self\.\w+")
    expected = counts if mode == "counts" else dict.fromkeys(counts, 1)
    found: dict[str, int] = {}
    async with make_search(root, index=False) as made:
        cursor = ""
        while True:
            place = Place(Roots.of([root])[0], ".")
            facts = (await made.engine.grep(place, Grep((r"self\.\w+",)), limit=9, mode=mode, cursor=cursor)).facts  # type: ignore[arg-type]
            found |= {file.path.removeprefix(f"{root}/"): file.matches for file in facts.files}
            assert (facts.matched, facts.files_matched) == (sum(expected.values()), len(expected))
            cursor = facts.cursor
            if not cursor:
                break
    assert list(found.items()) == list(expected.items())


async def test_no_match_a_bad_pattern_and_too_little_time_are_three_answers(
    tmp_path: Path, make_search: MakeSearch
) -> None:
    for number in range(200):
        (tmp_path / f"{number}").write_bytes(b"needle\n" * 20_000)
    place = Place(Roots.of([tmp_path])[0], ".")
    async with make_search(tmp_path, index=False) as made:
        assert (await made.engine.grep(place, Grep(("nowhere",)), limit=1)).facts.outcome == "no match"
        with pytest.raises(BadPattern, match="unclosed group"):
            await made.engine.grep(place, Grep(("(",)), limit=1)
        for mode in ("files", "counts"):
            with pytest.raises(BadPattern, match="unclosed group"):
                await made.engine.grep(place, Grep(("(",)), limit=1, mode=mode)
    async with make_search(tmp_path, index=False, search_s=0.02) as made:
        assert (await made.engine.grep(place, Grep(("needle",)), limit=1)).facts.outcome == "timed out, partial"
