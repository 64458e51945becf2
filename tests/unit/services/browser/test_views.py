"""Cutting a long text into parts."""

import pytest

from services.browser import views

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
