"""Every tool of the filesystem service beyond reading and writing, as its callers meet it."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextResourceContents,
)

from tests.support.every_tool import TOOLS

if TYPE_CHECKING:
    from tests.contract.services.conftest import Instance, Session, Starter

pytestmark = [pytest.mark.local, pytest.mark.feature("B2")]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def folder(tree: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of this test's own in the root."""
    made = tree / "own" / str(abs(hash(request.node.name)))
    made.mkdir(parents=True)
    return made


async def test_every_tool_says_what_it_does_and_what_it_answers(filesystem: Instance) -> None:
    async with filesystem.session() as session:
        tools = (await session.client.list_tools()).tools
    assert {tool.name for tool in tools} == {name for name in TOOLS if name.startswith("filesystem_")}
    for tool in tools:
        assert tool.annotations is not None
        assert tool.annotations.title
        assert tool.output_schema
        assert tool.input_schema["additionalProperties"] is False
        assert len(tool.description or "") > 40


async def test_the_end_of_a_file_and_several_files_are_read(filesystem: Instance, folder: Path) -> None:
    (folder / "a.txt").write_text("".join(f"line {number}\n" for number in range(1, 101)))
    (folder / "b.txt").write_text("bee\n")
    async with filesystem.session() as session:
        tail = await session.call("filesystem_read_file", path=f"{folder}/a.txt", tail=2, numbers=True)
        assert tail.text == "    99\tline 99\n   100\tline 100"
        assert (tail.facts["first_line"], tail.facts["total_lines"], tail.facts["next_offset"]) == (99, 100, None)
        paths = [f"{folder}/b.txt", f"{folder}/missing", f"{folder}/a.txt", "/etc/passwd"]
        many = await session.call("filesystem_read_files", paths=paths, limit=2)
    assert f"==> {folder}/b.txt\nbee\n" in many.text
    assert "(lines 1-2 of 100)" in many.text
    assert [bool(one["error"]) for one in many.facts["files"]] == [False, True, False, True]
    assert many.facts["failed"] == 2
    assert "root:" not in many.text


async def test_files_beyond_the_room_of_an_answer_are_named(filesystem: Instance, folder: Path) -> None:
    for number in range(4):
        (folder / f"{number}.txt").write_text("x" * 79 + "\n" + ("y" * 79 + "\n") * 499)
    async with filesystem.session() as session:
        many = await session.call("filesystem_read_files", paths=[f"{folder}/{number}.txt" for number in range(4)])
    assert len(many.text.encode()) <= 66_000
    assert many.facts["files"][1]["next_offset"] or many.facts["not_reached"]
    assert f"{folder}/3.txt" in many.facts["not_reached"]


async def test_any_byte_of_a_file_is_reached(filesystem: Instance, folder: Path) -> None:
    text = "é" * 100_000
    (folder / "line").write_text(text)
    (folder / "raw").write_bytes(bytes(range(256)) * 4)
    (folder / "odd").write_bytes(b"\xff" * 200_000)
    async with filesystem.session() as session:
        seen, offset = "", 0
        while offset is not None:
            part = await session.call("filesystem_read_bytes", path=f"{folder}/line", offset=offset, length=33_333)
            seen += part.result.content[0].text  # type: ignore[union-attr]
            offset = part.facts["next_offset"]
        raw = await session.call("filesystem_read_bytes", path=f"{folder}/raw", offset=256, length=256)
        odd = await session.call("filesystem_read_bytes", path=f"{folder}/odd", form="text", length=1 << 20)
    assert len(odd.text) <= 66_000
    assert odd.facts["next_offset"] == odd.facts["length"]
    assert seen == text
    assert raw.facts["form"] == "base64"
    assert base64.b64decode(raw.result.content[0].text) == bytes(range(256))


async def test_pictures_sounds_and_other_files_come_as_what_they_are(filesystem: Instance, folder: Path) -> None:
    (folder / "a.txt").write_bytes(PNG)
    (folder / "b.wav").write_bytes(b"RIFF\x24\0\0\0WAVEfmt " + bytes(30))
    (folder / "c.bin").write_bytes(bytes(300))
    (folder / "large.bin").write_bytes(bytes(2 << 20))
    async with filesystem.session() as session:
        blocks: dict[str, Any] = {}
        for name in ("a.txt", "b.wav", "c.bin", "large.bin"):
            said = await session.call("filesystem_read_file", path=f"{folder}/{name}")
            blocks[name] = said.result.content[-1]
            assert said.facts["kind"] in {"image", "audio", "binary"}
        picture, sound, raw, link = blocks.values()
        assert isinstance(picture, ImageContent)
        assert (base64.b64decode(picture.data), picture.mime_type) == (PNG, "image/png")
        assert isinstance(sound, AudioContent)
        assert sound.mime_type == "audio/wav"
        assert isinstance(raw, EmbeddedResource)
        assert isinstance(link, ResourceLink)
        assert link.size == 2 << 20
        read = (await session.client.read_resource(str(link.uri))).contents[0]
        assert isinstance(read, BlobResourceContents)
        assert base64.b64decode(read.blob) == bytes(2 << 20)


async def test_files_are_resources_with_their_own_types(filesystem: Instance, folder: Path) -> None:
    (folder / "ä b.md").write_text("# Title\n")
    (folder / "p.png").write_bytes(PNG)
    async with filesystem.session() as session:
        templates = (await session.client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == ["filesystem://files/{+path}"]
        text = (await session.client.read_resource(f"filesystem://files{folder}/%C3%A4%20b.md")).contents[0]
        assert isinstance(text, TextResourceContents)
        assert (text.text, text.mime_type) == ("# Title\n", "text/markdown")
        picture = (await session.client.read_resource(f"filesystem://files{folder}/p.png")).contents[0]
        assert picture.mime_type == "image/png"
        for uri in ("/etc/passwd", "/proc/self/environ", f"{folder}/missing"):
            with pytest.raises(Exception, match=r".") as refused:
                await session.client.read_resource(f"filesystem://files{uri}")
            assert "root:" not in str(refused.value)


async def test_edits_of_several_files_are_made_together_or_not_at_all(filesystem: Instance, folder: Path) -> None:
    (folder / "a").write_text("one\n")
    (folder / "b").write_text("one\r\ntwo\r\n")
    both = [
        {"path": f"{folder}/a", "edits": [{"old_text": "one", "new_text": "1"}]},
        {"path": f"{folder}/b", "edits": [{"old_text": "two", "new_text": "2\n3"}]},
    ]
    async with filesystem.session() as session:
        bad = [*both[:1], {"path": f"{folder}/b", "edits": [{"old_text": "missing", "new_text": ""}]}]
        refused = await session.call("filesystem_edit_files", edits=bad)
        assert "no file was changed" in refused.error
        assert (folder / "a").read_text() == "one\n"
        assert "named twice" in (await session.call("filesystem_edit_files", edits=both[:1] * 2)).error
        dry = await session.call("filesystem_edit_files", edits=both, dry_run=True)
        assert "dry run" in dry.text
        assert (folder / "a").read_text() == "one\n"
        made = await session.call("filesystem_edit_files", edits=both)
    assert made.facts["files"][1] == {"path": f"{folder}/b", "added": 2, "removed": 1}
    assert ((folder / "a").read_bytes(), (folder / "b").read_bytes()) == (b"1\n", b"one\r\n2\r\n3\r\n")


async def test_an_edit_is_refused_when_the_file_is_not_the_one_expected(filesystem: Instance, folder: Path) -> None:
    (folder / "a").write_text("one\n")
    edits = [{"old_text": "one", "new_text": "two"}]
    async with filesystem.session() as session:
        seen = (await session.call("filesystem_read_file", path=f"{folder}/a")).facts["sha256"]
        assert seen == hashlib.sha256(b"one\n").hexdigest()
        (folder / "a").write_text("one and more\n")
        said = await session.call("filesystem_edit_file", path=f"{folder}/a", edits=edits, expected_sha256=seen)
        assert "has changed" in said.error
        now = (await session.call("filesystem_stat", path=f"{folder}/a", sha256=True)).facts["sha256"]
        assert (await session.call("filesystem_edit_file", path=f"{folder}/a", edits=edits, expected_sha256=now)).facts[
            "applied"
        ]


async def test_what_is_appended_or_replaced_keeps_the_form_of_the_file(filesystem: Instance, folder: Path) -> None:
    (folder / "w").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    (folder / "w").chmod(0o640)
    async with filesystem.session() as session:
        await session.call("filesystem_write_file", path=f"{folder}/w", content="three\n", append=True)
        assert (folder / "w").read_bytes() == b"\xef\xbb\xbfone\r\ntwo\r\nthree\r\n"
        said = await session.call("filesystem_write_file", path=f"{folder}/w", content="a\nb", overwrite=True)
        assert (folder / "w").read_bytes() == b"\xef\xbb\xbfa\r\nb\r\n"
        assert said.facts["kept"] == ["BOM", "CRLF"]
        await session.call("filesystem_write_file", path=f"{folder}/w", content="a\nb", overwrite=True, exact=True)
    assert (folder / "w").read_bytes() == b"a\nb"
    assert (folder / "w").stat().st_mode & 0o777 == 0o640


async def test_trees_leave_out_what_git_ignores_and_go_on_page_after_page(filesystem: Instance, folder: Path) -> None:
    for name in ("src/a.py", "src/deep/b.py", "build/x.o", "keep/y.o", "z.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("four")
    (folder / ".gitignore").write_text("build/\n*.o\n")
    (folder / "keep/.gitignore").write_text("!y.o\n")
    (folder / "link").symlink_to("src")
    async with filesystem.session() as session:
        whole = await session.call("filesystem_tree", path=str(folder))
        lines = [".gitignore", "keep/", " .gitignore", " y.o", "link@", "src/", " a.py", " deep/", "  b.py", "z.txt"]
        assert whole.text.split("\n") == lines
        shallow = await session.call("filesystem_tree", path=str(folder), depth=1, gitignore=False, sizes=True)
        assert "build/" in shallow.text.split("\n")
        assert "z.txt\t4" in shallow.text.split("\n")
        excluded = await session.call("filesystem_tree", path=str(folder), exclude=["src"])
        assert "a.py" not in excluded.text
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await session.call("filesystem_tree", path=str(folder), limit=2, after=after)
            shown = page.result.content[0].text.split("\n")  # type: ignore[union-attr]
            seen += shown[-page.facts["returned"] :]
            after = page.facts["next_after"]
        assert seen == lines
        size = await session.call("filesystem_directory_size", path=str(folder))
    assert (size.facts["files"], size.facts["folders"], size.facts["others"]) == (7, 4, 1)
    assert size.facts["size_bytes"] == 5 * 4 + 11 + 5


async def test_folders_are_listed_in_the_order_asked_for(filesystem: Instance, folder: Path) -> None:
    for number, size in enumerate((30, 10, 20, 10)):
        (folder / f"f{number}").write_text("x" * size)
        os.utime(folder / f"f{number}", (1000 + number, 1000 + number))
    async with filesystem.session() as session:
        for order, descending, expected in (
            ("size", False, ["f1", "f3", "f2", "f0"]),
            ("size", True, ["f0", "f2", "f1", "f3"]),
            ("modified", True, ["f3", "f2", "f1", "f0"]),
            ("name", True, ["f3", "f2", "f1", "f0"]),
        ):
            assert await _pages(session, folder, order=order, descending=descending) == expected
        found = await session.call("filesystem_find_files", path=str(folder), pattern="f*", order="modified")
    assert found.text == "f3\nf2\nf1\nf0"


async def _pages(session: Session, folder: Path, **how: object) -> list[str]:
    names: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await session.call(
            "filesystem_list_directory", path=str(folder), limit=1, after=after, sizes=False, **how
        )
        names.append(page.result.content[0].text)  # type: ignore[union-attr]
        assert page.facts["total"] == 4
        after = page.facts["next_after"]
    return names


async def test_contents_are_searched_by_the_shared_engine(filesystem: Instance, folder: Path) -> None:
    (folder / "a.txt").write_text("hay\nNeedle here\nhay\n")
    (folder / "-e.txt").write_text("needle\n")
    (folder / "out").symlink_to("/etc")
    async with filesystem.session() as session:
        found = await session.call("filesystem_search_content", path=str(folder), pattern="needle", context=1)
        assert f"{folder}/a.txt\n1-hay\n2:Needle here\n3-hay" in found.text
        assert (found.facts["matched"], found.facts["files_matched"]) == (2, 2)
        one = await session.call("filesystem_search_content", path=f"{folder}/a.txt", pattern="--pre=x", literal=True)
        assert one.facts["outcome"] == "no match"
        assert (await session.call("filesystem_search_content", path=str(folder), pattern="(")).error
        assert (await session.call("filesystem_search_content", path=f"{folder}/out", pattern="root")).error


async def test_files_and_folders_are_copied_whole(filesystem: Instance, folder: Path) -> None:
    (folder / "from/inner").mkdir(parents=True)
    (folder / "from/inner/a").write_text("text")
    (folder / "from/inner/a").chmod(0o755)
    (folder / "from/link").symlink_to("/etc/passwd")
    async with filesystem.session() as session:
        copied = await session.call("filesystem_copy", source=f"{folder}/from", target=f"{folder}/new/to")
        assert (copied.facts["kind"], copied.facts["files"]) == ("folder", 2)
        assert (folder / "new/to/link").readlink() == Path("/etc/passwd")
        assert (folder / "new/to/inner/a").stat().st_mode & 0o777 == 0o755
        again = await session.call("filesystem_copy", source=f"{folder}/from", target=f"{folder}/new/to")
        assert "exists already" in again.error
        into = await session.call("filesystem_copy", source=f"{folder}/from", target=f"{folder}/from/inner/self")
        assert into.facts["files"] == 2
        assert (await session.call("filesystem_copy", source=f"{folder}/from/link", target=f"{folder}/p")).error
        file = await session.call("filesystem_copy", source=f"{folder}/from/inner/a", target=f"{folder}/b")
        assert file.facts["size_bytes"] == 4
        os.mkfifo(folder / "from/pipe")
        refused = await session.call("filesystem_copy", source=f"{folder}/from", target=f"{folder}/third")
    assert "neither file" in refused.error
    assert not (folder / "third").exists()


async def test_what_is_deleted_comes_back(filesystem: Instance, folder: Path) -> None:
    (folder / "gone/inner").mkdir(parents=True)
    (folder / "gone/inner/a").write_text("text")
    async with filesystem.session() as session:
        deleted = await session.call("filesystem_delete", path=f"{folder}/gone", recursive=True)
        assert not (folder / "gone").exists()
        listed = await session.call("filesystem_list_trash")
        newest = next(one for one in listed.facts["entries"] if one["trash_id"] == deleted.facts["trash_id"])
        assert (newest["path"], newest["kind"]) == (f"{folder}/gone", "folder")
        (folder / "gone").mkdir()
        there = await session.call("filesystem_restore", trash_id=deleted.facts["trash_id"])
        assert "exists already" in there.error
        await session.call("filesystem_restore", trash_id=deleted.facts["trash_id"], target=f"{folder}/back")
        assert (folder / "back/inner/a").read_text() == "text"
        assert "no" in (await session.call("filesystem_restore", trash_id=deleted.facts["trash_id"])).error
        for_good = await session.call("filesystem_delete", path=f"{folder}/back", recursive=True, permanent=True)
        assert for_good.facts["trash_id"] is None


async def test_the_trash_of_a_narrowed_client_is_its_own(filesystem: Instance, tree: Path, folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "theirs").mkdir()
    for name in ("mine/a", "theirs/b"):
        (folder / name).write_text(name)
    async with filesystem.session() as session:
        for name in ("mine/a", "theirs/b"):
            await session.call("filesystem_delete", path=f"{folder}/{name}")
    async with filesystem.session("narrow", roots=(f"{folder}/mine",)) as session:
        entries = (await session.call("filesystem_list_trash")).facts["entries"]
        assert [one["path"] for one in entries] == [f"{folder}/mine/a"]
        await session.call("filesystem_restore", trash_id=entries[0]["trash_id"])
        assert (await session.call("filesystem_empty_trash")).facts["removed"] == 0
    assert (folder / "mine/a").read_text() == "mine/a"
    async with filesystem.session() as session:
        for path in (f"{tree}/.tekup-files", f"{tree}/src/../.tekup-files/trash"):
            assert "this service's own" in (await session.call("filesystem_list_directory", path=path)).error
        assert ".tekup-files" not in (await session.call("filesystem_list_directory", path=str(tree))).text
        assert (await session.call("filesystem_empty_trash")).facts["removed"] >= 1


async def test_a_read_only_root_is_read_and_never_changed(starter: Starter, tmp_path: Path) -> None:
    for name in ("ro", "rw"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("one\n")
    instance = starter.start(
        "filesystem", MCP_FILESYSTEM_ROOTS=tmp_path / "rw", MCP_FILESYSTEM_READ_ONLY_ROOTS=tmp_path / "ro"
    )
    ro = f"{tmp_path}/ro"
    edit: dict[str, Any] = {"path": f"{ro}/a", "edits": [{"old_text": "one", "new_text": "two"}]}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("write_file", {"path": f"{ro}/b", "content": ""}),
        ("edit_file", edit),
        ("edit_files", {"edits": [edit]}),
        ("move", {"source": f"{ro}/a", "target": f"{tmp_path}/rw/b"}),
        ("move", {"source": f"{tmp_path}/rw/a", "target": f"{ro}/b"}),
        ("copy", {"source": f"{tmp_path}/rw/a", "target": f"{ro}/b"}),
        ("delete", {"path": f"{ro}/a"}),
        ("make_directory", {"path": f"{ro}/new"}),
    ]
    async with instance.session() as session:
        assert (await session.call("filesystem_read_file", path=f"{ro}/a")).text == "one"
        for tool, arguments in calls:
            assert "read-only" in (await session.call(f"filesystem_{tool}", **arguments)).error
        copied = await session.call("filesystem_copy", source=f"{ro}/a", target=f"{tmp_path}/rw/c")
        assert copied.facts["files"] == 1
    assert [path.name for path in (tmp_path / "ro").iterdir()] == ["a"]


@pytest.mark.feature("E4")
async def test_a_root_holds_no_more_than_its_quota(starter: Starter, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(bytes(5000))
    instance = starter.start(
        "filesystem", MCP_FILESYSTEM_ROOTS=tmp_path, MCP_FILESYSTEM_QUOTA_BYTES=20_000, MCP_FILESYSTEM_QUOTA_FILES=8
    )
    async with instance.session() as session:
        assert (await session.call("filesystem_write_file", path="a", content="x" * 9000)).facts["created"]
        for tool, arguments in (
            ("write_file", {"path": "deep/b", "content": "x" * 9000}),
            ("write_file", {"path": "a", "content": "x" * 16_000, "overwrite": True}),
            ("write_file", {"path": "a", "content": "x" * 9000, "append": True}),
            ("copy", {"source": "a", "target": "b"}),
            ("edit_file", {"path": "a", "edits": [{"old_text": "x" * 9000, "new_text": "y" * 18_000}]}),
        ):
            said = await session.call(f"filesystem_{tool}", **arguments)
            assert "20000 bytes its root may hold are used" in said.error
        assert not (tmp_path / "deep").exists()
        await session.call("filesystem_delete", path="there", permanent=True)
        assert (await session.call("filesystem_copy", source="a", target="b")).facts["files"] == 1
        for number in range(8):
            said = await session.call("filesystem_write_file", path=f"small{number}", content="")
        assert "files its root may hold" in said.error


@pytest.mark.feature("E4")
async def test_what_comes_from_another_root_counts_where_it_comes_to(starter: Starter, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "folder").mkdir(parents=True)
        (tmp_path / name / "folder/file").write_bytes(bytes(6000))
    instance = starter.start(
        "filesystem", MCP_FILESYSTEM_ROOTS=f"{tmp_path}/a:{tmp_path}/b", MCP_FILESYSTEM_QUOTA_BYTES=10_000
    )
    async with instance.session() as session:
        full = await session.call("filesystem_move", source=f"{tmp_path}/a/folder", target=f"{tmp_path}/b/second")
        assert "10000 bytes its root may hold are used" in full.error
        assert (tmp_path / "a/folder/file").exists()
        await session.call("filesystem_delete", path=f"{tmp_path}/b/folder", recursive=True, permanent=True)
        moved = await session.call("filesystem_move", source=f"{tmp_path}/a/folder", target=f"{tmp_path}/b/second")
        assert not moved.error
