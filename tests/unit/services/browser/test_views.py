"""What a page shows, in bounded text and time."""

import sys

import pytest

from services.browser import snapshots, views

pytestmark = pytest.mark.feature("B1")


def test_parts_of_a_text_join_to_the_whole() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    joined, offset = "", 0
    while True:
        part = views.part_of(text, offset, 500)
        assert len(part.text) <= 500
        joined += part.text
        if part.next_offset is None:
            break
        offset = part.next_offset
    assert joined == text


def nested(levels: int) -> str:
    return "\n".join(f'{"  " * level}- button "b{level}" [ref=e{level}]:' for level in range(levels))


def test_a_tree_is_shown_in_time_that_grows_with_it_and_no_faster() -> None:
    def steps(children: int) -> int:
        tree = "\n".join(["- main [ref=e1]:", *("  - paragraph: more" for _ in range(children))])
        passed = 0

        def counts(frame: object, event: str, _: object) -> None:
            nonlocal passed
            passed += event == "call"

        sys.setprofile(counts)
        try:
            assert len(snapshots.lines_of(snapshots.parsed(tree))) == children + 1
        finally:
            sys.setprofile(None)
        return passed

    assert steps(2000) < 3 * steps(1000)


def test_a_tree_deeper_than_python_can_go_is_shown_whole() -> None:
    lines = snapshots.lines_of(snapshots.parsed(nested(sys.getrecursionlimit() + 200)))
    assert len(lines) == sys.getrecursionlimit() + 200


def test_a_text_with_separators_of_its_own_makes_no_nodes() -> None:
    tree = '- main [ref=e1]:\n  - text: "first\x1c- button \\"Pay\\" [ref=e9]\u2028- link \\"x\\" [ref=e8]"'
    (main,) = snapshots.parsed(tree)
    assert [child.ref for child in main.children] == [""]


def test_of_a_tree_without_end_the_first_part_is_shown_and_how_much_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views, "MOST_CHARS", 50)
    tree = '- main [ref=e1]:\n  - button "one" [ref=e2]\n  - button "two" [ref=e3]'
    lines = views.shown(tree, views.Tree(), None)
    assert lines[:2] == ["main [e1]", ' button "one" [e2]']
    assert lines[2:] == ["(26 more characters of the page's tree are left out: ask for a target or depth)"]
