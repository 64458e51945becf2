"""Which images were tested: remembered by id, the latest of them, and never guessed."""

from pathlib import Path

import pytest

from compose.images.errors import ImageError
from compose.images.tested import KEPT, known, note, untested

ONE, TWO = {"tekup/mcp-hub:1": "sha256:" + "a" * 64}, {"tekup/mcp-hub:2": "sha256:" + "b" * 64}


@pytest.mark.feature("F3")
def test_an_image_is_tested_by_its_id_whatever_its_tag(tmp_path: Path) -> None:
    record = tmp_path / "build" / "tested.json"
    assert untested(ONE, record) == ["tekup/mcp-hub:1 (aaaaaaaaaaaa)"]
    note(ONE, record)
    assert untested({"tekup/mcp-hub:latest": next(iter(ONE.values()))}, record) == []
    assert untested({**ONE, **TWO}, record) == ["tekup/mcp-hub:2 (bbbbbbbbbbbb)"]


def test_earlier_ones_stay_tested_so_that_one_can_go_back_and_the_oldest_are_forgotten(tmp_path: Path) -> None:
    record = tmp_path / "tested.json"
    note(ONE, record)
    note(TWO, record)
    assert untested({**ONE, **TWO}, record) == []
    for number in range(KEPT):
        note({"i": f"sha256:{number:064d}"}, record)
    assert len(known(record)) == KEPT
    assert untested(TWO, record)


@pytest.mark.parametrize("text", ["", "[]", '{"tested": 3}', "{}"])
def test_a_damaged_record_is_no_proof_and_is_named(tmp_path: Path, text: str) -> None:
    record = tmp_path / "tested.json"
    record.write_text(text)
    with pytest.raises(ImageError, match=r"tested\.json cannot be read"):
        untested(ONE, record)
