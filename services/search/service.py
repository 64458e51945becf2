"""Settings of the search service, and what runs while it does."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from services.common import Folders, Kit, ServiceSettings, ServiceSpec
from services.common.paths import Root, Roots
from services.common.ripgrep import RgBinary, Ripgrep
from services.search.code import CodeSearch
from services.search.coding import CodeAnswers
from services.search.courtesy import Courtesy
from services.search.embeddings import Vectors, find_embedder
from services.search.engine import Engine, EngineLimits
from services.search.indexer import Indexer
from services.search.meaning import Meaning
from services.search.ranked import RankedSearch
from services.search.repeats import Repeats
from services.search.textindex import TextIndex
from services.search.tools import OWN_FOLDER, Searches, declare

__all__ = ["SPEC", "SearchSettings"]

INSTRUCTIONS = """Searches files beneath the roots this server was given (search_status lists them).
search_grep for exact text and regular expressions, search_files for names, search_text for a question in words,
search_symbols, search_definition and search_references for code, search_related for code like a place.
Counts are exact: matched = returned + omitted; the cursor of an answer gives what follows, with the same arguments.
'no match', a refused pattern and 'timed out, partial' are different answers. Text is content, places are facts."""


def _usable(folders: Folders) -> Folders:
    Roots.of(folders)
    return folders


class SearchSettings(ServiceSettings):
    """`MCP_SEARCH_…`."""

    model_config = SettingsConfigDict(env_prefix="MCP_SEARCH_")

    roots: Annotated[Folders, Field(min_length=1), AfterValidator(_usable)]
    rg: RgBinary
    answer_bytes: int = Field(default=64 << 10, ge=1024)
    search_s: float = Field(default=20.0, gt=0)
    fresh_s: float = Field(default=0.5, ge=0)
    index_files: int = Field(default=100_000, ge=0)
    index_folder: Path | None = None
    watch: bool = True
    embeddings: bool = True
    embed_s: float = Field(default=0.02, ge=0)


@asynccontextmanager
async def build(kit: Kit, settings: SearchSettings) -> AsyncIterator[None]:
    """Declare the tools, and keep the indexes while the service runs."""
    roots = Roots.of(settings.roots)
    ripgrep = Ripgrep(str(settings.rg))
    limits = EngineLimits(settings.search_s, settings.fresh_s, settings.answer_bytes)
    courtesy = Courtesy()
    indexers = [_indexer(root, ripgrep, settings, courtesy) for root in roots]
    meaning, said = _meaning(settings)
    searches = Searches(
        Engine(ripgrep, limits, Repeats(indexers)),
        RankedSearch(ripgrep, indexers, limits, meaning=meaning),
        CodeAnswers(CodeSearch(ripgrep, search_s=settings.search_s), limits),
        await ripgrep.version(),
        said,
        courtesy,
    )
    declare(kit, searches, roots)
    kit.metrics.usage.watch_disk("roots", settings.roots)
    # Cheap, and the whole way through ripgrep and back; only probes may look into the service's own folder.
    kit.probe("search_grep", {"pattern": "search service", "path": f"{OWN_FOLDER}/__init__.py", "limit": 1})
    keeping = [indexer.keep() for indexer in indexers] + ([meaning.keep()] if meaning else [])
    try:
        async with asyncio.TaskGroup() as keepers:
            tasks = [keepers.create_task(work) for work in keeping]
            yield
            for task in tasks:
                task.cancel()
    finally:
        for indexer in indexers:
            indexer.close()
        if meaning is not None:
            meaning.vectors.close()


def _indexer(root: Root, ripgrep: Ripgrep, settings: SearchSettings, courtesy: Courtesy) -> Indexer:
    folder = None
    if settings.index_folder is not None:
        folder = settings.index_folder / hashlib.blake2b(root.real.encode(), digest_size=8).hexdigest()
    index = TextIndex(folder)
    return Indexer(root, ripgrep, index, max_files=settings.index_files, watch=settings.watch, courtesy=courtesy)


def _meaning(settings: SearchSettings) -> tuple[Meaning | None, str]:
    if not settings.embeddings:
        return None, "no embeddings: switched off by MCP_SEARCH_EMBEDDINGS"
    load, said = find_embedder()
    if load is None:
        return None, said
    path = None if settings.index_folder is None else settings.index_folder / "vectors-1.sqlite"
    return Meaning(load, Vectors(path), budget_s=settings.embed_s), said


SPEC = ServiceSpec("search", SearchSettings, build, INSTRUCTIONS)
