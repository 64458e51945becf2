"""Tools that change files and folders."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from services.common import Kit
from services.common.paths import Place
from services.filesystem import answers, changing
from services.filesystem.changing import NewText
from services.filesystem.copying import copy
from services.filesystem.files import Files
from services.filesystem.manyedits import FileEdits, edit_files
from services.filesystem.tools.arguments import Encoding, ExpectedHash, PathArgument

__all__ = ["declare"]

Target = Annotated[str, Field(description="The new path itself, not the folder to put it into.")]
DryRun = Annotated[bool, Field(description="Only show the diff.")]


def declare(kit: Kit, files: Files) -> None:
    """Declare them."""
    _write(kit, files)
    _edit(kit, files)
    _edit_many(kit, files)
    _place(kit, files)


def _write(kit: Kit, files: Files) -> None:
    @kit.tool(title="Write a file", destructive=True)
    async def filesystem_write_file(
        path: PathArgument,
        content: Annotated[str, Field(description="The whole new content, or what to append.")],
        overwrite: Annotated[bool, Field(description="Replace a file that exists.")] = False,
        append: Annotated[bool, Field(description="Add to the end of the file instead.")] = False,
        exact: Annotated[
            bool, Field(description="Keep nothing of a replaced file: not its encoding, BOM, line ends, last newline.")
        ] = False,
        encoding: Encoding = None,
        expected_sha256: ExpectedHash = None,
    ) -> Annotated[CallToolResult, answers.Changed]:
        """Write a whole file at once, with the folders it needs. Refuses to replace one unless overwrite is true.
        A replaced file keeps its encoding, line ends and mode."""
        new = NewText(content, encoding, exact, expected_sha256)
        quota = files.limits.quota
        if append:
            work = partial(changing.append_text, new=new, quota=quota)
        else:
            work = partial(changing.write_text, new=new, overwrite=overwrite, quota=quota)
        written = await files.run(work, path, changes=True)
        facts = answers.Changed(path=path, created=written.created, size_bytes=written.size_bytes, kept=written.kept)
        verb = "created" if written.created else "appended to" if append else "replaced"
        kept = f", keeping {', '.join(written.kept)}" if written.kept else ""
        return answers.answer(facts, f"{verb} {path}, {written.size_bytes} bytes{kept}")


def _edit(kit: Kit, files: Files) -> None:
    @kit.tool(title="Edit a file", destructive=True)
    async def filesystem_edit_file(
        path: PathArgument,
        edits: Annotated[list[answers.EditArgument], Field(min_length=1, max_length=100)],
        dry_run: DryRun = False,
        encoding: Encoding = None,
        expected_sha256: ExpectedHash = None,
    ) -> Annotated[CallToolResult, answers.Edited]:
        """Replace exact texts in a file, all or none; each must match exactly once. Answers with the diff."""
        work = partial(
            changing.edit_file,
            edits=[edit.edit() for edit in edits],
            dry_run=dry_run,
            encoding=encoding,
            expected=expected_sha256,
            quota=files.limits.quota,
        )
        diff = await files.run(work, path, changes=True)
        shown = _cut(diff, files.limits.answer_bytes)
        facts = answers.Edited(path=path, applied=not dry_run, diff_truncated=shown != diff)
        return answers.answer(facts, shown, _done(dry_run=dry_run, cut=facts.diff_truncated))


def _cut(text: str, budget_bytes: int) -> str:
    return text.encode()[:budget_bytes].decode("utf-8", "ignore")


def _done(*, dry_run: bool, cut: bool) -> str:
    note = "dry run: nothing was changed" if dry_run else "applied"
    return f"{note}; the diff is cut" if cut else note


def _edit_many(kit: Kit, files: Files) -> None:
    @kit.tool(title="Edit several files", destructive=True)
    async def filesystem_edit_files(
        edits: Annotated[list[answers.FileArgument], Field(min_length=1, max_length=100)],
        dry_run: DryRun = False,
    ) -> Annotated[CallToolResult, answers.EditedFiles]:
        """Replace exact texts in several files of one root: all edits of all files, or none. Answers with the diffs."""

        def work() -> list[str]:
            wanted = [
                FileEdits(
                    files.ready(files.place(one.path, changes=True)),
                    [edit.edit() for edit in one.edits],
                    expected=one.expected_sha256,
                )
                for one in edits
            ]
            return edit_files(wanted, dry_run=dry_run, quota=files.limits.quota)

        diffs = await files.run_plain(work, changes=True)
        text = "".join(diffs)
        shown = _cut(text, files.limits.answer_bytes)
        facts = answers.EditedFiles(
            applied=not dry_run, diff_truncated=shown != text, files=tuple(_counts(edits, diffs))
        )
        return answers.answer(facts, shown, _done(dry_run=dry_run, cut=facts.diff_truncated))


def _counts(edits: Sequence[answers.FileArgument], diffs: Sequence[str]) -> Sequence[answers.EditedFile]:
    made: list[answers.EditedFile] = []
    for one, diff in zip(edits, diffs, strict=True):
        lines = diff.split("\n")[2:]
        added, removed = (sum(line.startswith(mark) for line in lines) for mark in "+-")
        made.append(answers.EditedFile(path=one.path, added=added, removed=removed))
    return made


def _place(kit: Kit, files: Files) -> None:
    @kit.tool(title="Move or rename", destructive=True)
    async def filesystem_move(
        source: PathArgument,
        target: Target,
        overwrite: Annotated[bool, Field(description="Replace what stands at the target.")] = False,
    ) -> Annotated[CallToolResult, answers.Moved]:
        """Move or rename a file, folder or link. Refuses to replace anything unless overwrite is true."""

        def work(place: Place) -> None:
            onto = files.ready(files.place(target, changes=True))
            changing.move(place, onto, overwrite=overwrite, quota=files.limits.quota)

        await files.run(work, source, changes=True)
        return answers.answer(answers.Moved(source=source, target=target), f"moved {source} to {target}")

    @kit.tool(title="Copy", destructive=True, idempotent=True)
    async def filesystem_copy(
        source: PathArgument,
        target: Target,
        overwrite: Annotated[bool, Field(description="Replace a file that stands at the target.")] = False,
    ) -> Annotated[CallToolResult, answers.Copied]:
        """Copy a file, or a folder with all that is in it. Links are copied as links. A folder is never replaced."""

        def work(place: Place) -> answers.Copied:
            made = copy(files.place(source), place, overwrite=overwrite, quota=files.limits.quota)
            return answers.Copied(
                source=source, target=target, kind=made.kind, files=made.files, size_bytes=made.size_bytes
            )

        facts = await files.run(work, target, changes=True)
        return answers.answer(facts, f"copied {source} to {target}: {facts.files} files, {facts.size_bytes} bytes")

    @kit.tool(title="Make a folder", idempotent=True)
    async def filesystem_make_directory(path: PathArgument) -> Annotated[CallToolResult, answers.MadeFolder]:
        """Make a folder, and those above it. One that is there already is no error."""
        created = await files.run(changing.make_folder, path, changes=True)
        text = f"created {path}/" if created else f"{path}/ was there already"
        return answers.answer(answers.MadeFolder(path=path, created=created), text)
