"""Putting a file in its place: locks, unnamed files, one step from old to new. Blocks.

Invariants: a name holds the old file or the new one at every moment; what was written is on the disk before it has the
name; a writer that is killed leaves nothing but an entry of the staging folder, which `sweep` removes.
"""

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from services.common.paths import PathError, Place, Root, check_regular, explain, rename_no_replace
from services.filesystem.own import if_there, lock_if_free, names_in, opened_own
from services.filesystem.queues import Queues

__all__ = [
    "STAGING",
    "Before",
    "Staged",
    "check_unchanged",
    "explained",
    "fresh_name",
    "locked",
    "opened_existing",
    "remove_tree",
    "staged",
    "sweep",
    "sync_all",
    "take_over",
]

Before = tuple[int, os.stat_result]
"""A file that is to be replaced: its descriptor, and what it was when it was opened."""

STAGING = "staging"
_LOCK_WAIT_S = 10.0
_LOCK_TURN_S = 0.005
_OURS = Queues()
_NEW_MODE = 0o666  # the process's umask takes from it
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Errors of the system in words for the caller.

    Raises:
        PathError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise explain(error, place) from error


@contextmanager
def locked(place: Place, *folders: int) -> Iterator[None]:
    """One writer in each of the folders at a time, in this process and all others that share them.

    Folders are locked, as a file's own lock goes when it is replaced; in one order, so that nobody waits in a circle.

    Raises:
        PathError: Others held them for too long.
    """
    until = time.monotonic() + _LOCK_WAIT_S
    known = {(found.st_dev, found.st_ino): fd for fd in folders if (found := os.fstat(fd))}
    with ExitStack() as held:
        for folder, fd in sorted(known.items()):
            if not held.enter_context(_OURS.turn(folder, until - time.monotonic())):
                raise PathError(f"{place.shown} is being written by others; try again")
            while not lock_if_free(fd):
                if time.monotonic() > until:
                    raise PathError(f"{place.shown} is being written by others; try again")
                time.sleep(_LOCK_TURN_S)
            held.callback(fcntl.flock, fd, fcntl.LOCK_UN)
        yield


@contextmanager
def opened_existing(folder: int, name: str, place: Place) -> Iterator[Before | None]:
    """The file under `name` and what it is, None when there is none.

    Opened for writing, so that the kernel says whether this service may write it; nothing is written to it.

    Raises:
        PathError: Something stands there that must not be replaced.
    """
    with ExitStack() as held:
        try:
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise PathError(f"{place.shown} is a symbolic link; write to the file it points to") from error
            raise
        held.callback(os.close, fd)
        found = os.fstat(fd)
        check_regular(found, place)
        if not found.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
            raise PathError(f"{place.shown} is read-only (mode {stat.S_IMODE(found.st_mode):04o}); it was not changed")
        yield fd, found


def check_unchanged(folder: int, name: str, before: os.stat_result, place: Place) -> None:
    """Refuse to go on when somebody else, who knows of no locks, has changed the file since it was looked at.

    Raises:
        PathError: It has changed, or is gone.
    """
    try:
        now = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise PathError(f"{place.shown} was removed while it was changed; nothing was written") from None
    if _same(now) != _same(before):
        raise PathError(f"{place.shown} was changed by another program meanwhile; read it again, nothing was written")


def _same(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


@dataclass
class Staged:
    """A file without a name, to be written and then put under one.

    Args:
        fd: Its descriptor.
        folder: The folder it will be in.
        root: The root that holds it.
        temporary: Its name in the folder, where the file system knows no files without names.
    """

    fd: int
    folder: int
    root: Root
    temporary: str | None = None

    def put(self, name: str, before: Before | None) -> None:
        """Give it its name: a new one, or in place of the file that was there `before`.

        Raises:
            OSError: It cannot be; EEXIST when something stands where nothing should.
        """
        if before is not None:
            take_over(self.fd, before)
        os.fsync(self.fd)
        if before is None:
            self._create(name)
        else:
            self._replace(name)
        os.fsync(self.folder)

    def name_in(self, folder: int, entry: str) -> None:
        """Name it `entry` in another folder of the same file system, locked so that nobody sweeps it away.

        Raises:
            OSError: EXDEV when that is another file system.
        """
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        if self.temporary is None:
            os.link(f"/proc/self/fd/{self.fd}", entry, dst_dir_fd=folder)
            return
        os.rename(self.temporary, entry, src_dir_fd=self.folder, dst_dir_fd=folder)
        self.temporary = None

    def _create(self, name: str) -> None:
        if self.temporary is None:
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self.folder)
            return
        try:
            rename_no_replace(self.folder, self.temporary, self.folder, name)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            # The file system has no RENAME_NOREPLACE: a hard link does not replace either.
            os.link(self.temporary, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            os.unlink(self.temporary, dir_fd=self.folder)
        self.temporary = None

    def _replace(self, name: str) -> None:
        if self.temporary is None:
            try:
                with opened_own(self.root, STAGING) as staging:
                    self._by_way_of(staging, name)
                return
            except OSError as error:
                if error.errno != errno.EXDEV:  # a file system mounted within the root
                    raise
            self._by_way_of(self.folder, name)
            return
        os.replace(self.temporary, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        self.temporary = None

    def _by_way_of(self, folder: int, name: str) -> None:
        entry = fresh_name()
        self.name_in(folder, entry)
        try:
            os.replace(entry, name, src_dir_fd=folder, dst_dir_fd=self.folder)
        except BaseException:
            os.unlink(entry, dir_fd=folder)
            raise


def fresh_name() -> str:
    """A name nobody has."""
    return f".tekup-{secrets.token_hex(8)}.tmp"


@contextmanager
def staged(folder: int, root: Root, *, new: bool) -> Iterator[Staged]:
    """A file to be written; gone after the block unless it was put under a name.

    Args:
        folder: Where it will be.
        root: The root that holds the folder.
        new: Whether it gets the mode of a new file; else that of the one it replaces.

    Raises:
        OSError: It cannot be made.
    """
    mode = _NEW_MODE if new else 0o600
    made = _unnamed(folder, root, mode) or _named(folder, root, mode)
    try:
        yield made
    finally:
        os.close(made.fd)
        if made.temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(made.temporary, dir_fd=folder)


def _unnamed(folder: int, root: Root, mode: int) -> Staged | None:
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in _NO_UNNAMED:
            return None
        raise
    return Staged(fd, folder, root)


def _named(folder: int, root: Root, mode: int) -> Staged:
    name = fresh_name()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return Staged(os.open(name, flags, mode, dir_fd=folder), folder, root, name)


def take_over(fd: int, before: Before) -> None:
    """Give a file the owner, the mode and the extended attributes (access lists) of the one it replaces."""
    old, found = before
    own = os.fstat(fd)
    if (own.st_uid, own.st_gid) != (found.st_uid, found.st_gid):
        # Not ours to give away without privileges: the content counts more than the owner.
        with suppress(PermissionError):
            os.fchown(fd, found.st_uid, found.st_gid)
    with suppress(OSError):
        for name in os.listxattr(old):
            with suppress(OSError):
                os.setxattr(fd, name, os.getxattr(old, name))
    os.fchmod(fd, stat.S_IMODE(found.st_mode))  # after the owner: chown takes the set-id bits away


def remove_tree(folder: int, name: str) -> None:
    """Remove an entry of a folder, with all that is in it. Links are removed themselves.

    Raises:
        OSError: It is not there, or cannot be removed.
    """
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        # Works on descriptors throughout (shutil.rmtree.avoids_symlink_attacks).
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def sync_all(fd: int) -> None:
    """Have everything of the file system that `fd` lies on written to the disk: one wait for many files.

    Raises:
        OSError: It could not be written.
    """
    if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sweep(root: Root) -> int:
    """Remove what killed writers left in a root.

    Returns:
        How many files or folders.

    Raises:
        OSError: The staging folder cannot be read.
    """
    removed = 0
    with if_there(root, STAGING) as staging:
        if staging is not None:
            removed = sum(_swept(staging, name) for name in names_in(staging))
    return removed


def _swept(staging: int, name: str) -> bool:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=staging)
    except OSError:
        return False
    try:
        if not lock_if_free(fd):
            return False
        remove_tree(staging, name)
        return True
    finally:
        os.close(fd)
