"""What .gitignore files name is what git says they name, and no pattern keeps anybody waiting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.filesystem.ignoring import Ignored, rules_of

LINES = (
    "", "#x", "\\#x", "!x", "\\!x", "x", "x/", "/x", "/x/", "x/y", "x/y/", "/x/y", "*", "*.y", "x*", "?", "*x*y",
    "**",
    "**/x", "x/**", "**/x/y", "x/**/y", "/**", "**/", "x**y", "x/*", "*/y", "x ", "x\\ ", "x  /", "[xy]", "[!x]",
    "[^x]",
    "[x-z]", "[]x]", "[!]x]", "[x-]", "[-x]", "[z-x]", "[\\]x]", "[!!-]", "[!", "[", "x[", "[]", "[!]", "\\", "x\\",
    "x\\y",
    "\\*", "\\[x]", "[[:alpha:]]", "[[:none:]]", "[[:digit:]x]", "[[:al]", "//", "/", "x//y", "***", "x/***", "a\\\\ ",
    "{x,y}", "!*.y", "!/x", "[&&x]", "[x~~y]", "[*]", "[?]",
)  # fmt: skip
NAMES = (
    "x",
    "y",
    "z",
    "xy",
    "x.y",
    "!x",
    "#x",
    "x ",
    "x  ",
    "*",
    "[",
    "]",
    "-",
    "!",
    "\\",
    "[x",
    "{x,y}",
    "5",
    "&",
    "~",
    "x y",
    "a\\",
)


FOLDERS = ("x", "xy", "*", "!x", "x y")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all names, at the top and in folders that have such names themselves."""
    root = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", root], check=True)
    for folder in (root, *(root / name for name in FOLDERS), *(root / name / "z" for name in FOLDERS)):
        folder.mkdir(exist_ok=True)
        for name in NAMES:
            if not (folder == root and name in FOLDERS) and not (folder.parent == root and name == "z"):
                (folder / name).touch()
    return root


def paths_in(tree: Path) -> dict[str, bool]:
    """Each path, and whether it is a folder."""
    found = {path.relative_to(tree).as_posix(): path.is_dir() for path in tree.rglob("*")}
    return {path: is_folder for path, is_folder in found.items() if not path.startswith(".git")}


def named_by_git(tree: Path, paths: list[str]) -> set[str]:
    asked = ["git", "-C", str(tree), "check-ignore", "--no-index", "-z", "--stdin"]
    said = subprocess.run(asked, input="\0".join([*paths, ""]).encode(), capture_output=True, check=False)
    assert said.returncode in (0, 1), said.stderr
    return set(said.stdout.decode().split("\0")) - {""}


def named_by_us(text: str, paths: dict[str, bool]) -> set[str]:
    """As a walk asks: what lies in a folder that is left out is not looked at."""
    ignored = Ignored((("", rules_of(text)),))
    named = {path for path, is_folder in paths.items() if ignored.leaves_out(path, is_folder=is_folder)}
    return {path for path in paths if any(path == one or path.startswith(f"{one}/") for one in named)}


def check(tree: Path, lines: list[str]) -> None:
    text, paths = "\n".join(lines), paths_in(tree)
    (tree / ".gitignore").write_text(text)
    assert named_by_us(text, paths) == named_by_git(tree, list(paths)), lines


def test_each_line_names_what_git_says(tree: Path) -> None:
    for line in LINES:
        check(tree, [line])


def sets_no_slash(line: str) -> bool:
    """Not `[x/]`: for git that is one letter of a name, for us two names that are none."""
    return not re.search(r"\[.*/", line)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.sampled_from(LINES) | st.text("xyz*?[]!^-\\/ #.", max_size=8).filter(sets_no_slash), min_size=1, max_size=5
    )
)
def test_any_lines_name_what_git_says(tree: Path, lines: list[str]) -> None:
    check(tree, lines)


@pytest.mark.parametrize(
    "text",
    [
        "*a" * 400 + "*b",
        "\n".join("*a" * 60 + f"*{number}" for number in range(300)),
        "**/" * 300 + "x",
        "/".join(["**/*a*a*a*b"] * 80),
    ],
)
def test_no_pattern_keeps_anybody_waiting(text: str) -> None:
    ignored = Ignored((("", rules_of(text)),))
    steps = 0

    def counts(*_: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(counts)
    try:
        assert not ignored.leaves_out("/".join(["a" * 250] * 12), is_folder=False)
    finally:
        sys.setprofile(None)
    assert steps < 5_000_000


def test_a_file_that_is_no_text_and_lines_too_long_name_nothing() -> None:
    assert rules_of("\0\ufffd" * 10 + "\n" + "x" * 5000 + "\n[")[1:] == ()
