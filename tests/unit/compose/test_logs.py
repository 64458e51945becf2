"""Reading the log of a process."""

from pathlib import Path

import pytest

from compose.local.logs import follow, tail


@pytest.mark.parametrize(("lines", "shown"), [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")])
def test_as_many_lines_as_were_asked_for(tmp_path: Path, lines: int, shown: str) -> None:
    path = tmp_path / "x.log"
    path.write_text("one\ntwo\nthree\n")
    assert tail(path, lines) == shown


def test_following_misses_nothing_and_goes_on_when_the_log_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("one\ntwo\n")
    following = follow(path, 1)
    assert next(following) == "two\n"
    with path.open("a") as file:
        file.write("three\n")
    assert next(following) == "three\n"
    path.write_text("")
    with path.open("a") as file:
        file.write("four\n")
    assert next(following) == "four\n"
