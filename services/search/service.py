"""Tools and settings of the search service."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from services.common import Folders, Kit, ServiceSettings, ServiceSpec, ToolError, current_call
from services.common.call import CONTROL_PLANE_CLIENT, PROBE_CLIENT
from services.common.paths import PathError, Roots
from services.common.ripgrep import BadPattern, Case, Grep, RgBinary, Ripgrep, RipgrepError
from services.search import answers
from services.search.engine import Engine, EngineLimits, searchable
from services.search.indexer import Indexer

__all__ = ["SPEC", "SearchSettings"]

_OWN_FOLDER = Path(__file__).parent

INSTRUCTIONS = """Searches files beneath the roots this server was given (search_status lists them).
search_grep for exact text and regular expressions, search_files for names, search_text for a ranked answer to words.
Counts are exact: matched = returned + omitted. 'no match', a refused pattern and 'timed out, partial' are different."""


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
    index_files: int = Field(default=100_000, ge=0)


@contextmanager
def _said() -> Iterator[None]:
    """Foreseen failures, as tool errors."""
    try:
        yield
    except BadPattern as error:
        raise ToolError(f"bad pattern: {error}") from error
    except (PathError, RipgrepError) as error:
        raise ToolError(str(error)) from error


PathArgument = Annotated[
    str | None, Field(description="File or folder to search; absolute, or relative where there is one root.")
]


@asynccontextmanager
async def build(kit: Kit, settings: SearchSettings) -> AsyncIterator[None]:
    """Declare the tools, and keep the indexes while the service runs."""
    roots = Roots.of(settings.roots)
    ripgrep = Ripgrep(str(settings.rg))
    version = await ripgrep.version()
    limits = EngineLimits(search_s=settings.search_s, answer_bytes=settings.answer_bytes)
    engine = Engine(ripgrep, [Indexer(root, ripgrep, max_files=settings.index_files) for root in roots], limits)
    _tools(kit, engine, roots, version)
    kit.metrics.usage.watch_disk("roots", settings.roots)
    # Cheap, and the whole way through ripgrep and back; only probes may look into the service's own folder.
    kit.probe("search_grep", {"pattern": "search service", "path": f"{_OWN_FOLDER}/__init__.py", "limit": 1})
    try:
        async with asyncio.TaskGroup() as keepers:
            tasks = [keepers.create_task(indexer.keep()) for indexer in engine.indexers]
            yield
            for task in tasks:
                task.cancel()
    finally:
        for indexer in engine.indexers:
            indexer.close()


def _tools(kit: Kit, engine: Engine, roots: Roots, version: str) -> None:
    def mine() -> Roots:
        call = current_call()
        if call.client == PROBE_CLIENT:
            return Roots.of([_OWN_FOLDER])
        if call.client == CONTROL_PLANE_CLIENT:  # calls our own probe, or one of an operator's
            return Roots((*roots, *Roots.of([_OWN_FOLDER])))
        return roots.narrowed(call.roots)

    @kit.tool(title="Search by pattern", read_only=True, idempotent=True)
    async def search_grep(
        pattern: Annotated[str, Field(min_length=1, max_length=4000, description="Regular expression (Rust's).")],
        path: str,
        literal: Annotated[bool, Field(description="Take the pattern as plain text.")] = False,
        case: Annotated[Case, Field(description="'smart' ignores case unless the pattern has capitals.")] = "smart",
        globs: Annotated[tuple[str, ...], Field(max_length=50, description="Such as '*.py', '!tests/**'.")] = (),
        context: Annotated[int, Field(ge=0, le=20, description="Lines around a match.")] = 0,
        limit: Annotated[int, Field(ge=1, le=1000, description="Most matching lines to return.")] = 100,
        hidden: Annotated[bool, Field(description="Also files that start with a dot.")] = False,
        ignored: Annotated[bool, Field(description="Also files that .gitignore names.")] = False,
    ) -> answers.Matches:
        """Lines that match a regular expression or a text, by ripgrep, sorted by path, with exact counts."""
        wanted = Grep((pattern,), literal, case, globs, context, hidden, ignored)
        with _said():
            return await engine.grep(mine().locate(path), wanted, limit=limit)

    @kit.tool(title="Search file names", read_only=True, idempotent=True)
    async def search_files(
        query: Annotated[str, Field(min_length=1, max_length=1000)],
        path: str,
        mode: Annotated[Literal["fuzzy", "glob"], Field(description="'fuzzy' forgives typing errors.")] = "fuzzy",
        limit: Annotated[int, Field(ge=1, le=500, description="Most files to return.")] = 50,
    ) -> answers.Files:
        """Files whose names resemble a query or match a glob; what .gitignore names is left out."""
        with _said():
            return await engine.files(mine().locate(path), query, mode, limit=limit)

    @kit.tool(title="Search by words", read_only=True, idempotent=True)
    async def search_text(
        query: Annotated[str, Field(min_length=1, max_length=2000, description="Words, in any order.")],
        path: PathArgument = None,
        limit: Annotated[int, Field(ge=1, le=100, description="Most passages to return.")] = 10,
    ) -> answers.Passages:
        """Passages that answer a query best, ranked; identifiers are split into words. Says which layer answered."""
        with _said():
            return await engine.text(searchable(mine(), path), query, limit=limit)

    @kit.tool(title="State of the indexes", read_only=True, idempotent=True)
    async def search_status() -> answers.Status:
        """The roots you may search, and how far their indexes are."""
        allowed = mine()
        shown: list[answers.RootStatus] = []
        for indexer in engine.indexers:
            found = await indexer.status()
            shown += [
                answers.RootStatus(
                    path=root.path,
                    state=found.state,
                    files=found.files,
                    chunks=found.chunks,
                    to_do=found.to_do,
                    skipped=found.skipped,
                    age_s=found.age_s,
                    problem=found.problem,
                )
                for root in allowed
                if Path(root.real).is_relative_to(indexer.root.real)
            ]
        return answers.Status(ripgrep=version, roots=tuple(shown))


SPEC = ServiceSpec("search", SearchSettings, build, INSTRUCTIONS)
