"""Finding tools by words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.common.soundness import sift
from services.hub.finding import CALL, DOORS, FIND, found_text, rank, size_of, summary

pytestmark = pytest.mark.feature("A3")


def tool(name: str, title: str, description: str, *parameters: str) -> dict[str, Any]:
    properties = {parameter: {"type": "string"} for parameter in parameters}
    return {
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": {"type": "object", "properties": properties},
    }


TOOLS = [
    tool("browser_open", "Open a page", "Open a URL in a new page and return its handle.", "url"),
    tool("browser_screenshot", "Screenshot", "Take a picture of the page.", "handle", "full_page"),
    tool("filesystem_read_file", "Read a file", "Read lines of a text file.", "path", "offset"),
    tool("filesystem_write_file", "Write a file", "Write text to a file.", "path", "text"),
    tool("search_grep", "Search in files", "Find lines that match a regular expression.", "pattern", "path"),
]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("take a screenshot", "browser_screenshot"),
        ("read file", "filesystem_read_file"),
        ("read some files", "filesystem_read_file"),
        ("regular expression", "search_grep"),
        ("screenshoot", "browser_screenshot"),
        ("url", "browser_open"),
        ("FILESYSTEM WRITE", "filesystem_write_file"),
    ],
)
def test_the_tool_that_fits_comes_first(query: str, first: str) -> None:
    assert rank(TOOLS, query)[0]["name"] == first


@pytest.mark.parametrize("query", ["zzzz", "§$%", "_"])
def test_words_that_no_tool_has_find_nothing_and_the_answer_says_what_to_do(query: str) -> None:
    answer = json.loads(found_text(TOOLS, query, 5))
    assert (answer["tools"], answer["matched"]) == ([], 0)
    assert FIND in answer["hint"]


def test_an_answer_is_whole_tools_and_says_how_many_it_omits() -> None:
    answer = json.loads(found_text(TOOLS, "file page", 2))
    assert len(answer["tools"]) == 2
    assert answer["matched"] == 2 + answer["omitted"]
    assert all(found in TOOLS for found in answer["tools"])


def test_an_empty_query_names_all() -> None:
    assert json.loads(found_text(TOOLS, " ", 5)) == {"names": [one["name"] for one in TOOLS]}


def test_an_answer_stays_within_bounds_but_for_a_single_large_tool() -> None:
    large = [tool(f"big_file{number}", "File", "x" * 40_000) for number in range(9)]
    answer = json.loads(found_text(large, "file", 9))
    assert len(answer["tools"]) == 1
    assert answer["omitted"] == 8


def test_the_doors_are_sound_tools_themselves_and_small() -> None:
    good, bad = sift("hub", "tools/list", DOORS)
    assert [one["name"] for one in good] == [CALL, FIND]
    assert not bad
    assert size_of(DOORS) < 3_000


def test_the_summary_counts_tools_by_service() -> None:
    assert "5 tools are here (2 of browser, 2 of filesystem, 1 of search)" in summary(TOOLS)
