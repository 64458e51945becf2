"""The filesystem service as its callers meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.services.conftest import Instance

pytestmark = [pytest.mark.local, pytest.mark.feature("B2")]


async def test_files_are_written_read_edited_moved_and_deleted(filesystem: Instance, tree: Path) -> None:
    async with filesystem.session() as session:
        made = await session.call("filesystem_write_file", path="work/a.txt", content="one\ntwo\nthree\n")
        assert made.facts == {"path": "work/a.txt", "created": True, "size_bytes": 14, "kept": []}
        read = await session.call("filesystem_read_file", path=f"{tree}/work/a.txt", offset=2, limit=1, numbers=True)
        assert read.text.startswith("     2\ttwo")
        assert (read.facts["next_offset"], read.facts["total_lines"]) == (3, 3)
        edits = [{"old_text": "two", "new_text": "2"}]
        dry = await session.call("filesystem_edit_file", path="work/a.txt", edits=edits, dry_run=True)
        assert "-two\n+2\n" in dry.text
        assert (await session.call("filesystem_edit_file", path="work/a.txt", edits=edits)).facts["applied"]
        assert (tree / "work/a.txt").read_text() == "one\n2\nthree\n"
        await session.call("filesystem_move", source="work/a.txt", target="work/b.txt")
        listed = await session.call("filesystem_list_directory", path="work")
        assert (listed.text, listed.facts["total"]) == ("b.txt\t12", 1)
        assert (await session.call("filesystem_stat", path="work/b.txt")).facts["kind"] == "file"
        found = await session.call("filesystem_find_files", path=".", pattern="*.txt")
        assert (found.text, found.facts["matched"]) == ("mine/note.txt\nwork/b.txt", 2)
        assert (await session.call("filesystem_delete", path="work", recursive=True)).facts["kind"] == "folder"
        assert (await session.call("filesystem_list_roots")).facts == {"roots": [str(tree)], "read_only": []}


async def test_a_files_text_is_sent_once(filesystem: Instance) -> None:
    async with filesystem.session() as session:
        said = await session.call("filesystem_read_file", path="mine/note.txt")
    assert "two" in said.text
    assert "two" not in str(said.facts)


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("filesystem_nothing", {}, "filesystem_nothing"),
        ("filesystem_read_file", {}, "path"),
        ("filesystem_read_file", {"path": "mine/note.txt", "offset": "x"}, "offset"),
        ("filesystem_read_file", {"path": "mine/note.txt", "colour": "red"}, "colour"),
        ("filesystem_read_file", {"path": "/etc/passwd"}, "outside the roots"),
        ("filesystem_read_file", {"path": "../x"}, "leads out of its root"),
        ("filesystem_read_file", {"path": "out/passwd"}, "leads out of its root"),
        ("filesystem_read_file", {"path": "missing"}, "does not exist"),
        ("filesystem_read_file", {"path": "a\0b"}, "NUL"),
        ("filesystem_read_file", {"path": "mine"}, "is a folder"),
        ("filesystem_read_file", {"path": "mine/note.txt", "offset": 9}, "has 3 lines"),
        ("filesystem_write_file", {"path": "mine/note.txt", "content": ""}, "overwrite=true"),
        ("filesystem_write_file", {"path": "out/x", "content": ""}, "leads out of its root"),
        ("filesystem_edit_file", {"path": "mine/note.txt", "edits": []}, "edits"),
        ("filesystem_edit_file", {"path": "mine/note.txt", "edits": [{"old_text": "o", "new_text": "x"}]}, "2 times"),
        ("filesystem_delete", {"path": "mine"}, "recursive=true"),
        ("filesystem_delete", {"path": "."}, "cannot be changed itself"),
        ("filesystem_find_files", {"path": ".", "pattern": "../*"}, "holds '..'"),
        ("filesystem_move", {"source": "mine/note.txt", "target": "/tmp/x"}, "outside the roots"),
    ],
)
async def test_bad_input_is_a_clear_error_and_the_service_lives(
    filesystem: Instance, tool: str, arguments: dict[str, object], words: str
) -> None:
    async with filesystem.session() as session:
        said = await session.call(tool, **arguments)
        assert words in said.error
        assert "Traceback" not in said.error
        assert (await session.call("filesystem_read_file", path="mine/note.txt")).text == "one\ntwo\nthree"
    assert await filesystem.ready() == 200


@pytest.mark.feature("A6")
async def test_a_grants_roots_narrow_what_a_client_sees(filesystem: Instance, tree: Path) -> None:
    async with filesystem.session("narrow", roots=(f"{tree}/mine", "/etc")) as session:
        assert (await session.call("filesystem_list_roots")).facts["roots"] == [f"{tree}/mine"]
        assert (await session.call("filesystem_read_file", path="note.txt")).facts["total_lines"] == 3
        for path in (f"{tree}/src/reader.py", "/etc/passwd", "../src/reader.py"):
            assert (await session.call("filesystem_read_file", path=path)).error
    async with filesystem.session("nothing", roots=("/nowhere",)) as session:
        assert (await session.call("filesystem_list_roots")).facts["roots"] == []
        assert "no root" in (await session.call("filesystem_read_file", path="note.txt")).error
