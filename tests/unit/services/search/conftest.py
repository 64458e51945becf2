"""An engine over a tree."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from services.common.paths import Roots
from services.common.ripgrep import Ripgrep
from services.search.engine import Engine, EngineLimits
from services.search.indexer import Indexer

MakeEngine = Callable[..., AbstractAsyncContextManager[Engine]]


@pytest.fixture
def make_engine(rg: Ripgrep) -> MakeEngine:
    @asynccontextmanager
    async def make(root: Path, *, index: bool = True, **limits: float) -> AsyncIterator[Engine]:
        indexer = Indexer(Roots.of([root])[0], rg, max_files=1000, may_lag_s=0)
        try:
            async with anyio.create_task_group() as keepers:
                if index:
                    keepers.start_soon(indexer.keep)
                    with anyio.fail_after(20):
                        await indexer.fresh(20)
                yield Engine(rg, [indexer], EngineLimits(fresh_s=5.0 if index else 0.0, **limits))  # type: ignore[arg-type]
                keepers.cancel_scope.cancel()
        finally:
            indexer.close()

    return make
