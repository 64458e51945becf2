"""What a file has besides its words stays as it is, in every encoding: a table, and the bytes outside of edits."""

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.filesystem.changing import NewText, append_text, edit_file, write_text
from services.filesystem.edits import Edit, EditError, apply_edits
from services.filesystem.encodings import Encoding, EncodingError, encoding_of
from services.filesystem.reading import read_window

if TYPE_CHECKING:
    from tests.unit.services.filesystem.conftest import World

pytestmark = pytest.mark.feature("B2")


@dataclass(frozen=True)
class Case:
    """A file before and after `one` became `zwei` and a line `three` was appended.

    Args:
        name: What it is.
        before: Its bytes.
        edited: After the edit.
        appended: What appending adds to the edited bytes.
        encoding: What the caller has to say.
        new: What `one` becomes.
        shown: What the edited file's second line reads.
    """

    name: str
    before: bytes
    edited: bytes
    appended: bytes
    encoding: str | None = None
    new: str = "zwei"
    shown: str = "zwei"


CASES = [
    Case("UTF-8", b"a\none\n", b"a\nzwei\n", b"three\n"),
    Case("CRLF", b"a\r\none\r\n", b"a\r\nzwei\r\n", b"three\r\n"),
    Case("mixed line ends", b"a\r\none\nb\r\n", b"a\r\nzwei\nb\r\n", b"three\n"),
    Case("BOM", b"\xef\xbb\xbfa\none\n", b"\xef\xbb\xbfa\nzwei\n", b"three\n"),
    Case("BOM and CRLF", b"\xef\xbb\xbfa\r\none\r\n", b"\xef\xbb\xbfa\r\nzwei\r\n", b"three\r\n"),
    Case("no last newline", b"a\none", b"a\nzwei", b"three\n"),
    Case("Latin-1, in ASCII", b"caf\xe9\none\n", b"caf\xe9\nzwei\n", b"three\n"),
    Case("Latin-1", b"caf\xe9\none\n", b"caf\xe9\nzw\xf6i\n", b"three\n", "latin-1", "zwöi", "zwöi"),
    Case("cp1252", b"\x80 5\none\n", b"\x80 5\nzw\x80i\n", b"three\n", "cp1252", "zw€i", "zw€i"),
    Case("bytes of no text", b"\xff\xfe\xfd"[1:] + b"\none\n\x80\x81", b"\xfe\xfd\nzwei\n\x80\x81", b"three\n"),
    Case("GBK", "中文\none\n".encode("gbk"), "中文\n二\n".encode("gbk"), b"three\n", "gbk", "二", "二"),
    Case("Shift JIS", "表示\none\n".encode("shift_jis"), "表示\n二\n".encode("shift_jis"), b"three\n", "shift_jis",
         "二", "二"),
    *(
        Case(name, bom + "ä\r\none\r\n".encode(name), bom + "ä\r\nzwöi\r\n".encode(name), "three\r\n".encode(name),
             None, "zwöi", "zwöi")
        for name, bom in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("utf-32-le", b"\xff\xfe\0\0"))
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_edit_and_what_is_appended_keep_everything_else(world: "World", case: Case) -> None:
    file = world.root / "file"
    file.write_bytes(case.before)
    file.chmod(0o4654)
    if os.geteuid() == 0:
        os.chown(file, 1234, 2345)
        file.chmod(0o4654)
    place = world.place("file")
    edit_file(place, [Edit("one", case.new)], dry_run=False, encoding=case.encoding)
    assert file.read_bytes() == case.edited
    window = read_window(place, offset=2, limit=1, numbers=False, budget_bytes=1000, encoding=case.encoding)
    assert window.text == case.shown
    append_text(place, NewText("three\n", case.encoding))
    assert file.read_bytes() == case.edited + case.appended
    found = file.stat()
    assert stat.S_IMODE(found.st_mode) == 0o4654
    if os.geteuid() == 0:
        assert (found.st_uid, found.st_gid) == (1234, 2345)


WHOLE = [case for case in CASES if case.name not in {"mixed line ends", "bytes of no text", "Latin-1, in ASCII"}]
"""Those of which what is read says all that there is."""


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_a_file_written_anew_from_what_was_read_is_the_same(world: "World", case: Case) -> None:
    file = world.root / "file"
    file.write_bytes(case.before)
    place = world.place("file")
    window = read_window(place, offset=1, limit=100, numbers=False, budget_bytes=1000, encoding=case.encoding)
    write_text(place, NewText(window.text, case.encoding), overwrite=True)
    assert file.read_bytes() == case.before


@given(
    text=st.text(alphabet="abäöü€中\n\r", max_size=60),
    name=st.sampled_from(["utf-16-le", "utf-16-be", "gbk", "shift_jis"]),
)
def test_in_any_encoding_only_the_edit_changes(text: str, name: str) -> None:
    encoding = encoding_of(b"", name)
    try:
        before = text.encode(name)
    except UnicodeEncodeError:
        return
    edited = apply_edits(before + "<<here>>".encode(name) + before, [Edit("<<here>>", "x")], encoding)
    assert edited == before + "x".encode(name) + before


def test_what_an_encoding_cannot_hold_is_refused_with_the_character(world: "World") -> None:
    (world.root / "file").write_bytes(b"caf\xe9\n")
    place = world.place("file")
    with pytest.raises(EditError, match="u20ac"):
        edit_file(place, [Edit("caf", "€")], dry_run=False, encoding="latin-1")
    with pytest.raises(EncodingError, match="u20ac"):
        append_text(place, NewText("€", "latin-1"))
    with pytest.raises(EncodingError, match="cannot be used"):
        edit_file(place, [Edit("caf", "x")], dry_run=False, encoding="rot13")
    assert encoding_of(b"\xff\xfea\0", "utf-16") == Encoding("utf-16-le", b"\xff\xfe")
    with pytest.raises(EncodingError, match="the mark of utf-8"):
        encoding_of(b"\xef\xbb\xbfx", "latin-1")


@pytest.mark.parametrize(
    ("old", "said"),
    [
        ("def  outer(x):", "the same text with other white space stands at line 1"),
        ("def outer(x):\nreturn x", "lines 1-2"),
        ("def outter(x):", "the nearest to it is line 1: def outer"),
        ("nothing of the kind", "0 matches"),
    ],
)
def test_a_text_that_is_not_there_is_told_what_is_nearest(old: str, said: str) -> None:
    with pytest.raises(EditError, match="0 matches") as refused:
        apply_edits(b"def outer(x):\n\treturn x\n", [Edit(old, "new")])
    assert said in str(refused.value)


def test_every_place_is_replaced_only_when_told() -> None:
    assert apply_edits(b"aXbX\r\nX", [Edit("X", "1\n2", everywhere=True)]) == b"a1\r\n2b1\r\n2\r\n1\r\n2"
    with pytest.raises(EditError, match="3 times"):
        apply_edits(b"XXX", [Edit("X", "1")])
