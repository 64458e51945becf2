"""Tools and settings of the filesystem service.

Thin: a tool finds the caller's roots, names the place, and hands the work to a thread.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, TypeVar

import anyio.to_thread
from mcp_types import CallToolResult, TextContent
from pydantic import AfterValidator, BaseModel, Field
from pydantic_settings import SettingsConfigDict

from services.common import Folders, Kit, ServiceSettings, ServiceSpec, ToolError, current_call
from services.common.paths import PathError, Place, Roots
from services.filesystem import answers, changing, listing
from services.filesystem.edits import EditError
from services.filesystem.globs import Glob, GlobError
from services.filesystem.reading import read_window

__all__ = ["SPEC", "FilesystemSettings"]

T = TypeVar("T")

INSTRUCTIONS = """Reads and changes files within the roots this server was given (filesystem_list_roots).
Paths are absolute, or relative where there is one root. Read a file before editing it; filesystem_edit_file wants the
exact text, once. Nothing is overwritten or deleted recursively unless you say so."""


def _usable(folders: Folders) -> Folders:
    Roots.of(folders)
    return folders


class FilesystemSettings(ServiceSettings):
    """`MCP_FILESYSTEM_…`."""

    model_config = SettingsConfigDict(env_prefix="MCP_FILESYSTEM_")

    roots: Annotated[Folders, Field(min_length=1), AfterValidator(_usable)]
    answer_bytes: int = Field(default=64 << 10, ge=1024)


PathArgument = Annotated[str, Field(description="Absolute, or relative where there is one root.")]


@asynccontextmanager
async def build(kit: Kit, settings: FilesystemSettings) -> AsyncIterator[None]:
    """Declare the tools."""
    files = _Files(Roots.of(settings.roots), settings.answer_bytes)
    _reading_tools(kit, files)
    _changing_tools(kit, files)
    kit.probe("filesystem_list_directory", {"path": str(settings.roots[0]), "limit": 1})
    kit.metrics.usage.watch_disk("roots", settings.roots)
    yield


class _Files:
    """The roots as the running call may use them."""

    def __init__(self, roots: Roots, budget_bytes: int) -> None:
        self._roots = roots
        self.budget_bytes = budget_bytes

    def roots(self) -> Roots:
        return self._roots.narrowed(current_call().roots)

    async def run(self, work: Callable[[Place], T], path: str, *, changes: bool = False) -> T:
        """`work` on the place `path` names, in a thread.

        A read may be abandoned at its deadline; a change is seen through, so that its answer is true.
        """
        return await self.run_plain(lambda: work(self.roots().locate(path)), changes=changes)

    async def run_plain(self, work: Callable[[], T], *, changes: bool) -> T:
        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=not changes)
        except (PathError, EditError, GlobError) as error:
            raise ToolError(str(error)) from error


def _with_text(text: str, note: str, facts: BaseModel) -> CallToolResult:
    blocks = [TextContent(type="text", text=text)]
    if note:
        blocks.append(TextContent(type="text", text=f"[{note}]"))
    return CallToolResult(content=[*blocks], structured_content=facts.model_dump(mode="json"))


def _reading_tools(kit: Kit, files: _Files) -> None:
    @kit.tool(title="Read a file", read_only=True, idempotent=True)
    async def filesystem_read_file(
        path: PathArgument,
        offset: Annotated[int, Field(ge=1, description="First line to read, from 1.")] = 1,
        limit: Annotated[int, Field(ge=1, le=10_000, description="Most lines to read.")] = 2000,
        numbers: Annotated[bool, Field(description="Put its number before each line.")] = False,
    ) -> Annotated[CallToolResult, answers.ReadLines]:
        """Read lines of a text file. Continue with offset = next_offset. Binary files are refused."""
        window = await files.run(
            partial(read_window, offset=offset, limit=limit, numbers=numbers, budget_bytes=files.budget_bytes), path
        )
        facts = answers.ReadLines(
            path=path,
            first_line=window.first_line,
            lines=window.lines,
            next_offset=window.next_offset,
            total_lines=window.total_lines,
            size_bytes=window.size_bytes,
            line_ending=window.line_ending,
            note=window.note,
        )
        return _with_text(window.text, _reading_note(facts), facts)

    @kit.tool(title="List a folder", read_only=True, idempotent=True)
    async def filesystem_list_directory(
        path: PathArgument,
        after: Annotated[str, Field(description="Name after which to go on; next_after of the page before.")] = "",
        limit: Annotated[int, Field(ge=1, le=1000, description="Most entries to return.")] = 200,
    ) -> answers.Folder:
        """List a folder's entries by name, with kind (file, folder, link, other) and size. Links are not followed."""
        page = await files.run(
            partial(listing.list_folder, after=after, limit=limit, budget_bytes=files.budget_bytes), path
        )
        return answers.Folder(path=path, entries=page.entries, total=page.total, next_after=page.next_after)

    @kit.tool(title="Find files by glob", read_only=True, idempotent=True)
    async def filesystem_find_files(
        path: PathArgument,
        pattern: Annotated[str, Field(description="Such as '*.py' (any depth), 'src/**/*.{ts,tsx}'.")],
        limit: Annotated[int, Field(ge=1, le=1000, description="Most paths to return.")] = 200,
        skip: Annotated[tuple[str, ...], Field(description="Names of folders not to look into.")] = (
            ".git",
            "node_modules",
        ),
    ) -> answers.Files:
        """Find paths beneath a folder by a glob over the relative path, sorted. Links are not followed."""
        limits = listing.FindLimits(paths=limit, budget_bytes=files.budget_bytes)
        found = await files.run(
            lambda place: listing.find(place, Glob.of(pattern), skip=frozenset(skip), limits=limits), path
        )
        return answers.Files(
            path=path,
            matches=found.paths,
            matched=found.matched,
            returned=len(found.paths),
            omitted=found.matched - len(found.paths),
            complete=found.complete,
        )

    @kit.tool(title="Facts about a path", read_only=True, idempotent=True)
    async def filesystem_stat(path: PathArgument) -> answers.PathFacts:
        """Kind, size, mode and time of a path. A link is described itself, not followed."""
        found = await files.run(listing.facts, path)
        return answers.PathFacts(
            path=found.path,
            kind=found.kind,
            size_bytes=found.size_bytes,
            mode=found.mode,
            modified=found.modified.isoformat(),
            links_to=found.links_to,
        )

    @kit.tool(title="List the roots", read_only=True, idempotent=True)
    async def filesystem_list_roots() -> answers.RootList:
        """The folders you may use; every path must lie in one of them."""
        return answers.RootList(roots=tuple(root.path for root in files.roots()))


def _changing_tools(kit: Kit, files: _Files) -> None:
    @kit.tool(title="Write a file", destructive=True, idempotent=True)
    async def filesystem_write_file(
        path: PathArgument,
        content: Annotated[str, Field(description="The whole new content.")],
        overwrite: Annotated[bool, Field(description="Replace a file that exists.")] = False,
    ) -> answers.Changed:
        """Write a whole file at once, with the folders it needs. Refuses to replace one unless overwrite is true."""
        raw = _encoded(content)
        created = await files.run(partial(changing.write_file, content=raw, overwrite=overwrite), path, changes=True)
        return answers.Changed(path=path, created=created, size_bytes=len(raw))

    @kit.tool(title="Edit a file", destructive=True)
    async def filesystem_edit_file(
        path: PathArgument,
        edits: Annotated[list[answers.EditArgument], Field(min_length=1, max_length=100)],
        dry_run: Annotated[bool, Field(description="Only show the diff.")] = False,
    ) -> Annotated[CallToolResult, answers.Edited]:
        """Replace exact texts in a file, all or none; each must match exactly once. Answers with the diff."""
        made = [edit.edit() for edit in edits]
        diff = await files.run(partial(changing.edit_file, edits=made, dry_run=dry_run), path, changes=not dry_run)
        shown = diff.encode()[: files.budget_bytes].decode("utf-8", "ignore")
        facts = answers.Edited(path=path, applied=not dry_run, diff_truncated=shown != diff)
        note = "dry run: nothing was changed" if dry_run else "applied"
        return _with_text(shown, f"{note}; the diff is cut" if facts.diff_truncated else note, facts)

    @kit.tool(title="Move or rename", destructive=True)
    async def filesystem_move(
        source: PathArgument,
        target: Annotated[str, Field(description="The new path itself, not the folder to move into.")],
        overwrite: Annotated[bool, Field(description="Replace what stands at the target.")] = False,
    ) -> answers.Moved:
        """Move or rename a file, folder or link. Refuses to replace anything unless overwrite is true."""

        def work(place: Place) -> None:
            changing.move(place, files.roots().locate(target), overwrite=overwrite)

        await files.run(work, source, changes=True)
        return answers.Moved(source=source, target=target)

    @kit.tool(title="Delete", destructive=True)
    async def filesystem_delete(
        path: PathArgument,
        recursive: Annotated[bool, Field(description="Delete a folder with all that is in it.")] = False,
    ) -> answers.Deleted:
        """Delete a file, a link or an empty folder for good; with recursive a folder and all that is in it."""
        kind = await files.run(partial(changing.delete, recursive=recursive), path, changes=True)
        return answers.Deleted(path=path, kind=kind)


def _encoded(content: str) -> bytes:
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise ToolError("content is not valid Unicode (a lone surrogate); send it as UTF-8") from error


def _reading_note(facts: answers.ReadLines) -> str:
    last = facts.first_line + facts.lines - 1
    of = "" if facts.total_lines is None else f" of {facts.total_lines}"
    notes = [facts.note] if facts.note else []
    if facts.next_offset is not None:
        notes.insert(0, f"lines {facts.first_line}-{last}{of}; continue with offset={facts.next_offset}")
    return "; ".join(notes)


SPEC = ServiceSpec("filesystem", FilesystemSettings, build, INSTRUCTIONS)
