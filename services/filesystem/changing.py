"""Writing, moving and deleting. Blocks: call it in a thread.

Invariants: a file is the old one or the new one at every moment, never something between; what exists is replaced
only when the caller says so; two edits of one file never lose each other, in this process or another on this machine.
"""

import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from services.common.paths import PathError, Place, explain, opened, opened_parent, rename_no_replace
from services.filesystem.edits import Edit, apply_edits, unified_diff

__all__ = ["delete", "edit_file", "move", "write_file"]

_LOCK_WAIT_S = 10.0
_LOCK_TURN_S = 0.01
_EDITABLE_BYTES = 16 << 20
_NEW_MODE = 0o666  # the process's umask takes from it


def write_file(place: Place, content: bytes, *, overwrite: bool) -> bool:
    """Write a whole file, and the folders it needs.

    Returns:
        Whether the file is new.

    Raises:
        PathError: It exists and `overwrite` is not given, or it cannot be written.
    """
    _make_folders(place)
    with opened_parent(place) as (folder, name), _locked(folder, place), _explained(place):
        before = _existing(folder, name, place)
        if before is not None and not overwrite:
            raise PathError(f"{place.shown} exists already; pass overwrite=true to replace it")
        _replace(folder, name, content, before)
        return before is None


def edit_file(place: Place, edits: Sequence[Edit], *, dry_run: bool) -> str:
    """Make `edits` in a file, or only show what they would do.

    Returns:
        The change as a unified diff.

    Raises:
        PathError: The file cannot be read or written, or is not editable text.
        EditError: An edit does not match exactly once.
    """
    with opened_parent(place) as (folder, name), _locked(folder, place), _explained(place):
        before = _existing(folder, name, place)
        if before is None:
            raise PathError(f"{place.shown} does not exist; write it instead")
        old = _content(folder, name, place)
        new = apply_edits(old, edits)
        if not dry_run:
            _replace(folder, name, new, before)
    return unified_diff(old, new, place.shown)


def move(source: Place, target: Place, *, overwrite: bool) -> None:
    """Move or rename a file, folder or link; a link itself is moved, not what it points to.

    Raises:
        PathError: The target exists and `overwrite` is not given, or it cannot be moved.
    """
    _make_folders(target)
    with opened_parent(source) as (source_fd, source_name), opened_parent(target) as (target_fd, target_name):
        try:
            if overwrite:
                os.replace(source_name, target_name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
            else:
                rename_no_replace(source_fd, source_name, target_fd, target_name)
        except OSError as error:
            raise _move_problem(error, source, target) from error
        os.fsync(target_fd)
        os.fsync(source_fd)


def delete(place: Place, *, recursive: bool) -> str:
    """Delete a file, a link or an empty folder; with `recursive` a folder and all that is in it.

    Returns:
        What it was: `file`, `folder` or `link`.

    Raises:
        PathError: It is not there, is a folder that is not empty, or cannot be deleted.
    """
    with opened_parent(place) as (folder, name), _explained(place):
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(kind):
            os.unlink(name, dir_fd=folder)
        elif recursive:
            # Works on descriptors throughout (shutil.rmtree.avoids_symlink_attacks).
            shutil.rmtree(name, dir_fd=folder)
        else:
            _remove_empty(folder, name, place)
        os.fsync(folder)
        return "link" if stat.S_ISLNK(kind) else "folder" if stat.S_ISDIR(kind) else "file"


def _remove_empty(folder: int, name: str, place: Place) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise PathError(f"{place.shown} is not empty; pass recursive=true to delete all that is in it") from error
        raise


def _move_problem(error: OSError, source: Place, target: Place) -> PathError:
    if error.errno == errno.EEXIST:
        return PathError(f"{target.shown} exists already; pass overwrite=true to replace it")
    if error.errno == errno.EXDEV:
        return PathError(f"{target.shown} lies on another file system than {source.shown}; write it anew, then delete")
    if error.errno == errno.EINVAL:
        return PathError(f"{source.shown} cannot be moved to {target.shown}: a folder cannot be moved into itself")
    about = source if error.errno == errno.ENOENT else target
    return explain(error, about)


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, place) from error


@contextmanager
def _locked(folder: int, place: Place) -> Iterator[None]:
    """One writer in a folder at a time. The folder is locked, as a file's own lock goes when it is replaced."""
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                raise PathError(f"{place.shown} is being written by others; try again") from None
            time.sleep(_LOCK_TURN_S)
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


def _make_folders(place: Place) -> None:
    """Make the folders above `place` that are missing."""
    names = [name for name in place.relative.split("/")[:-1] if name not in ("", ".")]
    for depth in range(1, len(names) + 1):
        folder = Place(place.root, "/".join(names[:depth]))
        try:
            with opened(folder, os.O_PATH | os.O_DIRECTORY):
                continue
        except PathError as error:
            if error.errno != errno.ENOENT:
                raise
        with opened_parent(folder) as (above, name), _explained(folder), suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)


def _existing(folder: int, name: str, place: Place) -> os.stat_result | None:
    """What stands under `name` now, None when nothing does; refuses what must not be replaced."""
    try:
        # Opened for writing, so that the kernel says whether this service may write it; nothing is written here.
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PathError(f"{place.shown} is a symbolic link; write to the file it points to") from error
        raise
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(found.st_mode):
        raise PathError(f"{place.shown} is not a regular file")
    if not found.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise PathError(f"{place.shown} is read-only (mode {stat.S_IMODE(found.st_mode):04o}); it was not changed")
    return found


def _content(folder: int, name: str, place: Place) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
        content = file.read(_EDITABLE_BYTES + 1)
    if len(content) > _EDITABLE_BYTES:
        raise PathError(f"{place.shown} is larger than {_EDITABLE_BYTES >> 20} MiB, the most that can be edited")
    if b"\0" in content:
        raise PathError(f"{place.shown} is binary; only text can be edited")
    return content


def _replace(folder: int, name: str, content: bytes, before: os.stat_result | None) -> None:
    temporary = f".tekup-{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, _NEW_MODE if before is None else 0o600, dir_fd=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            if before is not None:
                _take_over(fd, before)
            os.fsync(fd)
        _put(folder, temporary, name, new=before is None)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)


def _take_over(fd: int, before: os.stat_result) -> None:
    own = os.fstat(fd)
    if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
        # Not ours to give away without privileges: the content counts more than the owner.
        with suppress(PermissionError):
            os.fchown(fd, before.st_uid, before.st_gid)
    os.fchmod(fd, stat.S_IMODE(before.st_mode))  # after the owner: chown takes the set-id bits away


def _put(folder: int, temporary: str, name: str, *, new: bool) -> None:
    if not new:
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        rename_no_replace(folder, temporary, folder, name)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        # The file system has no RENAME_NOREPLACE: a hard link does not replace either.
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.unlink(temporary, dir_fd=folder)
