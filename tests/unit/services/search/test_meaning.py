"""Embeddings: made from installed packages, kept by content, used when they are there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.common.paths import Place, Roots
from services.search.embeddings import Embedder, Vectors, find_embedder
from services.search.meaning import Meaning

if TYPE_CHECKING:
    from tests.unit.services.search.conftest import MakeSearch

pytestmark = [pytest.mark.feature("B4"), pytest.mark.local]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    load, said = find_embedder()
    assert load is not None, said
    return load()


def test_what_means_the_same_is_closer_than_what_does_not(embedder: Embedder) -> None:
    (asked,) = embedder.embed(["delete a file"])
    same, other = embedder.likeness(
        asked, embedder.embed(["def remove(path): os.unlink(path)", "def add(a, b): a + b"])
    )
    assert same > other + 0.1


def test_vectors_are_kept_by_their_text_and_are_there_again(tmp_path: Path, embedder: Embedder) -> None:
    (vector,) = embedder.embed(["text"])
    kept = Vectors(tmp_path / "vectors.sqlite")
    kept.put({kept.key("text"): vector})
    kept.close()
    again = Vectors(tmp_path / "vectors.sqlite")
    assert again.get([again.key("text"), again.key("other")]) == {again.key("text"): vector}
    assert len(again) == 1
    again.close()


async def test_meaning_is_used_once_its_vectors_are_there_and_says_so(
    tmp_path: Path, make_search: MakeSearch, embedder: Embedder
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(8):
        (root / f"f{number}.py").write_text(f"def f{number}(path):\n    remove everything beneath a folder, {number}\n")
    meaning = Meaning(lambda: embedder, Vectors(None), budget_s=0)
    async with make_search(root, meaning=meaning) as made:
        place = [Place(Roots.of([root])[0], ".")]
        first = (await made.ranked.text(place, "remove a folder", limit=3)).facts
        assert first.layers == ("index",)
        keeper = asyncio.create_task(meaning.keep())
        async with asyncio.timeout(60):
            while (await made.ranked.text(place, "remove a folder", limit=3)).facts.layers != ("index", "embeddings"):
                await asyncio.sleep(0.05)
        keeper.cancel()
        assert (await made.ranked.text(place, "f1", limit=3)).facts.layers == ("index",)  # a name has no meaning
    meaning.vectors.close()


async def test_a_model_that_cannot_be_loaded_is_a_layer_that_is_not_there() -> None:
    def broken() -> Embedder:
        raise OSError("no such model")

    meaning = Meaning(broken, Vectors(None), budget_s=1)
    await meaning.keep()
    assert await meaning.likeness("question", ["text"]) == [None]
    meaning.vectors.close()
