"""Edits: exactly once or not at all, and no other byte changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.filesystem.edits import Edit, EditError, apply_edits, unified_diff

pytestmark = pytest.mark.feature("B2")


@given(before=st.binary(), after=st.binary(), new=st.text(alphabet="xyz", max_size=5))
def test_bytes_outside_the_edit_are_untouched(before: bytes, after: bytes, new: str) -> None:
    marker = "<<the only place>>"
    edited = apply_edits(before + marker.encode() + after, [Edit(marker, new)])
    assert edited == before + new.encode() + after


def test_an_ambiguous_text_is_refused_with_count_and_lines() -> None:
    with pytest.raises(EditError, match=r"edit 1: old_text matches 3 times \(lines 1, 3, 4\)"):
        apply_edits(b"a\nb\na\na\n", [Edit("a", "c")])
    with pytest.raises(EditError, match="matches 2 times"):
        apply_edits(b"aaa", [Edit("aa", "b")])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Edit("", "x"), "old_text is empty"),
        (Edit("a", "a"), "the same"),
        (Edit("missing", "x"), "0 matches"),
        (Edit("$1", "x"), "0 matches"),
    ],
)
def test_an_edit_that_cannot_be_made_says_why(edit: Edit, said: str) -> None:
    with pytest.raises(EditError, match=said):
        apply_edits(b"a b\n", [edit])


def test_edits_build_on_each_other_and_none_is_made_when_one_fails() -> None:
    assert apply_edits(b"one\n", [Edit("one", "two"), Edit("two", "three")]) == b"three\n"
    with pytest.raises(EditError, match="edit 2"):
        apply_edits(b"one\n", [Edit("one", "two"), Edit("one", "three")])


def test_line_endings_stay_what_they_were() -> None:
    assert apply_edits(b"a\r\nb\r\nc\r\n", [Edit("a\nb", "x\ny\nz")]) == b"x\r\ny\r\nz\r\nc\r\n"
    assert apply_edits(b"a\nb\r\nc\n", [Edit("b", "x\ny")]) == b"a\nx\r\ny\r\nc\n"
    assert apply_edits(b"a\nb", [Edit("b", "x\ny")]) == b"a\nx\ny"


def test_a_file_that_is_not_utf8_takes_ascii_edits_only() -> None:
    latin = "café\nname\n".encode("latin-1")
    assert apply_edits(latin, [Edit("name", "title")]) == "café\ntitle\n".encode("latin-1")
    with pytest.raises(EditError, match="not UTF-8"):
        apply_edits(latin, [Edit("name", "naïve")])


def test_the_diff_shows_the_change_at_its_lines() -> None:
    old = b"".join(b"%d\n" % number for number in range(1, 101))
    new = old.replace(b"50\n", b"fifty\n").rstrip(b"\n")
    assert unified_diff(old, new, "f") == (
        "--- f\n+++ f\n"
        "@@ -47,7 +47,7 @@\n 47\n 48\n 49\n-50\n+fifty\n 51\n 52\n 53\n"
        "@@ -97,4 +97,4 @@\n 97\n 98\n 99\n-100\n+100\n\\ No newline at end of file\n"
    )
