"""Edits of several files as one: all of them, or none. Blocks.

First everything that can fail is done: new contents are made and lie, synced, in the staging folder. Then a journal
says what takes whose place, and the files change places with their new selves one after the other. Who is killed
before the journal stands has changed nothing; what a journal of a dead process says is done by whoever changes
something in that root next.
"""

import errno
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from services.common.paths import PathError, Place, Root, opened_parent, rename_exchange
from services.filesystem.changing import check_expected, content_of, write_all
from services.filesystem.edits import Edit, EditError, apply_edits, as_utf8, unified_diff
from services.filesystem.encodings import Encoding, encoding_of
from services.filesystem.own import if_there, lock_if_free, names_in, opened_own, within_whole
from services.filesystem.quotas import NO_QUOTA, Quota
from services.filesystem.storing import (
    STAGING,
    Before,
    Staged,
    check_unchanged,
    explained,
    fresh_name,
    locked,
    opened_existing,
    staged,
    take_over,
)

__all__ = ["FileEdits", "edit_files", "settle"]

logger = logging.getLogger(__name__)
_JOURNAL = "journal"
_ENTRY_BYTES = 1 << 20


@dataclass(frozen=True)
class FileEdits:
    """Edits of one file.

    Args:
        place: The file.
        edits: What is replaced.
        encoding: The file's, None for what it says of itself.
        expected: SHA-256 of the file, None for any.
    """

    place: Place
    edits: Sequence[Edit]
    encoding: str | None = None
    expected: str | None = None


@dataclass(frozen=True)
class _Change:
    """One file of them, opened and edited in memory."""

    place: Place
    folder: int
    name: str
    before: Before
    old: bytes
    new: bytes
    encoding: Encoding
    entry: str

    @property
    def diff(self) -> str:
        return unified_diff(as_utf8(self.old, self.encoding), as_utf8(self.new, self.encoding), self.place.shown)


def edit_files(files: Sequence[FileEdits], *, dry_run: bool, quota: Quota = NO_QUOTA) -> list[str]:
    """Edit all of the files, or none.

    Returns:
        The change of each as a unified diff.

    Raises:
        PathError: One of them cannot be read or written; nothing was changed.
        EditError: An edit does not match; nothing was changed.
    """
    root = files[0].place.root
    if any(one.place.root.whole != root.whole for one in files):
        raise PathError("the files lie in different roots; edit those of one root at a time")
    with ExitStack() as held:
        parents = [held.enter_context(opened_parent(one.place)) for one in files]
        _check_different(files, parents)
        held.enter_context(locked(files[0].place, *(folder for folder, _ in parents)))
        changes = [held.enter_context(_edited(one, *parent)) for one, parent in zip(files, parents, strict=True)]
        if not dry_run:
            grown = sum(len(change.new) - len(change.old) for change in changes)
            with quota.charged(files[0].place, bytes_=grown):
                _commit(root, changes)
        return [change.diff for change in changes]


def _check_different(files: Sequence[FileEdits], parents: Sequence[tuple[int, str]]) -> None:
    seen: set[tuple[int, int, str]] = set()
    for one, (folder, name) in zip(files, parents, strict=True):
        found = os.fstat(folder)
        key = (found.st_dev, found.st_ino, name)
        if key in seen:
            raise PathError(f"{one.place.shown} is named twice; give all edits of a file together")
        seen.add(key)


@contextmanager
def _edited(one: FileEdits, folder: int, name: str) -> Iterator[_Change]:
    with explained(one.place), opened_existing(folder, name, one.place) as before:
        if before is None:
            raise PathError(f"{one.place.shown} does not exist; nothing was changed")
        check_expected(one.place, before, one.expected)
        old = content_of(before, one.place)
        encoding = encoding_of(old, one.encoding)
        try:
            new = apply_edits(old, one.edits, encoding)
        except EditError as error:
            raise EditError(f"{one.place.shown}: {error}; no file was changed") from error
        yield _Change(one.place, folder, name, before, old, new, encoding, fresh_name())


def _commit(root: Root, changes: Sequence[_Change]) -> None:
    with ExitStack() as held, explained(changes[0].place):
        staging = held.enter_context(opened_own(root, STAGING))
        for change in changes:
            made = held.enter_context(staged(change.folder, root, new=False))
            write_all(made.fd, change.new)
            take_over(made.fd, change.before)
            os.fsync(made.fd)
            check_unchanged(change.folder, change.name, change.before[1], change.place)
            _named(made, staging, change)
            held.callback(_unlinked, staging, change.entry)
        os.fsync(staging)
        with _journal(root, changes, staging):
            _exchange(changes, staging)
        for folder in {change.folder for change in changes}:
            os.fsync(folder)


def _named(made: Staged, staging: int, change: _Change) -> None:
    try:
        made.name_in(staging, change.entry)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise PathError(
            f"{change.place.shown} lies on another file system than its root; edit it alone, nothing was changed"
        ) from error


def _unlinked(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


@contextmanager
def _journal(root: Root, changes: Sequence[_Change], staging: int) -> Iterator[None]:
    """Says what is to be done while the block does it; gone when it was done, or undone."""
    said = [
        {
            "path": within_whole(change.place),
            "entry": change.entry,
            "new": os.stat(change.entry, dir_fd=staging, follow_symlinks=False).st_ino,
        }
        for change in changes
    ]
    with opened_own(root, _JOURNAL) as folder, staged(folder, root, new=False) as made:
        write_all(made.fd, json.dumps(said).encode())
        os.fsync(made.fd)
        name = fresh_name()
        made.name_in(folder, name)
        os.fsync(folder)
        try:
            yield
        finally:
            _unlinked(folder, name)


def _exchange(changes: Sequence[_Change], staging: int) -> None:
    done: list[_Change] = []
    try:
        for change in changes:
            _swap(staging, change.entry, change.folder, change.name)
            done.append(change)
    except OSError:
        for change in reversed(done):
            rename_exchange(staging, change.entry, change.folder, change.name)
        raise


def _swap(staging: int, entry: str, folder: int, name: str) -> None:
    try:
        rename_exchange(staging, entry, folder, name)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        os.replace(entry, name, src_dir_fd=staging, dst_dir_fd=folder)


def settle(root: Root) -> int:
    """Do what journals of dead processes say. Cheap when there are none.

    Returns:
        How many journals.

    Raises:
        OSError: The journal folder cannot be read.
    """
    settled = 0
    with if_there(root, _JOURNAL) as folder:
        names = names_in(folder) if folder is not None else []
        for name in names:
            settled += _settled(root, folder or 0, name)
    return settled


def _settled(root: Root, folder: int, name: str) -> bool:
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        if not lock_if_free(fd) or os.fstat(fd).st_nlink == 0:
            return False
        try:
            for said in json.loads(os.pread(fd, _ENTRY_BYTES, 0)):
                _redo(root, str(said["path"]), str(said["entry"]), int(said["new"]))
        except (ValueError, KeyError, TypeError):
            logger.exception("filesystem.unsettled", extra={"root": root.path, "entry": name})
        _unlinked(folder, name)
        return True
    finally:
        os.close(fd)


def _redo(root: Root, path: str, entry: str, new: int) -> None:
    """Finish one file's change; nothing to do where it was made before the process died."""
    place = Place(root.whole, path)
    try:
        with opened_parent(place) as (folder, name), opened_own(root, STAGING) as staging, locked(place, folder):
            found = os.stat(entry, dir_fd=staging, follow_symlinks=False)
            if found.st_ino == new:
                os.replace(entry, name, src_dir_fd=staging, dst_dir_fd=folder)
                os.fsync(folder)
            else:
                os.unlink(entry, dir_fd=staging)  # what stood there before: they have changed places
    except (OSError, PathError) as error:
        number = error.errno or 0
        logger.warning("filesystem.unsettled", extra={"root": root.path, "reason": os.strerror(number)})
