"""Outlines, definitions and references, by the grammars."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from services.common.paths import Place, Roots
from services.search.cursors import CursorError
from services.search.symbols import EXTENSIONS, Source, Unreadable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.services.search.conftest import MakeSearch

pytestmark = [pytest.mark.feature("B3"), pytest.mark.local]

GIVEN_UP_S = 20.0
"""A loaded machine's; unbounded, the shortest of these takes a minute."""
TEXTS = {
    "python": ("class Box:\n    def lift(self):\n        pass\n", {"Box": "", "lift": "Box"}),
    "javascript": ("class Box { lift() {} }\nfunction lower() {}\n", {"Box": "", "lift": "Box", "lower": ""}),
    "typescript": ("interface Box { lift(): void }\nfunction lower(): void {}\n", {"Box": "", "lower": ""}),
    "tsx": ("function Box() { return <p/>; }\n", {"Box": ""}),
    "go": ("package p\nfunc Lift() {}\ntype Box struct{}\n", {"Lift": "", "Box": ""}),
    "rust": ("struct Box;\nfn lift() {}\n", {"Box": "", "lift": ""}),
    "java": ("class Box { void lift() {} }\n", {"Box": "", "lift": "Box"}),
    "c": ("struct box { int a; };\nint lift(int a) { return a; }\n", {"box": "", "lift": ""}),
    "cpp": ("class Box { void lift() {} };\nvoid Box::lower() {}\n", {"Box": "", "lift": "Box", "lower": ""}),
    "csharp": ("class Box { void Lift() {} }\n", {"Box": "", "Lift": "Box"}),
    "ruby": ("class Box\n  def lift\n  end\nend\n", {"Box": "", "lift": "Box"}),
    "php": ("<?php class Box { function lift() {} }\n", {"Box": "", "lift": "Box"}),
    "bash": ("lift() { :; }\n", {"lift": ""}),
}


def whole(root: Path) -> list[Place]:
    return [Place(Roots.of([root])[0], ".")]


def test_every_language_has_an_example() -> None:
    assert set(TEXTS) == set(EXTENSIONS.values())


@pytest.mark.parametrize("language", TEXTS)
def test_definitions_of_a_language_are_found_with_what_is_around_them(language: str) -> None:
    text, expected = TEXTS[language]
    found = {symbol.name: symbol.container for symbol in Source(text.encode(), language).symbols()}
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize("text", ["", "def", "class (", "\0\0", "é" * 1000, "def f(:\n  x\nclass B:\n  pass\n"])
def test_what_is_no_code_is_read_all_the_same(text: str) -> None:
    assert isinstance(Source(text.encode(), "python").symbols(), list)


@pytest.mark.parametrize("language", sorted(set(EXTENSIONS.values())))
@pytest.mark.parametrize("text", [b"(", b"else if(a)"], ids=repr)
def test_what_no_grammar_reads_in_time_is_given_up(language: str, text: bytes) -> None:
    began = time.monotonic()
    with suppress(Unreadable):
        Source((text * (1 << 20))[: 1 << 18], language).symbols()
    assert time.monotonic() - began < GIVEN_UP_S


async def test_a_definition_is_found_by_its_name_and_by_what_is_around_it(
    tmp_path: Path, make_search: MakeSearch
) -> None:
    (tmp_path / "one.py").write_text(
        "class A:\n    def run(self):\n        pass\n\n\nclass B:\n    def run(self): ...\n"
    )
    (tmp_path / "two.go").write_text("package p\n\nfunc run() {}\n")
    (tmp_path / "note.txt").write_text("run the program\n")
    async with make_search(tmp_path, index=False) as made:
        found = (await made.code.definitions(whole(tmp_path), "run", limit=10, cursor="")).facts
        assert [(hit.path.rpartition("/")[2], hit.first_line, hit.container) for hit in found.symbols] == [
            ("one.py", 2, "A"), ("one.py", 7, "B"), ("two.go", 3, ""),
        ]  # fmt: skip
        assert (found.matched, found.unread, found.outcome) == (3, 1, "complete")
        (inside,) = (await made.code.definitions(whole(tmp_path), "B.run", limit=10, cursor="")).facts.symbols
        assert (inside.first_line, inside.last_line) == (7, 7)
        none = (await made.code.definitions(whole(tmp_path), "walk", limit=10, cursor="")).facts
        assert none.outcome == "no match"


async def test_references_leave_out_definitions_comments_and_strings(tmp_path: Path, make_search: MakeSearch) -> None:
    (tmp_path / "one.py").write_text(
        'def run():\n    pass\n\n\ndef main():\n    run()  # run\n    # run\n    print("run")\n    print(f"{run}")\n'
    )
    (tmp_path / "note.txt").write_text("run the program\n")
    async with make_search(tmp_path, index=False) as made:
        found = (await made.code.references(whole(tmp_path), "run", limit=10, cursor="")).facts
    shown = [(use.path.rpartition("/")[2], use.first_line, use.within, use.score) for use in found.uses]
    assert shown == [("note.txt", 1, "", 0.5), ("one.py", 6, "main", 1.0), ("one.py", 9, "main", 1.0)]


async def test_an_outline_goes_on_where_its_cursor_says(tmp_path: Path, make_search: MakeSearch) -> None:
    for number in range(3):
        (tmp_path / f"f{number}.py").write_text("".join(f"def f{number}_{n}(): ...\n" for n in range(5)))
    async with make_search(tmp_path, index=False) as made:
        names: list[str] = []
        cursor = ""
        while True:
            page = (await made.code.outline(whole(tmp_path), "", (), limit=4, cursor=cursor)).facts
            names += [hit.name for hit in page.symbols]
            assert (page.matched, page.returned + page.omitted) == (15, 15)
            cursor = page.cursor
            if not cursor:
                break
        assert names == [f"f{number}_{n}" for number in range(3) for n in range(5)]
        some = (await made.code.outline(whole(tmp_path), "F1_", ("function",), limit=1, cursor="")).facts
        assert some.matched == 5
        with pytest.raises(CursorError, match="another question"):
            await made.code.outline(whole(tmp_path), "other", (), limit=4, cursor=some.cursor)


async def test_an_edit_is_in_the_next_answer(tmp_path: Path, make_search: MakeSearch) -> None:
    (tmp_path / "one.py").write_text("def run(): ...\n")
    async with make_search(tmp_path, index=False) as made:
        assert (await made.code.definitions(whole(tmp_path), "run", limit=9, cursor="")).facts.matched == 1
        (tmp_path / "one.py").write_text("\n\ndef run(): ...\n\ndef run(): ...\n")
        assert (await made.code.definitions(whole(tmp_path), "run", limit=9, cursor="")).facts.matched == 2


async def test_a_link_out_of_the_root_is_not_read(tmp_path: Path, make_search: MakeSearch) -> None:
    (tmp_path / "secret.py").write_text("def secret(): ...\n")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.py").symlink_to(tmp_path / "secret.py")
    async with make_search(root, index=False) as made:
        assert (await made.code.outline(whole(root), "", (), limit=9, cursor="")).facts.matched == 0
        assert (await made.code.definitions(whole(root), "secret", limit=9, cursor="")).facts.matched == 0
