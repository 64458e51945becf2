"""Tools that look at folders and trees."""

from functools import partial
from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from services.common import Kit
from services.common.paths import Place
from services.filesystem import answers
from services.filesystem.files import Files
from services.filesystem.finding import FindLimits, Found, TreeWish, find, size_of, tree
from services.filesystem.globs import Glob
from services.filesystem.listing import Order, Page, facts, list_folder, shown_line
from services.filesystem.tools.arguments import After, PathArgument, Skip

__all__ = ["declare"]

_SKIPPED = (".git", "node_modules")


def declare(kit: Kit, files: Files) -> None:
    """Declare them."""
    _list(kit, files)
    _find(kit, files)
    _tree(kit, files)
    _facts(kit, files)
    _roots(kit, files)


def _list(kit: Kit, files: Files) -> None:
    @kit.tool(title="List a folder", read_only=True, idempotent=True)
    async def filesystem_list_directory(
        path: PathArgument,
        after: After = "",
        limit: Annotated[int, Field(ge=1, le=50_000, description="Most entries to return.")] = 1000,
        order: Order = "name",
        descending: bool = False,
        sizes: Annotated[bool, Field(description="Put its size in bytes behind each file.")] = True,
    ) -> Annotated[CallToolResult, answers.Folder]:
        """List a folder's entries, a line each: `name/` is a folder, `name@` a link (not followed), `name?` neither."""

        def work(place: Place) -> tuple[Page, str]:
            page = list_folder(
                place,
                after=after,
                limit=limit,
                budget_bytes=files.limits.answer_bytes,
                order=order,
                descending=descending,
                sizes=sizes,
            )
            return page, "\n".join([shown_line(entry, sizes=sizes) for entry in page.entries])

        page, text = await files.walk(work, path)
        told = answers.Folder(path=path, total=page.total, returned=len(page.entries), next_after=page.next_after)
        return answers.answer(told, text, _paging(len(page.entries), page.total, page.next_after))


def _paging(returned: int, total: int, next_after: str | None) -> str:
    if not total:
        return "empty"
    return "" if next_after is None else f"{returned} of {total}; continue with after={next_after}"


def _find(kit: Kit, files: Files) -> None:
    @kit.tool(title="Find files by glob", read_only=True, idempotent=True)
    async def filesystem_find_files(
        path: PathArgument,
        pattern: Annotated[str, Field(description="Such as '*.py' (any depth), 'src/**/*.{ts,tsx}'.")],
        limit: Annotated[int, Field(ge=1, le=50_000, description="Most paths to return.")] = 1000,
        skip: Skip = _SKIPPED,
        order: Annotated[Order, Field(description="name, or the newest or the largest first.")] = "name",
        gitignore: Annotated[bool, Field(description="Leave out what .gitignore files name.")] = False,
        after: After = "",
    ) -> Annotated[CallToolResult, answers.Files]:
        """Find paths beneath a folder by a glob over the relative path, a line each. Links are not followed."""
        limits = FindLimits(paths=limit, budget_bytes=files.limits.answer_bytes)

        def work(place: Place) -> Found:
            glob = Glob.of(pattern)
            return find(place, glob, skip=frozenset(skip), limits=limits, order=order, gitignore=gitignore, after=after)

        found = await files.walk(work, path)
        told = answers.Files(
            path=path,
            matched=found.matched,
            returned=len(found.paths),
            omitted=found.matched - len(found.paths),
            complete=found.complete,
            next_after=found.next_after,
        )
        note = _paging(len(found.paths), found.matched, found.next_after) if found.matched else "no match"
        if not found.complete:
            note = "; ".join(filter(None, (note, "the tree is too large to look at all of it: start deeper")))
        return answers.answer(told, "\n".join(found.paths), note)


def _tree(kit: Kit, files: Files) -> None:
    @kit.tool(title="Show a tree", read_only=True, idempotent=True)
    async def filesystem_tree(
        path: PathArgument,
        depth: Annotated[int, Field(ge=1, le=200, description="Folders to go down.")] = 5,
        limit: Annotated[int, Field(ge=1, le=50_000, description="Most entries to return.")] = 2000,
        after: After = "",
        gitignore: Annotated[bool, Field(description="Leave out .git and what .gitignore files name.")] = True,
        exclude: Annotated[tuple[str, ...], Field(max_length=50, description="Globs of paths to leave out.")] = (),
        sizes: Annotated[bool, Field(description="Put its size in bytes behind each file.")] = False,
    ) -> Annotated[CallToolResult, answers.TextTree]:
        """Show what lies beneath a folder, a line an entry, indented by a blank a folder.
        `name/` is a folder, `name@` a link (not followed)."""

        def work(place: Place) -> tuple[answers.TextTree, str]:
            globs = tuple(Glob.of(pattern) for pattern in exclude)
            wish = TreeWish(depth, limit, after, exclude=globs, gitignore=gitignore, sizes=sizes)
            found = tree(place, wish, budget_bytes=files.limits.answer_bytes)
            told = answers.TextTree(
                path=path, returned=found.entries, next_after=found.next_after, complete=found.complete
            )
            return told, found.text

        told, text = await files.walk(work, path)
        note = f"{told.returned} entries, there are more; continue with after={told.next_after}"
        return answers.answer(told, text, note if told.next_after is not None else "" if text else "empty")

    @kit.tool(title="Size of a folder", read_only=True, idempotent=True)
    async def filesystem_directory_size(path: PathArgument) -> Annotated[CallToolResult, answers.TreeSize]:
        """What a folder holds: bytes, files, folders. Links are not followed."""
        found = await files.walk(size_of, path)
        told = answers.TreeSize(
            path=path,
            size_bytes=found.size_bytes,
            disk_bytes=found.disk_bytes,
            files=found.files,
            folders=found.folders,
            others=found.others,
            complete=found.complete,
        )
        least = "" if found.complete else "at least "
        return answers.answer(told, f"{least}{found.size_bytes} bytes in {found.files} files, {found.folders} folders")


def _facts(kit: Kit, files: Files) -> None:
    @kit.tool(title="Facts about a path", read_only=True, idempotent=True)
    async def filesystem_stat(
        path: PathArgument,
        sha256: Annotated[bool, Field(description="Also the SHA-256 of a file's content.")] = False,
    ) -> Annotated[CallToolResult, answers.PathFacts]:
        """Kind, size, mode and time of a path. A link is described itself, not followed."""
        found = await files.run(partial(facts, sha256=sha256), path)
        told = answers.PathFacts(
            path=found.path,
            kind=found.kind,
            size_bytes=found.size_bytes,
            mode=found.mode,
            modified=found.modified.isoformat(),
            links_to=found.links_to,
            owner=found.owner,
            group=found.group,
            names=found.names,
            sha256=found.sha256,
            writable=files.place(path).root.writable,
        )
        return answers.answer(told, f"{found.mode} {found.size_bytes} bytes, {told.modified}, {found.kind}")


def _roots(kit: Kit, files: Files) -> None:
    @kit.tool(title="List the roots", read_only=True, idempotent=True)
    async def filesystem_list_roots() -> Annotated[CallToolResult, answers.RootList]:
        """The folders you may use; every path must lie in one of them."""
        roots = files.roots()
        told = answers.RootList(
            roots=tuple(root.path for root in roots),
            read_only=tuple(root.path for root in roots if not root.writable),
        )
        lines = [root.path if root.writable else f"{root.path} (read-only)" for root in roots]
        return answers.answer(told, "\n".join(lines), "" if lines else "none")
