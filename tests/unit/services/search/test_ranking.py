"""What places say, what meaning says, and where a text is divided."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.search.cursors import CursorError, next_cursor, read_cursor
from services.search.ranking import Signals, fused, is_symbol, ranked
from services.search.stems import CODE, stems
from services.search.textindex import Chunk
from services.search.words import code_words, defined_names, divide, identifiers, query_words, words_of

pytestmark = [pytest.mark.feature("B4")]


def chunk(path: str, score: float = 10.0, names: str = "", first: int = 1) -> Chunk:
    return Chunk(path, (1, 1), first, first + 9, names, score)


def order(query: str, *chunks: Chunk) -> list[str]:
    return [one.path for one in ranked(query, chunks, Signals())]


def test_a_definition_of_the_name_that_is_asked_for_comes_first() -> None:
    assert order("read_file", chunk("a.py", 12.0), chunk("b.py", 10.0, "read_file")) == ["b.py", "a.py"]


@pytest.mark.parametrize(
    "path", ["tests/a.py", "a/test_b.py", "a/b_test.go", "a/b.spec.ts", "vendor/a.go", "a_pb2.py", "a.min.js"]
)
def test_tests_others_code_and_what_no_person_wrote_come_later(path: str) -> None:
    assert order("parse headers", chunk(path, 11.0), chunk("src/z.py", 10.0)) == ["src/z.py", path]


def test_who_asks_for_tests_gets_them() -> None:
    assert order("tests of headers", chunk("tests/a.py", 11.0), chunk("src/z.py", 10.0))[0] == "tests/a.py"


def test_a_plain_word_of_a_sentence_is_no_name_that_is_asked_for() -> None:
    assert order("how to write a header", chunk("a.py", 12.0), chunk("b.py", 10.0, "write"))[0] == "a.py"
    assert order("where is read_file used", chunk("a.py", 12.0), chunk("b.py", 10.0, "read_file"))[0] == "b.py"


def test_meaning_moves_what_words_rank_low_and_keeps_what_has_no_vector() -> None:
    chunks = [chunk(f"{number}.py", 20.0 - number) for number in range(5)]
    likeness = {("4.py", 1): 0.9, ("0.py", 1): 0.1, ("1.py", 1): 0.2}
    found = fused(chunks, likeness, Signals(meaning=0.9))
    assert found[0].path == "4.py"
    assert {one.path for one in found} == {one.path for one in chunks}
    assert [one.score for one in found] == sorted((one.score for one in chunks), reverse=True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("read_file", True),
        ("Server.run", True),
        ("a::b()", True),
        ("read a file", False),
        ("what is read_file?", False),
    ],
)
def test_names_and_sentences_are_told_apart(query: str, expected: bool) -> None:
    assert is_symbol(query) is expected


def test_words_inside_of_identifiers_count() -> None:
    assert query_words("readFileContent in HTTPServer2") == [
        "readfilecontent", "httpserver2", "read", "file", "content", "http", "server", "2",
    ]  # fmt: skip
    assert code_words("readFile x") == "readFile x read File"
    assert identifiers(words_of("read_file readFile read")) == ["read_file", "readFile"]
    assert query_words("what is the") == ["what", "is", "the"]  # better than nothing


def test_a_text_is_divided_where_definitions_and_their_comments_begin() -> None:
    text = (
        "import a\n" * 6 + "@decorated\ndef one():\n" + "    pass\n" * 5 + "# about two\ndef two():\n" + "    x\n" * 70
    )
    lines = text.split("\n")
    starts = [text.count("\n", 0, start) for start, _ in defined_names(text, "a.py")]
    assert divide(lines, starts) == [(0, 6), (6, 13), (13, 73), (73, len(lines))]


@given(st.text(st.sampled_from("aAbB_1é ßẞ.\u0915\u093f\n-")) | st.text(max_size=40))
@settings(max_examples=300)
def test_stems_kept_by_word_are_those_of_the_whole_text(text: str) -> None:
    found = [stems(part, words_of(part)).split() for part in (text, text.encode("ascii", "ignore").decode())]
    assert sorted(found[0]) == sorted(CODE.analyze(code_words(text)))
    assert sorted(found[1]) == sorted(CODE.analyze(code_words(text.encode("ascii", "ignore").decode())))


@pytest.mark.parametrize("text", ["a" * 200_000, "a b " * 50_000, "(" * 100_000, "x(" * 50_000, "\n" * 100_000])
@pytest.mark.timeout(30)
def test_hostile_texts_take_no_longer_than_others(text: str) -> None:
    defined_names(text, "a.c")
    code_words(text)


@pytest.mark.parametrize("cursor", ["x", "!!!", "bnVsbA", "WzFd", "é", "W10"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(CursorError, match="leave it out"):
        read_cursor("question", cursor)


def test_a_cursor_is_for_its_own_question_alone() -> None:
    cursor = next_cursor(("a", 1), "path-\udce9", 7)
    assert read_cursor(("a", 1), cursor) == ("path-\udce9", 7)
    assert read_cursor(("a", 1), "") is None
    with pytest.raises(CursorError, match="another question"):
        read_cursor(("a", 2), cursor)
