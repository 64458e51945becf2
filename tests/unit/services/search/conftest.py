"""A tree to search, and the real ripgrep."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from services.common.paths import Roots
from services.search.engine import Engine, EngineLimits
from services.search.indexer import Indexer
from services.search.ripgrep import Ripgrep
from services.search.service import SearchSettings

MakeEngine = Callable[..., AbstractAsyncContextManager[Engine]]


@pytest.fixture
def rg() -> Ripgrep:
    return Ripgrep(str(SearchSettings(roots=(Path("/"),)).rg))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "src/reader.py": "def readFileContent(path):\n    return path.read_text()\n",
        "src/writer.py": "def write_file(path, text):\n    # TODO: fsync\n    path.write_text(text)\n",
        "docs/guide.md": "# Guide\n\nHow files are read and written.\nTODO: more\n",
        "ignored.log": "TODO in a log\n",
        ".hidden": "TODO hidden\n",
        ".ignore": "*.log\n",
    }
    root = tmp_path / "tree"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


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
