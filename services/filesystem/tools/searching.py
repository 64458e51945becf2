"""The tool that searches contents, by the engine that the search service has, too."""

from itertools import groupby
from typing import Annotated

import anyio.to_thread
from mcp_types import CallToolResult
from pydantic import Field

from services.common import Kit, ToolError
from services.common.paths import PathError, printable
from services.common.ripgrep import BadPattern, Case, Grep, Hits, Ripgrep, RipgrepError
from services.common.targets import Target, clip_line, confirmed, opened_target
from services.filesystem import answers
from services.filesystem.files import Files
from services.filesystem.own import FOLDER
from services.filesystem.tools.arguments import PathArgument

__all__ = ["declare"]

_SEARCH_S = 20.0


def declare(kit: Kit, files: Files, ripgrep: Ripgrep) -> None:
    """Declare it."""

    @kit.tool(title="Search contents", read_only=True, idempotent=True)
    async def filesystem_search_content(
        path: PathArgument,
        pattern: Annotated[str, Field(min_length=1, max_length=1000, description="A regular expression, of Rust's.")],
        literal: Annotated[bool, Field(description="The pattern is a text as it stands.")] = False,
        case: Annotated[Case, Field(description="smart: ignored unless the pattern has capitals.")] = "smart",
        globs: Annotated[
            tuple[str, ...], Field(max_length=20, description="Only such files: '*.py'; '!*.min.js' leaves out.")
        ] = (),
        context: Annotated[int, Field(ge=0, le=10, description="Lines to show around a match.")] = 0,
        hidden: Annotated[bool, Field(description="Also files whose names start with a dot.")] = False,
        ignored: Annotated[bool, Field(description="Also files that .gitignore names.")] = False,
        limit: Annotated[int, Field(ge=1, le=1000, description="Most matching lines to return.")] = 200,
    ) -> Annotated[CallToolResult, answers.SearchFacts]:
        """Search lines of files beneath a folder, or of one file. A line `path` for each file, below it
        `number:text` for a match and `number-text` for a line around one."""
        wanted = Grep((pattern,), literal, case, (*globs, f"!{FOLDER}"), context, hidden, ignored)
        try:
            async with opened_target(files.place(path)) as target:
                hits = await ripgrep.grep(target.folder, target.name, wanted, keep=limit, deadline_s=_SEARCH_S)
                shown = await anyio.to_thread.run_sync(_shown, target, hits, files.limits.answer_bytes)
        except (PathError, BadPattern, RipgrepError) as error:
            raise ToolError(str(error)) from error
        text, returned = shown
        return answers.answer(facts := _facts(path, hits, returned), text, _note(facts))


def _facts(path: str, hits: Hits, returned: int) -> answers.SearchFacts:
    outcome = ("complete" if hits.matched else "no match") if hits.complete else "timed out, partial"
    return answers.SearchFacts(
        path=path,
        outcome=outcome,
        matched=hits.matched,
        returned=returned,
        omitted=max(0, hits.matched - returned),
        files_matched=hits.files,
        problems=hits.problems,
    )


def _note(facts: answers.SearchFacts) -> str:
    if not facts.omitted:
        return "" if facts.outcome == "complete" else facts.outcome
    more = f"{facts.returned} of {facts.matched} matching lines in {facts.files_matched} files"
    return f"{more}; search deeper, by globs, or for more" + (", timed out" if "timed" in facts.outcome else "")


def _shown(target: Target, hits: Hits, budget_bytes: int) -> tuple[str, int]:
    """The lines within the budget, and how many of them match. Blocks."""
    lines: list[str] = []
    left, returned = budget_bytes, 0
    for path, found in groupby(hits.lines, key=lambda hit: hit.path):
        place = target.place(path)
        head = printable(place.root.shown(place.relative))
        kept = confirmed(target, path, list(found))
        for number, hit in enumerate(kept):
            mark = "-" if hit.start is None else ":"
            line = f"{hit.number}{mark}{clip_line(hit.text, hit.start)}"
            block = [head, line] if number == 0 else [line]
            left -= sum(len(part.encode()) + 1 for part in block)
            if left < 0:
                return "\n".join(lines), returned
            lines += block
            returned += hit.start is not None
    return "\n".join(lines), returned
