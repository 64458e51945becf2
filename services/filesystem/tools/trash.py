"""Tools that delete, and take back."""

from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from services.common import Kit
from services.common.paths import PathError, Place, Root, explain
from services.filesystem import answers, trash
from services.filesystem.files import Files
from services.filesystem.tools.arguments import After, PathArgument

__all__ = ["declare"]

TrashId = Annotated[str, Field(description="trash_id of filesystem_delete or filesystem_list_trash.")]


def declare(kit: Kit, files: Files) -> None:
    """Declare them."""
    _delete(kit, files)
    _list(kit, files)
    _restore(kit, files)
    _empty(kit, files)


def _delete(kit: Kit, files: Files) -> None:
    @kit.tool(title="Delete", destructive=True)
    async def filesystem_delete(
        path: PathArgument,
        recursive: Annotated[bool, Field(description="Delete a folder with all that is in it.")] = False,
        permanent: Annotated[bool, Field(description="For good, instead of into the trash.")] = False,
    ) -> Annotated[CallToolResult, answers.Deleted]:
        """Delete a file, a link or a folder: into the trash of its root; filesystem_restore brings it back."""

        def work(place: Place) -> trash.Deleted:
            files.purge_now_and_then(place.root)
            return trash.delete(place, recursive=recursive, permanent=permanent, quota=files.limits.quota)

        gone = await files.run(work, path, changes=True)
        how = "for good" if gone.trash_id is None else f"into the trash as {gone.trash_id}"
        facts = answers.Deleted(path=path, kind=gone.kind, trash_id=gone.trash_id)
        return answers.answer(facts, f"deleted {path} {how}")


def _all(files: Files) -> list[tuple[Root, trash.Trashed]]:
    """What the caller may see of the trash, newest first."""
    found: dict[str, tuple[Root, trash.Trashed]] = {}
    for root in files.roots():
        try:
            notes = trash.listed(root) if root.writable else []
        except OSError as error:
            raise explain(error, Place(root, ".")) from error
        for note in notes:
            found.setdefault(note.id, (root, note))
    return sorted(found.values(), key=lambda one: one[1].id, reverse=True)


def _list(kit: Kit, files: Files) -> None:
    @kit.tool(title="List the trash", read_only=True, idempotent=True)
    async def filesystem_list_trash(
        after: After = "",
        limit: Annotated[int, Field(ge=1, le=1000, description="Most entries to return.")] = 100,
    ) -> Annotated[CallToolResult, answers.TrashList]:
        """What was deleted and can be restored, newest first."""
        found = await files.run_plain(lambda: _all(files), changes=False)
        rest = [note for _, note in found if not after or note.id < after]
        entries: list[answers.TrashedEntry] = []
        left = files.limits.answer_bytes
        for note in rest[:limit]:
            left -= len(note.path.encode()) + 150
            if left < 0 and entries:
                break
            entries.append(_entry(note))
        next_after = entries[-1].trash_id if entries and len(entries) < len(rest) else None
        facts = answers.TrashList(entries=tuple(entries), total=len(found), next_after=next_after)
        text = f"{len(entries)} of {len(found)} deleted entries"
        return answers.answer(facts, text, f"continue with after={next_after}" if next_after else "")


def _entry(note: trash.Trashed) -> answers.TrashedEntry:
    return answers.TrashedEntry(
        trash_id=note.id, path=note.path, kind=note.kind, size_bytes=note.size_bytes, deleted_at=note.deleted_at
    )


def _one(files: Files, trash_id: str) -> tuple[Root, trash.Trashed]:
    for root, note in _all(files):
        if note.id == trash_id:
            return root, note
    raise PathError(f"there is no {trash_id[:80]!r} in the trash; filesystem_list_trash says what there is")


def _restore(kit: Kit, files: Files) -> None:
    @kit.tool(title="Restore from the trash")
    async def filesystem_restore(
        trash_id: TrashId,
        target: Annotated[str | None, Field(description="Another path than the one it was deleted from.")] = None,
    ) -> Annotated[CallToolResult, answers.Restored]:
        """Bring something deleted back to where it was, or to another path of the same root. Replaces nothing."""

        def work() -> answers.Restored:
            root, note = _one(files, trash_id)
            place = files.ready(files.place(note.path if target is None else target, changes=True))
            if place.root.whole != root.whole:
                raise PathError(f"{place.shown} lies in another root than the trash; restore it there, then copy it")
            trash.restore(root, note, place)
            return answers.Restored(trash_id=trash_id, path=place.root.shown(place.relative), kind=note.kind)

        facts = await files.run_plain(work, changes=True)
        return answers.answer(facts, f"restored {facts.path}")


def _empty(kit: Kit, files: Files) -> None:
    @kit.tool(title="Empty the trash", destructive=True, idempotent=True)
    async def filesystem_empty_trash(
        trash_id: Annotated[str | None, Field(description="Only this entry; all of them when not given.")] = None,
    ) -> Annotated[CallToolResult, answers.Emptied]:
        """Remove what was deleted for good. It cannot be restored any more."""

        def work() -> int:
            chosen = _all(files) if trash_id is None else [_one(files, trash_id)]
            try:
                return sum(trash.empty(root, [note], files.limits.quota) for root, note in chosen)
            except OSError as error:
                raise PathError(f"the trash could not be emptied: {error.strerror}; try again") from error

        removed = await files.run_plain(work, changes=True)
        return answers.answer(answers.Emptied(removed=removed), f"removed {removed} entries for good")
