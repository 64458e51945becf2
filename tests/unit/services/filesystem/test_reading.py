"""Reading by windows: every byte can be reached, none is sent twice, nothing is unbounded."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.paths import PathError, Place, Roots
from services.filesystem.reading import Window, read_window

pytestmark = pytest.mark.feature("B2")


def place_of(folder: Path, content: bytes) -> Place:
    (folder / "file").write_bytes(content)
    return Roots.of([folder]).locate("file")


def read(place: Place, offset: int = 1, limit: int = 2000, budget: int = 65536, *, numbers: bool = False) -> Window:
    return read_window(place, offset=offset, limit=limit, numbers=numbers, budget_bytes=budget)


def test_a_window_tells_what_it_shows_and_how_to_go_on(tmp_path: Path) -> None:
    place = place_of(tmp_path, b"".join(b"line %d\n" % number for number in range(1, 101)))
    window = read(place, offset=11, limit=5)
    assert window.text == "line 11\nline 12\nline 13\nline 14\nline 15"
    assert (window.first_line, window.lines, window.next_offset, window.total_lines) == (11, 5, 16, 100)
    last = read(place, offset=96)
    assert (last.lines, last.next_offset) == (5, None)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(
        st.text(alphabet=st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=30)
    ),
    limit=st.integers(1, 7),
    ends=st.booleans(),
)
def test_paging_through_a_file_gives_exactly_its_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], limit: int, ends: bool
) -> None:
    text = "\n".join(lines) + ("\n" if ends and lines else "")
    expected = text.removeprefix("\ufeff").split("\n")
    if expected[-1] == "":
        expected.pop()
    place = place_of(tmp_path_factory.mktemp("paging"), text.encode())
    shown: list[str] = []
    offset: int | None = 1
    while offset is not None:
        window = read(place, offset=offset, limit=limit, budget=200)
        shown += window.text.split("\n") if window.lines else []
        assert window.total_lines == len(expected)
        offset = window.next_offset
    assert shown == expected


def test_an_offset_behind_the_end_names_the_number_of_lines(tmp_path: Path) -> None:
    with pytest.raises(PathError, match="has 2 lines; offset 3"):
        read(place_of(tmp_path, b"a\nb\n"), offset=3)
    assert read(place_of(tmp_path, b"")).lines == 0


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x00\x01", b"text\n" * 3000 + b"\0", b"\xff\xfea\x00\x00"])
def test_a_binary_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(PathError, match="is binary"):
        read(place_of(tmp_path, content))


def test_a_line_longer_than_the_budget_is_cut_and_the_next_one_reachable(tmp_path: Path) -> None:
    place = place_of(tmp_path, b"x" * 3_000_000 + b"\nafter\n")
    window = read(place, budget=1000)
    assert len(window.text) <= 1001
    assert "line 1 has 3000001 bytes" in window.note
    assert window.next_offset == 2
    assert read(place, offset=2).text == "after"


def test_numbers_endings_and_encodings_are_told(tmp_path: Path) -> None:
    numbered = read(place_of(tmp_path, b"a\r\nb\r\n"), numbers=True)
    assert numbered.text == "     1\ta\n     2\tb"
    assert numbered.line_ending == "crlf"
    latin = read(place_of(tmp_path, "café\n".encode("latin-1")))
    assert latin.text == "caf\\xe9"
    assert "not UTF-8" in latin.note
    assert read(place_of(tmp_path, b"\xef\xbb\xbfbom\n")).text == "bom"


@pytest.mark.parametrize("numbers", [False, True])
def test_no_answer_is_longer_than_the_budget(tmp_path: Path, numbers: bool) -> None:
    place = place_of(tmp_path, b"\xff" * 40 + b"\n" + b"ab\n" * 10_000)
    window = read(place, budget=2048, numbers=numbers)
    assert len(window.text.encode()) <= 2048
    assert window.next_offset == window.lines + 1
