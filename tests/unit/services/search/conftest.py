"""Searches over a tree."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from services.common.paths import Roots
from services.common.ripgrep import Ripgrep
from services.search.code import CodeSearch
from services.search.coding import CodeAnswers
from services.search.engine import Engine, EngineLimits
from services.search.indexer import Indexer
from services.search.meaning import Meaning
from services.search.ranked import RankedSearch
from services.search.repeats import Repeats
from services.search.textindex import TextIndex


@dataclass(frozen=True)
class Made:
    """What searches a tree."""

    engine: Engine
    ranked: RankedSearch
    code: CodeAnswers
    indexer: Indexer


MakeSearch = Callable[..., AbstractAsyncContextManager[Made]]


@pytest.fixture
def make_search(rg: Ripgrep) -> MakeSearch:
    @asynccontextmanager
    async def make(
        root: Path,
        *,
        index: bool = True,
        folder: Path | None = None,
        watch: bool = False,
        max_files: int = 20_000,
        meaning: Meaning | None = None,
        **given: float,
    ) -> AsyncIterator[Made]:
        indexer = Indexer(Roots.of([root])[0], rg, TextIndex(folder), max_files=max_files, may_lag_s=0, watch=watch)
        limits = EngineLimits(**{"fresh_s": 20.0 if index else 0.0, **given})  # type: ignore[arg-type]
        ranked = RankedSearch(rg, [indexer], limits, meaning=meaning)
        code = CodeAnswers(CodeSearch(rg, search_s=limits.search_s), limits)
        try:
            async with anyio.create_task_group() as keepers:
                if index:
                    keepers.start_soon(indexer.keep)
                    with anyio.fail_after(60):
                        await indexer.refresh(60)
                yield Made(Engine(rg, limits, Repeats([indexer])), ranked, code, indexer)
                keepers.cancel_scope.cancel()
        finally:
            indexer.close()

    return make
