"""The tools: what callers may ask, and how an answer is put."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from mcp_types import CallToolResult, TextContent
from pydantic import Field

from services.common import Kit, ToolError, current_call
from services.common.call import CONTROL_PLANE_CLIENT, PROBE_CLIENT
from services.common.paths import PathError, Roots
from services.common.ripgrep import BadPattern, Case, Grep, RipgrepError
from services.search import answers, resources
from services.search.coding import CodeAnswers
from services.search.courtesy import Courtesy
from services.search.cursors import CursorError
from services.search.engine import Engine, Mode, Told, searchable
from services.search.indexer import Indexer
from services.search.ranked import RankedSearch
from services.search.symbols import EXTENSIONS

__all__ = ["OWN_FOLDER", "Searches", "declare"]

OWN_FOLDER = Path(__file__).parent
_EXAMPLES = 5
_REFRESH_S = 30.0


@dataclass(frozen=True)
class Searches:
    """What answers.

    Args:
        engine: Lines and names.
        ranked: Questions in words.
        code: Questions about code.
        ripgrep: Its version.
        embeddings: The model, or why there is none.
        courtesy: Told of every question.
    """

    engine: Engine
    ranked: RankedSearch
    code: CodeAnswers
    ripgrep: str
    embeddings: str
    courtesy: Courtesy


@contextmanager
def _said(searches: Searches) -> Iterator[None]:
    """A question that is being answered; foreseen failures become tool errors."""
    try:
        with searches.courtesy.asking():
            yield
    except BadPattern as error:
        raise ToolError(f"bad pattern: {error}") from error
    except (PathError, RipgrepError, CursorError) as error:
        raise ToolError(str(error)) from error


def _put(told: Told[Any]) -> CallToolResult:
    facts = told.facts.model_dump(mode="json", exclude_none=True)
    return CallToolResult(content=[TextContent(type="text", text=told.text)], structured_content=facts)


PathArgument = Annotated[
    str | None, Field(description="File or folder to search; absolute, or relative where there is one root.")
]
Cursor = Annotated[str, Field(max_length=20_000, description="Of the answer before, for what follows it.")]
Limit = Annotated[int, Field(ge=1, le=500, description="Most to return.")]
Hidden = Annotated[bool, Field(description="Also files that start with a dot.")]
Ignored = Annotated[bool, Field(description="Also files that .gitignore names.")]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Snippet = Annotated[int, Field(ge=0, le=60, description="Most lines of each passage; 0 for places alone.")]


def declare(kit: Kit, searches: Searches, roots: Roots) -> None:
    """Declare all tools, and what there is besides.

    Args:
        kit: Where.
        searches: What answers.
        roots: The service's roots.
    """
    mine = _Mine(roots)
    _exact(kit, searches, mine)
    _by_words(kit, searches, mine)
    _in_code(kit, searches, mine)
    _of_the_index(kit, searches, mine)
    resources.declare(kit, searches.engine, searches.code, mine)


@dataclass(frozen=True)
class _Mine:
    """The roots that the running call may use."""

    all: Roots

    def __call__(self) -> Roots:
        call = current_call()
        if call.client == PROBE_CLIENT:
            return Roots.of([OWN_FOLDER])
        if call.client == CONTROL_PLANE_CLIENT:  # calls our own probe, or one of an operator's
            return Roots((*self.all, *Roots.of([OWN_FOLDER])))
        return self.all.narrowed(call.roots)


def _exact(kit: Kit, searches: Searches, mine: _Mine) -> None:
    @kit.tool(title="Search by pattern", read_only=True, idempotent=True)
    async def search_grep(
        pattern: Annotated[str, Field(min_length=1, max_length=4000, description="Regular expression (Rust's).")],
        path: str,
        literal: Annotated[bool, Field(description="Take the pattern as plain text.")] = False,
        case: Annotated[Case, Field(description="'smart' ignores case unless the pattern has capitals.")] = "smart",
        globs: Annotated[tuple[str, ...], Field(max_length=50, description="Such as '*.py', '!tests/**'.")] = (),
        types: Annotated[tuple[str, ...], Field(max_length=20, description="ripgrep's: 'py', 'rust', 'js'.")] = (),
        word: Annotated[bool, Field(description="Only whole words.")] = False,
        multiline: Annotated[bool, Field(description="A match may span lines; '(?s)' lets '.' do so.")] = False,
        mode: Annotated[
            Mode, Field(description="'files': only which files; 'counts': how often in each; both without lines.")
        ] = "lines",
        context: Annotated[int, Field(ge=0, le=20, description="Lines around a match.")] = 0,
        limit: Annotated[int, Field(ge=1, le=1000, description="Most matching lines, or files, to return.")] = 100,
        hidden: Hidden = False,
        ignored: Ignored = False,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, answers.Matches]:
        """Lines that match a regular expression or a text, by ripgrep, sorted by path, with exact counts."""
        wanted = Grep((pattern,), literal, case, globs, context, hidden, ignored, types, word, multiline)
        with _said(searches):
            place = mine().locate(path)
            return _put(await searches.engine.grep(place, wanted, limit=limit, mode=mode, cursor=cursor))

    @kit.tool(title="Search file names", read_only=True, idempotent=True)
    async def search_files(
        query: Annotated[str, Field(min_length=1, max_length=1000)],
        path: str,
        mode: Annotated[Literal["fuzzy", "glob"], Field(description="'fuzzy' forgives typing errors.")] = "fuzzy",
        limit: Annotated[int, Field(ge=1, le=500, description="Most files to return.")] = 50,
        hidden: Hidden = False,
        ignored: Ignored = False,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, answers.Files]:
        """Files whose names resemble a query or match a glob; what .gitignore names is left out."""
        with _said(searches):
            place = mine().locate(path)
            found = await searches.engine.files(
                place, query, mode, limit=limit, cursor=cursor, hidden=hidden, ignored=ignored
            )
            return _put(found)


def _by_words(kit: Kit, searches: Searches, mine: _Mine) -> None:
    @kit.tool(title="Search by words", read_only=True, idempotent=True)
    async def search_text(
        query: Annotated[str, Field(min_length=1, max_length=2000, description="A question, words, or a name.")],
        path: PathArgument = None,
        limit: Annotated[int, Field(ge=1, le=100, description="Most passages to return.")] = 10,
        snippet_lines: Snippet = 8,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, answers.Passages]:
        """Passages that answer a question best, by words and meaning; says which layers answered."""
        with _said(searches):
            places = searchable(mine(), path)
            found = await searches.ranked.text(places, query, limit=limit, snippet_lines=snippet_lines, cursor=cursor)
            return _put(found)

    @kit.tool(title="Search for what is like a place", read_only=True, idempotent=True)
    async def search_related(
        path: Annotated[str, Field(description="The file.")],
        line: Annotated[int, Field(ge=1, description="A line of it.")],
        within: Annotated[str | None, Field(description="File or folder to look in; every root without.")] = None,
        limit: Annotated[int, Field(ge=1, le=100, description="Most passages to return.")] = 10,
        snippet_lines: Snippet = 8,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, answers.Passages]:
        """Passages like the one at a line of a file, best first."""
        with _said(searches):
            found = await searches.ranked.related(
                mine().locate(path),
                line,
                searchable(mine(), within),
                limit=limit,
                snippet_lines=snippet_lines,
                cursor=cursor,
            )
            return _put(found)


def _in_code(kit: Kit, searches: Searches, mine: _Mine) -> None:
    @kit.tool(title="Outline of code", read_only=True, idempotent=True)
    async def search_symbols(
        path: PathArgument = None,
        name: Annotated[str, Field(max_length=500, description="Only names that hold this, in any case.")] = "",
        kinds: Annotated[tuple[str, ...], Field(max_length=20, description="'class', 'function', 'method', …")] = (),
        limit: Limit = 100,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, answers.Definitions]:
        """What a file defines, or the files of a folder, in their order (tree-sitter)."""
        with _said(searches):
            places = searchable(mine(), path)
            return _put(await searches.code.outline(places, name, kinds, limit=limit, cursor=cursor))

    @kit.tool(title="Where a name is defined", read_only=True, idempotent=True)
    async def search_definition(
        name: Name, path: PathArgument = None, limit: Limit = 20, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, answers.Definitions]:
        """Definitions of a name, such as `run` or `Server.run`."""
        with _said(searches):
            places = searchable(mine(), path)
            return _put(await searches.code.definitions(places, name, limit=limit, cursor=cursor))

    @kit.tool(title="What uses a name", read_only=True, idempotent=True)
    async def search_references(
        name: Name, path: PathArgument = None, limit: Limit = 100, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, answers.Uses]:
        """Lines of code that use a name, without its definitions, comments and strings."""
        with _said(searches):
            places = searchable(mine(), path)
            return _put(await searches.code.references(places, name, limit=limit, cursor=cursor))


def _of_the_index(kit: Kit, searches: Searches, mine: _Mine) -> None:
    async def shown() -> tuple[answers.RootStatus, ...]:
        allowed = mine()
        found: list[answers.RootStatus] = []
        for indexer in searches.ranked.indexers:
            paths = [root.path for root in allowed if Path(root.real).is_relative_to(indexer.root.real)]
            whole = indexer.root.path in paths
            found += [await _status(searches, indexer, path, whole=whole) for path in paths]
        return tuple(found)

    @kit.tool(title="State of the indexes", read_only=True, idempotent=True)
    async def search_status() -> answers.Status:
        """The roots you may search, and how far their indexes are."""
        languages = tuple(sorted(set(EXTENSIONS.values())))
        return answers.Status(
            ripgrep=searches.ripgrep, embeddings=searches.embeddings, languages=languages, roots=await shown()
        )

    @kit.tool(title="Compare the indexes with the files", read_only=True, idempotent=True)
    async def search_refresh(
        wait_s: Annotated[float, Field(ge=0, le=_REFRESH_S, description="The longest to wait for it.")] = 10.0,
    ) -> answers.Refreshed:
        """Have every index compared with all files now. Hardly ever needed: changes are seen by themselves."""
        done = [await indexer.refresh(wait_s, everything=True) for indexer in searches.ranked.indexers]
        return answers.Refreshed(complete=all(done), roots=await shown())


async def _status(searches: Searches, indexer: Indexer, path: str, *, whole: bool) -> answers.RootStatus:
    found = await indexer.status()
    meaning = searches.ranked.meaning
    # Names of files are for those alone who may see the whole root.
    skipped = tuple(
        answers.Skipped(why=why, files=len(paths), examples=tuple(paths[:_EXAMPLES]) if whole else ())
        for why, paths in sorted(found.skipped.items())
    )
    return answers.RootStatus(
        path=path,
        state=found.state,
        files=found.files,
        chunks=found.chunks,
        to_do=found.to_do,
        skipped=sum(skip.files for skip in skipped),
        age_s=found.age_s,
        problem=found.problem,
        skipped_why=skipped,
        embedded=len(meaning.vectors) if meaning is not None else 0,
        watched=found.watched,
        index_bytes=found.index_bytes,
    )
