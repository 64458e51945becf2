"""The tool that searches contents, by the engine that the search service has, too."""

from dataclasses import dataclass
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
        facts = _facts(path, hits, shown)
        return answers.answer(facts, shown.text, _note(facts))


@dataclass(frozen=True)
class _Shown:
    """What goes into the answer.

    Args:
        text: The lines.
        returned: How many of them match.
        unconfirmed: Files of which something does not stand in the file that the path layer opens.
    """

    text: str
    returned: int
    unconfirmed: int


def _facts(path: str, hits: Hits, shown: _Shown) -> answers.SearchFacts:
    matched, files, outcome = hits.matched, hits.files, "complete" if hits.matched else "no match"
    if shown.unconfirmed:
        # Ripgrep may have been led out of the root: not even how much it found there is said.
        matched, files, outcome = (
            shown.returned,
            max(0, hits.files - shown.unconfirmed),
            "files changed or refused, partial",
        )
    if not hits.complete:
        outcome = "timed out, partial"
    return answers.SearchFacts(
        path=path,
        outcome=outcome,
        matched=matched,
        returned=shown.returned,
        omitted=max(0, matched - shown.returned),
        files_matched=files if matched else 0,
        problems=() if shown.unconfirmed else hits.problems,
    )


def _note(facts: answers.SearchFacts) -> str:
    if not facts.omitted:
        return "" if facts.outcome == "complete" else facts.outcome
    more = f"{facts.returned} of {facts.matched} matching lines in {facts.files_matched} files"
    return f"{more}; search deeper, by globs, or for more" + (", timed out" if "timed" in facts.outcome else "")


def _shown(target: Target, hits: Hits, budget_bytes: int) -> _Shown:
    """The lines within the budget. Blocks."""
    lines: list[str] = []
    left, returned, unconfirmed = budget_bytes, 0, 0
    for path, found in groupby(hits.lines, key=lambda hit: hit.path):
        place = target.place(path)
        head = printable(place.root.shown(place.relative))
        said = list(found)
        kept = confirmed(target, path, said)
        unconfirmed += len(kept) != len(said)
        for number, hit in enumerate(kept):
            mark = "-" if hit.start is None else ":"
            line = f"{hit.number}{mark}{clip_line(hit.text, hit.start)}"
            block = [head, line] if number == 0 else [line]
            left -= sum(len(part.encode()) + 1 for part in block)
            if left < 0:
                return _Shown("\n".join(lines), returned, unconfirmed)
            lines += block
            returned += hit.start is not None
    return _Shown("\n".join(lines), returned, unconfirmed)
