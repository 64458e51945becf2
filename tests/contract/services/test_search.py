"""The search service as its callers meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mcp import MCPError
from mcp_types import ResourceTemplateReference

from services.search.resources import TEMPLATE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.services.conftest import Instance

pytestmark = [pytest.mark.local, pytest.mark.feature("B3")]


async def test_lines_names_and_words_are_found(search: Instance, tree: Path) -> None:
    async with search.session() as session:
        lines = (await session.call("search_grep", pattern=r"def \w+", path=".", globs=["*.py"])).facts
        assert (lines["outcome"], lines["matched"], lines["returned"], lines["omitted"]) == ("complete", 1, 1, 0)
        assert lines["files"][0]["path"] == f"{tree}/src/reader.py"
        assert lines["files"][0]["lines"][0]["number"] == 1
        assert (await session.call("search_grep", pattern="zzz", path=".")).facts["outcome"] == "no match"
        names = (await session.call("search_files", query="raeder", path=".")).facts
        assert names["files"][0]["path"] == f"{tree}/src/reader.py"
        found = (await session.call("search_text", query="read file content")).facts
        assert found["hits"][0]["path"] == f"{tree}/src/reader.py"
        assert found["layers"][0] in ("index", "ripgrep")
        defined = await session.call("search_definition", name="readFileContent")
        assert (defined.facts["symbols"][0]["kind"], defined.facts["symbols"][0]["first_line"]) == ("function", 1)
        assert "def readFileContent(path):" in defined.text
        assert (await session.call("search_references", name="read_text")).facts["uses"][0][
            "within"
        ] == "readFileContent"
        assert (await session.call("search_symbols", path="src/reader.py")).facts["matched"] == 1
        related = (await session.call("search_related", path="src/reader.py", line=2)).facts
        assert f"{tree}/src/reader.py" not in {hit["path"] for hit in related["hits"]}
        assert (await session.call("search_refresh")).facts["complete"]
        status = (await session.call("search_status")).facts
        assert status["ripgrep"].startswith("ripgrep ")
        assert [root["path"] for root in status["roots"]] == [str(tree)]


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("search_nothing", {}, "search_nothing"),
        ("search_grep", {"pattern": "x"}, "path"),
        ("search_grep", {"pattern": "(", "path": "."}, "bad pattern: rg: regex parse error"),
        ("search_grep", {"pattern": "x", "path": ".", "globs": ["["]}, "bad pattern"),
        ("search_grep", {"pattern": "x", "path": "/etc"}, "outside the roots"),
        ("search_grep", {"pattern": "x", "path": "out"}, "leads out of its root"),
        ("search_grep", {"pattern": "x", "path": ".", "case": "loud"}, "case"),
        ("search_grep", {"pattern": "", "path": "."}, "pattern"),
        ("search_files", {"query": "x", "path": "missing"}, "does not exist"),
        ("search_files", {"query": "[", "path": ".", "mode": "glob"}, "bad pattern"),
        ("search_text", {"query": "x", "limit": 0}, "limit"),
        ("search_grep", {"pattern": "x", "path": ".", "cursor": "no cursor"}, "leave it out"),
        ("search_grep", {"pattern": "x", "path": ".", "types": ["nothing"]}, "bad pattern"),
        ("search_related", {"path": "src/reader.py", "line": 1000}, "1000 is not among them"),
        ("search_symbols", {"path": "out/passwd"}, "leads out of its root"),
    ],
)
async def test_bad_input_is_a_clear_error_and_the_service_lives(
    search: Instance, tool: str, arguments: dict[str, object], words: str
) -> None:
    async with search.session() as session:
        said = await session.call(tool, **arguments)
        assert words in said.error
        assert "Traceback" not in said.error
        assert (await session.call("search_grep", pattern="two", path=".")).facts["matched"] == 1
    assert await search.ready() == 200


@pytest.mark.feature("A6")
async def test_a_grants_roots_narrow_what_a_client_finds(search: Instance, tree: Path) -> None:
    async with search.session("narrow", roots=(f"{tree}/mine",)) as session:
        assert (await session.call("search_grep", pattern="read", path=".")).facts["outcome"] == "no match"
        assert (await session.call("search_text", query="read file content")).facts["hits"] == []
        assert (await session.call("search_text", query="two")).facts["hits"][0]["path"] == f"{tree}/mine/note.txt"
        assert "outside the roots" in (await session.call("search_grep", pattern="x", path=f"{tree}/src")).error
        # The probe's own folder is for the probe alone.
        assert "outside" in (await session.call("search_grep", pattern="x", path=__file__)).error


async def test_an_outline_is_a_resource_whose_path_is_completed_as_one_types(search: Instance, tree: Path) -> None:
    async with search.session() as session:
        templates = (await session.client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == [TEMPLATE]
        ref = ResourceTemplateReference(type="ref/resource", uri=TEMPLATE)
        done = (await session.client.complete(ref, {"name": "path", "value": "raeder"})).completion
        assert done.values[0] == f"{tree}/src/reader.py".lstrip("/")
        assert (done.has_more, done.total) == (False, len(done.values))
        assert (await session.client.complete(ref, {"name": "path", "value": "/"})).completion.values == []
        assert (await session.client.complete(ref, {"name": "path", "value": 1001 * "r"})).completion.values == []
        assert (await session.client.complete(ref, {"name": "other", "value": "raeder"})).completion.values == []
        (outline,) = (await session.client.read_resource(f"search://outline/{done.values[0]}")).contents
        assert "1:def readFileContent(path):" in outline.model_dump()["text"]
        with pytest.raises(MCPError, match="outside the roots"):
            await session.client.read_resource("search://outline/etc/passwd")


@pytest.mark.feature("A6")
async def test_a_completion_names_no_file_that_the_grants_roots_do_not_hold(search: Instance, tree: Path) -> None:
    ref = ResourceTemplateReference(type="ref/resource", uri=TEMPLATE)
    async with search.session("narrow", roots=(f"{tree}/mine",)) as session:
        for typed in ("raeder", "reader.py", "src"):
            done = (await session.client.complete(ref, {"name": "path", "value": typed})).completion
            assert not [value for value in done.values if "reader" in value], typed
        assert (await session.client.complete(ref, {"name": "path", "value": "note"})).completion.values
        with pytest.raises(MCPError, match="outside the roots"):
            await session.client.read_resource(f"search://outline{tree}/src/reader.py")
