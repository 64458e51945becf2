"""Deleting, and taking back what was deleted. Blocks.

What is deleted is moved into the trash of its root by one rename, beside a note that says what it was. A note without
its entry, or an entry without its note, was left by a process that died between the two, and counts for nothing.
"""

import errno
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from services.common.paths import PathError, Place, Root, opened_parent, rename_no_replace
from services.filesystem.changing import folders_made, write_all
from services.filesystem.listing import kind_of
from services.filesystem.own import FOLDER, if_there, names_in, opened_own, within_whole
from services.filesystem.quotas import NO_QUOTA, Quota
from services.filesystem.storing import explained, locked, remove_tree, staged

__all__ = ["Deleted", "Trashed", "delete", "empty", "listed", "purge", "restore"]

_TRASH = "trash"
_NOTE = ".json"
_NOTE_BYTES = 16 << 10
_DAY_S = 86_400


@dataclass(frozen=True)
class Trashed:
    """Something in the trash.

    Args:
        id: What it is called there.
        path: Where it was, as callers see it.
        kind: `file`, `folder`, `link` or `other`.
        size_bytes: Of a file, None for anything else.
        deleted: When, in seconds since the epoch.
        within: Where it was in its root.
    """

    id: str
    path: str
    kind: str
    size_bytes: int | None
    deleted: float
    within: str

    @property
    def deleted_at(self) -> str:
        """When, in ISO 8601, UTC."""
        return datetime.fromtimestamp(self.deleted, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Deleted:
    """What was deleted, and how to have it back.

    Args:
        kind: What it was.
        trash_id: For restoring it, None when it is gone for good.
    """

    kind: str
    trash_id: str | None


def delete(place: Place, *, recursive: bool, permanent: bool, quota: Quota = NO_QUOTA) -> Deleted:
    """Delete a file, a link or an empty folder; with `recursive` a folder and all that is in it.

    Raises:
        PathError: It is not there, is a folder that is not empty, or cannot be deleted.
    """
    with opened_parent(place) as (folder, name), locked(place, folder), explained(place):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = kind_of(found.st_mode)
        if _is_full_folder(folder, name, found) and not recursive:
            raise PathError(f"{place.shown} is not empty; pass recursive=true to delete all that is in it")
        if not permanent:
            return Deleted(kind, _to_trash(place, folder, name, found))
        _remove(folder, name, place)
        os.fsync(folder)
    quota.forget(place.root)
    return Deleted(kind, None)


def _is_full_folder(folder: int, name: str, found: os.stat_result) -> bool:
    if not stat.S_ISDIR(found.st_mode):
        return False
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        with os.scandir(fd) as entries:
            return next(entries, None) is not None
    finally:
        os.close(fd)


def _remove(folder: int, name: str, place: Place) -> None:
    try:
        remove_tree(folder, name)
    except RecursionError as error:
        raise PathError(f"{place.shown} has folders too deep to delete at once; delete inner ones first") from error


def _to_trash(place: Place, folder: int, name: str, found: os.stat_result) -> str:
    trash_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    size = found.st_size if stat.S_ISREG(found.st_mode) else None
    note = Trashed(
        trash_id, place.root.shown(place.relative), kind_of(found.st_mode), size, time.time(), within_whole(place)
    )
    with opened_own(place.root, _TRASH) as trash:
        with staged(trash, place.root, new=False) as made:
            write_all(made.fd, json.dumps(asdict(note)).encode())
            made.put(f"{trash_id}{_NOTE}", None)
        try:
            rename_no_replace(folder, name, trash, trash_id)
        except OSError as error:
            os.unlink(f"{trash_id}{_NOTE}", dir_fd=trash)
            raise _not_to_trash(error, place) from error
        os.fsync(trash)
        os.fsync(folder)
    return trash_id


def _not_to_trash(error: OSError, place: Place) -> Exception:
    if error.errno == errno.EXDEV:
        return PathError(
            f"{place.shown} lies on another file system than its root's trash; permanent=true deletes it for good"
        )
    if error.errno == errno.EINVAL and within_whole(place) == FOLDER:
        return PathError(f"{place.shown} is this service's own")
    return error


def listed(root: Root) -> list[Trashed]:
    """What was deleted beneath a root, newest first.

    Raises:
        OSError: The trash cannot be read.
    """
    with if_there(root, _TRASH) as trash:
        if trash is None:
            return []
        names = set(names_in(trash))
        found = [_note(trash, name) for name in names if name.endswith(_NOTE) and name.removesuffix(_NOTE) in names]
    mine = os.path.relpath(root.real, root.whole.real)
    kept = [note for note in found if note is not None and (mine == "." or f"{note.within}/".startswith(f"{mine}/"))]
    return sorted(kept, key=lambda note: note.id, reverse=True)


def _note(trash: int, name: str) -> Trashed | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=trash)
    except OSError:
        return None
    try:
        return Trashed(**json.loads(os.pread(fd, _NOTE_BYTES, 0)))
    except (OSError, ValueError, TypeError):
        return None
    finally:
        os.close(fd)


def restore(root: Root, note: Trashed, target: Place) -> None:
    """Put something of the trash where it was, or elsewhere; replaces nothing.

    Raises:
        PathError: Something stands there, or it is not in the trash any more.
    """
    with (
        folders_made(target),
        opened_parent(target) as (folder, name),
        locked(target, folder),
        explained(target),
        opened_own(root, _TRASH) as trash,
    ):
        try:
            rename_no_replace(trash, note.id, folder, name)
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise PathError(f"{target.shown} exists already; give another target") from error
            if error.errno == errno.EXDEV:
                raise PathError(f"{target.shown} lies on another file system; restore it, then copy it") from error
            raise
        os.fsync(folder)
        _forget(trash, note.id)


def _forget(trash: int, trash_id: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(f"{trash_id}{_NOTE}", dir_fd=trash)


def empty(root: Root, notes: Sequence[Trashed], quota: Quota = NO_QUOTA) -> int:
    """Remove what was deleted for good.

    Returns:
        How many entries.

    Raises:
        OSError: One of them cannot be removed.
    """
    with opened_own(root, _TRASH) as trash:
        for note in notes:
            with suppress(FileNotFoundError):
                remove_tree(trash, note.id)
            _forget(trash, note.id)
    quota.forget(root)
    return len(notes)


def purge(root: Root, days: float, quota: Quota = NO_QUOTA) -> int:
    """Remove for good what was deleted longer ago than `days`.

    Returns:
        How many entries.

    Raises:
        OSError: One of them cannot be removed.
    """
    old = list(_older(root, days))
    return empty(root, old, quota) if old else 0


def _older(root: Root, days: float) -> Iterator[Trashed]:
    before = time.time() - days * _DAY_S
    return (note for note in listed(root) if note.deleted < before)
