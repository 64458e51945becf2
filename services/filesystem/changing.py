"""Writing, appending, editing, moving, making folders. Blocks: call it in a thread.

Invariants: a file is the old one or the new one at every moment, never something between; what exists is replaced
only when the caller says so; two edits of one file never lose each other, in this process or another on this machine;
what fails leaves no trace.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from services.common.paths import PathError, Place, explain, opened, opened_parent, rename_no_replace
from services.filesystem.edits import Edit, apply_edits, as_utf8, unified_diff
from services.filesystem.encodings import Form, encoding_of, form_of
from services.filesystem.quotas import NO_QUOTA, Quota, weight
from services.filesystem.storing import Before, check_unchanged, explained, locked, opened_existing, staged

__all__ = [
    "EDITABLE_BYTES",
    "NewText",
    "Written",
    "append_text",
    "check_expected",
    "content_of",
    "copy_bytes",
    "edit_file",
    "folders_made",
    "make_folder",
    "move",
    "sha256_of",
    "write_all",
    "write_file",
    "write_text",
]

EDITABLE_BYTES = 16 << 20
_HEAD_BYTES = 64 << 10
_TAIL_BYTES = 8
_COPIED_BYTES = 1 << 20
_APPENDABLE_BYTES = 1 << 30


@dataclass(frozen=True)
class NewText:
    """What is to be written.

    Args:
        text: The text.
        encoding: The file's, None for what it says of itself.
        exact: Nothing of the file that stood there is kept: encoding, mark, line ends, last line's end.
        expected: SHA-256 of the file that stands there, None for any.
    """

    text: str
    encoding: str | None = None
    exact: bool = False
    expected: str | None = None


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Args:
        created: Nothing stood there before.
        size_bytes: Of the whole file.
        kept: What the file that stood there had besides its words, and this one has, too.
    """

    created: bool
    size_bytes: int
    kept: tuple[str, ...] = ()


def write_file(place: Place, content: bytes, *, overwrite: bool, quota: Quota = NO_QUOTA) -> bool:
    """Write a whole file, and the folders it needs.

    Returns:
        Whether the file is new.

    Raises:
        PathError: It exists and `overwrite` is not given, or it cannot be written.
    """
    with _target(place) as (folder, name, before):
        _check_overwrite(place, before, overwrite=overwrite)
        _store(place, folder, name, content, before, quota)
        return before is None


def write_text(place: Place, new: NewText, *, overwrite: bool, quota: Quota = NO_QUOTA) -> Written:
    """Write a whole text file, in the form of the one it replaces.

    Raises:
        PathError: It exists and `overwrite` is not given, is not the one expected, or cannot be written.
        EncodingError: Its encoding has no bytes for the text.
    """
    with _target(place) as (folder, name, before):
        _check_overwrite(place, before, overwrite=overwrite)
        check_expected(place, before, new.expected)
        form = Form(encoding_of(b"", new.encoding)) if before is None or new.exact else _form(before[0], new.encoding)
        content = form.of(new.text)
        _store(place, folder, name, content, before, quota)
        return Written(before is None, len(content), form.kept if before is not None else ())


def append_text(place: Place, new: NewText, *, quota: Quota = NO_QUOTA) -> Written:
    """Add text to the end of a file, which is made when it is missing.

    Raises:
        PathError: It cannot be read or written, or is too large to be written anew.
        EncodingError: Its encoding has no bytes for the text.
    """
    with _target(place) as (folder, name, before):
        check_expected(place, before, new.expected)
        if before is None:
            content = Form(encoding_of(b"", new.encoding)).of(new.text)
            _store(place, folder, name, content, None, quota)
            return Written(True, len(content))
        old, found = before
        if found.st_size > _APPENDABLE_BYTES:
            raise PathError(f"{place.shown} is larger than {_APPENDABLE_BYTES >> 30} GiB; nothing was appended")
        form = _form(old, new.encoding)
        text = new.text.replace("\n", "\r\n") if form.crlf and "\r" not in new.text else new.text
        content = form.encoding.encoded(text)
        with quota.charged(place, bytes_=len(content)), staged(folder, place.root, new=False) as made:
            copy_bytes(old, made.fd)
            write_all(made.fd, content)
            check_unchanged(folder, name, found, place)
            made.put(name, before)
        return Written(False, found.st_size + len(content), form.kept)


def edit_file(
    place: Place,
    edits: Sequence[Edit],
    *,
    dry_run: bool,
    encoding: str | None = None,
    expected: str | None = None,
    quota: Quota = NO_QUOTA,
) -> str:
    """Make `edits` in a file, or only show what they would do.

    Returns:
        The change as a unified diff.

    Raises:
        PathError: The file cannot be read or written, is not the one expected, or is not editable text.
        EditError: An edit does not match exactly once.
        EncodingError: `encoding` cannot be used.
    """
    with _existing(place) as (folder, name, before):
        if before is None:
            raise PathError(f"{place.shown} does not exist; write it instead")
        check_expected(place, before, expected)
        old = content_of(before, place)
        named = encoding_of(old, encoding)
        _check_text(old, named.name, place)
        new = apply_edits(old, edits, named)
        if not dry_run:
            _store(place, folder, name, new, before, quota)
    return unified_diff(as_utf8(old, named), as_utf8(new, named), place.shown)


def move(source: Place, target: Place, *, overwrite: bool, quota: Quota = NO_QUOTA) -> None:
    """Move or rename a file, folder or link; a link itself is moved, not what it points to.

    Raises:
        PathError: The target exists and `overwrite` is not given, or it cannot be moved.
    """
    with (
        folders_made(target),
        opened_parent(source) as (source_fd, name),
        opened_parent(target) as (target_fd, new),
        locked(target, source_fd, target_fd),
        _charged_move(source, target, source_fd, name, quota),
    ):
        try:
            if overwrite:
                os.replace(name, new, src_dir_fd=source_fd, dst_dir_fd=target_fd)
            else:
                rename_no_replace(source_fd, name, target_fd, new)
        except OSError as error:
            raise _move_problem(error, source, target) from error
        with explained(target):
            os.fsync(target_fd)
            os.fsync(source_fd)


@contextmanager
def _charged_move(source: Place, target: Place, folder: int, name: str, quota: Quota) -> Iterator[None]:
    """What comes into another root counts there, and no more in the one it leaves."""
    if not quota or source.root.whole == target.root.whole:
        yield
        return
    with explained(source):
        bytes_, files = weight(folder, name)
    with quota.charged(target, bytes_=bytes_, files=files):
        yield
    quota.forget(source.root)


def make_folder(place: Place) -> bool:
    """Make a folder, and those above it.

    Returns:
        Whether it was missing.

    Raises:
        PathError: It cannot be made, or something else stands there.
    """
    with folders_made(place), opened_parent(place) as (above, name), explained(place):
        try:
            os.mkdir(name, dir_fd=above)
            os.fsync(above)
            return True
        except FileExistsError:
            with opened(place, os.O_PATH | os.O_DIRECTORY):
                return False


def _move_problem(error: OSError, source: Place, target: Place) -> PathError:
    if error.errno == errno.EEXIST:
        return PathError(f"{target.shown} exists already; pass overwrite=true to replace it")
    if error.errno == errno.EXDEV:
        return PathError(f"{target.shown} lies on another file system than {source.shown}; copy it, then delete")
    if error.errno == errno.EINVAL:
        return PathError(f"{source.shown} cannot be moved to {target.shown}: a folder cannot be moved into itself")
    about = source if error.errno == errno.ENOENT else target
    return explain(error, about)


@contextmanager
def _target(place: Place) -> Iterator[tuple[int, str, Before | None]]:
    """The folder of a file that is to be written, locked; the folders it needs go again when writing fails."""
    with folders_made(place), _existing(place) as found:
        yield found


@contextmanager
def _existing(place: Place) -> Iterator[tuple[int, str, Before | None]]:
    """The folder of a file, locked, with the file's name and the file itself."""
    with (
        opened_parent(place) as (folder, name),
        locked(place, folder),
        explained(place),
        opened_existing(folder, name, place) as before,
    ):
        yield folder, name, before


def _check_overwrite(place: Place, before: Before | None, *, overwrite: bool) -> None:
    if before is not None and not overwrite:
        raise PathError(f"{place.shown} exists already; pass overwrite=true to replace it")


def check_expected(place: Place, before: Before | None, expected: str | None) -> None:
    """Refuse to change a file that is not the one the caller has seen.

    Raises:
        PathError: It is another, or there is none.
    """
    if expected is None:
        return
    if before is None:
        raise PathError(f"{place.shown} does not exist, but expected_sha256 was given; nothing was written")
    found = sha256_of(before[0])
    if found != expected.lower():
        raise PathError(f"{place.shown} has changed: its SHA-256 is {found} now; read it again, nothing was written")


def sha256_of(fd: int) -> str:
    """SHA-256 of an open file, in hex."""
    digest = hashlib.sha256()
    at = 0
    while chunk := os.pread(fd, _COPIED_BYTES, at):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def _form(fd: int, encoding: str | None) -> Form:
    size = os.fstat(fd).st_size
    return form_of(os.pread(fd, _HEAD_BYTES, 0), os.pread(fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES)), encoding)


@contextmanager
def folders_made(place: Place) -> Iterator[None]:
    """The folders above `place`, those that are missing made, and removed again when the block fails.

    Raises:
        PathError: One cannot be made.
    """
    made: list[Place] = []
    try:
        _make_folders(place, made.append)
        yield
    except BaseException:
        for folder in reversed(made):
            with suppress(PathError, OSError), opened_parent(folder) as (above, name):
                os.rmdir(name, dir_fd=above)
        raise


def _make_folders(place: Place, made: Callable[[Place], None]) -> None:
    names = [name for name in place.relative.split("/")[:-1] if name not in ("", ".")]
    for depth in range(1, len(names) + 1):
        folder = Place(place.root, "/".join(names[:depth]))
        try:
            with opened(folder, os.O_PATH | os.O_DIRECTORY):
                continue
        except PathError as error:
            if error.errno != errno.ENOENT:
                raise
        with opened_parent(folder) as (above, name), explained(folder), suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
            made(folder)
            os.fsync(above)


def content_of(before: Before, place: Place) -> bytes:
    """All of a file that is to be edited.

    Raises:
        PathError: It is too large.
    """
    fd, found = before
    if found.st_size > EDITABLE_BYTES:
        raise PathError(f"{place.shown} is larger than {EDITABLE_BYTES >> 20} MiB, the most that can be edited")
    content = bytearray()
    while len(content) <= EDITABLE_BYTES and (chunk := os.pread(fd, _COPIED_BYTES, len(content))):
        content += chunk
    return bytes(content)


def _check_text(content: bytes, encoding: str, place: Place) -> None:
    if b"\0" in content and not encoding.startswith(("utf-16", "utf-32")):
        raise PathError(f"{place.shown} is binary; only text can be edited")


def _store(place: Place, folder: int, name: str, content: bytes, before: Before | None, quota: Quota) -> None:
    grows = len(content) - (before[1].st_size if before is not None else 0)
    with (
        quota.charged(place, bytes_=grows, files=int(before is None)),
        staged(folder, place.root, new=before is None) as made,
    ):
        write_all(made.fd, content)
        if before is not None:
            check_unchanged(folder, name, before[1], place)
        made.put(name, before)


def write_all(fd: int, content: bytes) -> None:
    """Write all of it at the descriptor's position."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def copy_bytes(source: int, target: int) -> int:
    """Copy a file from its beginning to the end of another, in the kernel where it can.

    Returns:
        How many bytes.
    """
    at = 0
    while True:
        try:
            copied = os.copy_file_range(source, target, 64 << 20, offset_src=at)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            chunk = os.pread(source, _COPIED_BYTES, at)
            write_all(target, chunk)
            copied = len(chunk)
        if not copied:
            return at
        at += copied
