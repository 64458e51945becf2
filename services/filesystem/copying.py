"""Copying files and folders. Blocks.

A folder is copied into the staging folder first and then put in its place by one rename, so that it is there whole or
not at all. Links are copied as links; what is neither file, folder nor link is refused.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from services.common.paths import PathError, Place, check_regular, opened, opened_parent, rename_no_replace
from services.filesystem.changing import copy_bytes, folders_made
from services.filesystem.own import FOLDER, opened_own
from services.filesystem.quotas import NO_QUOTA, Quota
from services.filesystem.storing import (
    STAGING,
    explained,
    fresh_name,
    locked,
    opened_existing,
    remove_tree,
    staged,
    sync_all,
)
from services.filesystem.walking import OPEN_FOLDER, Walk, WalkLimits

__all__ = ["Copied", "CopyLimits", "copy"]


@dataclass(frozen=True)
class CopyLimits:
    """How much one copy may take.

    Args:
        entries: Files, folders and links.
        bytes_: In all files together.
        within_s: Seconds.
    """

    entries: int = 100_000
    bytes_: int = 16 << 30
    within_s: float = 50.0


@dataclass(frozen=True)
class Copied:
    """What was copied.

    Args:
        kind: `file` or `folder`.
        files: How many files and links.
        size_bytes: Of the files together.
    """

    kind: str
    files: int
    size_bytes: int


def copy(
    source: Place, target: Place, *, overwrite: bool, quota: Quota = NO_QUOTA, limits: CopyLimits | None = None
) -> Copied:
    """Copy a file, or a folder with all that is in it.

    Args:
        source: What to copy; a link is followed within its root.
        target: The new path itself.
        overwrite: Replace a file that stands there; a folder is never replaced.
        quota: The most the target's root may hold.
        limits: The most to copy.

    Raises:
        PathError: It cannot be read, is too much, or the target exists.
    """
    bounds = limits or CopyLimits()
    with (
        opened(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as fd,
        folders_made(target),
        opened_parent(target) as where,
        locked(target, where[0]),
        explained(target),
    ):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return _copy_folder(source, fd, target, where, quota, bounds)
        return _copy_file(source, fd, target, where, overwrite=overwrite, quota=quota)


def _copy_file(
    source: Place, fd: int, target: Place, where: tuple[int, str], *, overwrite: bool, quota: Quota
) -> Copied:
    folder, name = where
    found = os.fstat(fd)
    check_regular(found, source)
    with opened_existing(folder, name, target) as before:
        if before is not None and not overwrite:
            raise PathError(f"{target.shown} exists already; pass overwrite=true to replace it")
        grows = found.st_size - (before[1].st_size if before is not None else 0)
        charge = quota.charged(target, bytes_=grows, files=int(before is None))
        with charge, staged(folder, target.root, new=before is None) as made:
            size = copy_bytes(fd, made.fd)
            if before is None:
                os.fchmod(made.fd, stat.S_IMODE(found.st_mode) & 0o777)
            made.put(name, before)
    return Copied("file", 1, size)


def _copy_folder(
    source: Place, fd: int, target: Place, where: tuple[int, str], quota: Quota, limits: CopyLimits
) -> Copied:
    size, files = _measured(source, fd, limits)
    with ExitStack() as held:
        held.enter_context(quota.charged(target, bytes_=size, files=files))
        staging = held.enter_context(opened_own(target.root, STAGING))
        entry, inner = held.enter_context(_staged_folder(staging))
        copier = _Copier(source, time.monotonic() + limits.within_s)
        copier.folder(fd, inner)
        sync_all(inner)
        try:
            rename_no_replace(staging, entry, *where)
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise PathError(f"{target.shown} exists already; a folder is not replaced, delete it first") from error
            if error.errno == errno.EXDEV:
                raise PathError(
                    f"{target.shown} lies on another file system than its root; copy the files in it one by one"
                ) from error
            raise
        os.fsync(where[0])
    return Copied("folder", copier.files, copier.size_bytes)


def _measured(source: Place, fd: int, limits: CopyLimits) -> tuple[int, int]:
    walk = Walk(WalkLimits(entries=limits.entries, within_s=limits.within_s))
    size = files = 0
    for node in walk.over(fd):
        if not node.is_folder:
            files += 1
            size += node.entry.stat(follow_symlinks=False).st_size
    if not walk.complete or size > limits.bytes_:
        raise PathError(
            f"{source.shown} holds more than {limits.entries} entries or {limits.bytes_ >> 30} GiB, or is too deep; "
            "copy its folders one by one"
        )
    return size, files


@contextmanager
def _staged_folder(staging: int) -> Iterator[tuple[str, int]]:
    """A new folder of the staging folder, locked; removed after the block when it still is there."""
    entry = fresh_name()
    os.mkdir(entry, 0o700, dir_fd=staging)
    fd = os.open(entry, OPEN_FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield entry, fd
    finally:
        os.close(fd)
        with suppress(FileNotFoundError):  # it has its place
            remove_tree(staging, entry)


class _Copier:
    """One copy of a folder."""

    def __init__(self, source: Place, until: float) -> None:
        self.files = 0
        self.size_bytes = 0
        self._source = source
        self._until = until

    def folder(self, source: int, target: int) -> None:
        """Copy what is in an open folder into another."""
        with os.scandir(source) as entries:
            names = [entry.name for entry in entries]
        for name in (name for name in names if name != FOLDER):
            if time.monotonic() > self._until:
                raise PathError(f"{self._source.shown} takes too long to copy at once; copy its folders one by one")
            self._entry(source, target, name)
        os.fchmod(target, stat.S_IMODE(os.fstat(source).st_mode) & 0o777)

    def _entry(self, source: int, target: int, name: str) -> None:
        mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            self.files += 1
        elif stat.S_ISDIR(mode):
            self._inner(source, target, name)
        elif stat.S_ISREG(mode):
            self._file(source, target, name)
        else:
            raise PathError(f"{self._source.shown} holds {name[:100]!r}, which is neither file, folder nor link")

    def _inner(self, source: int, target: int, name: str) -> None:
        os.mkdir(name, 0o700, dir_fd=target)
        flags = OPEN_FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC
        with ExitStack() as held:
            old = os.open(name, flags, dir_fd=source)
            held.callback(os.close, old)
            new = os.open(name, flags, dir_fd=target)
            held.callback(os.close, new)
            self.folder(old, new)

    def _file(self, source: int, target: int, name: str) -> None:
        with ExitStack() as held:
            old = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
            held.callback(os.close, old)
            found = os.fstat(old)
            check_regular(found, self._source.child(name))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            new = os.open(name, flags, stat.S_IMODE(found.st_mode) & 0o777, dir_fd=target)
            held.callback(os.close, new)
            self.size_bytes += copy_bytes(old, new)
            self.files += 1
