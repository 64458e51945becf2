"""The path layer: how a service touches files its callers name.

Invariants: nothing outside a root is ever opened, also while another process swaps folders for links; nothing is
checked by name and used by name afterwards, only opened and then looked at; no message shows a path outside the roots.

A caller's path becomes a `Place` (a root and a name beneath it, nothing checked), and a place becomes a file
descriptor by one resolution from the root's own descriptor: `openat2` with RESOLVE_BENEATH, or component by component
on kernels without it. Everything here blocks: call it in a thread.
"""

import ctypes
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

__all__ = [
    "Opener",
    "PathError",
    "Place",
    "Root",
    "Roots",
    "RootsError",
    "check_regular",
    "clip",
    "explain",
    "kernel_opener",
    "open_by_components",
    "open_by_openat2",
    "opened",
    "opened_file",
    "opened_parent",
    "printable",
    "rename_exchange",
    "rename_no_replace",
]

_AT_FDCWD = -100
_SYS_OPENAT2 = 437  # the same number on every architecture: it is younger than the unified table
_SYS_RENAMEAT2 = {"x86_64": 316, "aarch64": 276}
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_NO_OPENAT2 = {errno.ENOSYS, errno.EPERM}  # EPERM: a seccomp filter older than the call
_PATH_BYTES = 4096
_SHOWN = 200
_ATTEMPTS = 32

Opener = Callable[[int, str, int, int], int]
"""(directory descriptor, relative path, flags, mode) → descriptor beneath that directory, or OSError."""


class PathError(Exception):
    """A path cannot be used; the text is for the caller and names nothing outside the roots.

    Args:
        message: What happened, to which path, what to do.
        errno: The system's number for it, 0 when the system was not asked.
    """

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class RootsError(ValueError):
    """Roots of the settings that cannot be used; every one is named."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@functools.cache
def _syscall() -> Callable[..., int]:
    function: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
    return function


def _openat2(dir_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, mode if flags & os.O_CREAT else 0, resolve)
    for _ in range(_ATTEMPTS):
        fd = _syscall()(_SYS_OPENAT2, dir_fd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        # EAGAIN: something was renamed meanwhile and the kernel could not tell whether `..` stayed beneath.
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def open_by_openat2(dir_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` beneath `dir_fd`; the kernel refuses with EXDEV what leads out (openat2(2))."""
    return _openat2(dir_fd, path, flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)


def open_by_components(dir_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` beneath `dir_fd` component by component, following no link at all.

    For kernels without `openat2`. `..` goes back along the folders that were walked, never by the file system's `..`.
    """
    if path.startswith("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    walked = [os.dup(dir_fd)]
    *folders, last = [part for part in path.split("/") if part not in ("", ".")] or ["."]
    if last == "..":
        folders, last = [*folders, ".."], "."
    try:
        for name in folders:
            if name != "..":
                walked.append(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=walked[-1]))
                continue
            os.close(walked.pop())
            if not walked:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        fd = os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=walked[-1])
    finally:
        for folder in walked:
            os.close(folder)
    if flags & os.O_PATH and not flags & os.O_NOFOLLOW and stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return fd


@functools.cache
def kernel_opener() -> Opener:
    """The best opener this kernel has."""
    try:
        os.close(_openat2(_AT_FDCWD, ".", os.O_PATH, 0, _RESOLVE_BENEATH))
    except OSError as error:
        if error.errno in _NO_OPENAT2:
            return open_by_components
        raise
    return open_by_openat2


def rename_no_replace(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Rename, and fail with EEXIST instead of replacing (renameat2(2)).

    Raises:
        OSError: As rename(2); EINVAL also where the file system does not know RENAME_NOREPLACE.
    """
    _renameat2(source_fd, source, target_fd, target, _RENAME_NOREPLACE)


def rename_exchange(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Let two names change places at one moment (renameat2(2)).

    Raises:
        OSError: As rename(2); EINVAL also where the file system does not know RENAME_EXCHANGE.
    """
    _renameat2(source_fd, source, target_fd, target, _RENAME_EXCHANGE)


def _renameat2(source_fd: int, source: str, target_fd: int, target: str, flags: int) -> None:
    number = _SYS_RENAMEAT2.get(os.uname().machine)
    if number is None:
        raise OSError(errno.EINVAL, "renameat2 is not known on this architecture")
    names = os.fsencode(source), os.fsencode(target)
    if _syscall()(number, source_fd, names[0], target_fd, names[1], flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@dataclass(frozen=True)
class Root:
    """A folder in which a service works.

    Args:
        path: Its absolute path as the operator wrote it; what callers see and say.
        real: The same folder without links, found once at start; what is opened.
        opener: How names beneath it are resolved.
        writable: Whether anything in it may be changed.
        hard_links: Whether files that have more names than one may be opened: another may lie outside.
        base: The root of the settings that this one is a narrower part of, None for one of the settings.
    """

    path: str
    real: str
    opener: Opener = field(default_factory=kernel_opener, compare=False, repr=False)
    writable: bool = True
    hard_links: bool = True
    base: "Root | None" = field(default=None, compare=False, repr=False)

    @property
    def whole(self) -> "Root":
        """The root of the settings: itself, or what it is a part of."""
        return self.base or self

    def shown(self, relative: str) -> str:
        """The path of `relative` as callers see it."""
        name = os.path.normpath(relative) if relative else "."
        return self.path if name == "." else f"{self.path.rstrip('/')}/{name}"

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the root itself.

        Opened anew for each use, so that a root may be replaced by its owner, and without following any link,
        so that a root which lies in another root cannot be swapped for a link to elsewhere.

        Raises:
            OSError: It is not there any more, or a link stands in its place.
        """
        if self.opener is open_by_openat2:
            fd = _openat2(_AT_FDCWD, self.real, os.O_PATH | os.O_DIRECTORY, 0, _RESOLVE_NO_SYMLINKS)
        else:
            with _closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as top:
                fd = self.opener(top, self.real.lstrip("/") or ".", os.O_PATH | os.O_DIRECTORY, 0)
        with _closing(fd):
            yield fd


@dataclass(frozen=True)
class Place:
    """A name beneath a root. Nothing is known about it until it is opened.

    Args:
        root: The root.
        relative: The name, "." for the root itself; may hold `..` and links.
    """

    root: Root
    relative: str

    @property
    def shown(self) -> str:
        """The path as callers see it."""
        return clip(self.root.shown(self.relative))

    def child(self, name: str) -> "Place":
        """The entry `name` (or a longer relative path) of this folder."""
        return Place(self.root, name if self.relative == "." else f"{self.relative.rstrip('/')}/{name}")


class Roots(tuple[Root, ...]):
    """The folders one call may use, in the settings' order."""

    __slots__ = ()

    @classmethod
    def of(
        cls,
        paths: Sequence[str | os.PathLike[str]],
        opener: Opener | None = None,
        *,
        read_only: Sequence[str | os.PathLike[str]] = (),
        hard_links: bool = True,
    ) -> "Roots":
        """The roots of the settings.

        Args:
            paths: Absolute folders that exist.
            opener: How names are resolved; the kernel's best when not given.
            read_only: Further ones, in which nothing may be changed.
            hard_links: Whether files with more names than one may be opened.

        Raises:
            RootsError: Some of them are not absolute, not there, or not folders; all are named.
        """
        problems = [problem for path in (*paths, *read_only) if (problem := _root_problem(os.fspath(path)))]
        if problems:
            raise RootsError("; ".join(problems))
        chosen = opener or kernel_opener()
        given = [(path, True) for path in paths] + [(path, False) for path in read_only]
        roots = cls(
            Root(os.path.normpath(path), os.path.realpath(path), chosen, writable, hard_links)
            for path, writable in given
        )
        if inside := _read_only_inside(roots):
            raise RootsError(f"{inside}; a link could lead into it: take one of them off the list")
        return roots

    def narrowed(self, allowed: Sequence[str]) -> "Roots":
        """What is left of these roots for a caller whose grant names `allowed`; nothing widens.

        Args:
            allowed: Absolute folders; none means that nothing is narrowed.
        """
        if not allowed:
            return self
        found: dict[str, Root] = {}
        for folder in (os.path.normpath(path) for path in allowed):
            for root in sorted(self, key=lambda root: -len(root.path)):
                if (inner := _beneath(folder, root)) is not None:
                    path, real = (os.path.normpath(f"{start}/{inner}") for start in (root.path, root.real))
                    found.setdefault(folder, replace(root, path=path, real=real, base=root.whole))
                elif PurePosixPath(root.path).is_relative_to(folder):
                    found.setdefault(root.path, root)
        return Roots(found.values())

    def locate(self, path: str) -> Place:
        """The place a caller names.

        Args:
            path: Absolute within a root, or relative where there is just one root.

        Raises:
            PathError: It cannot be a path within these roots.
        """
        if not path or "\0" in path:
            raise PathError("the path is empty" if not path else "the path holds a NUL character; paths cannot")
        if len(path.encode("utf-8", "replace")) > _PATH_BYTES:
            raise PathError(f"the path is longer than {_PATH_BYTES} bytes: {clip(path)}")
        if any("\ud800" <= char <= "\udfff" for char in path):
            raise PathError(f"{clip(path)} is not valid Unicode; names that are not UTF-8 cannot be used")
        if not path.startswith("/"):
            return Place(self._only(path), path)
        inside = [(root, inner) for root in self if (inner := _beneath(path, root)) is not None]
        if not inside:
            raise PathError(f"{clip(path)} is outside the roots you may use; list the roots to see them")
        root, inner = max(inside, key=lambda found: len(found[0].path))
        return Place(root, inner or ".")

    def _only(self, path: str) -> Root:
        if len(self) == 1:
            return self[0]
        what = "there is no root you may use" if not self else f"there are {len(self)} roots; start with one of them"
        raise PathError(f"{clip(path)} is relative, and {what}")


def _root_problem(path: str) -> str | None:
    if not path.startswith("/"):
        return f"root {path!r} is not an absolute path"
    try:
        return None if stat.S_ISDIR(os.stat(path).st_mode) else f"root {path!r} is not a folder"  # noqa: PTH116
    except OSError as error:
        return f"root {path!r}: {error.strerror}; create it or take it off the list"


def _read_only_inside(roots: Roots) -> str:
    """Which read-only root lies in one that may be changed, "" for none."""
    for inner in (root for root in roots if not root.writable):
        for outer in (root for root in roots if root.writable):
            if PurePosixPath(inner.real).is_relative_to(outer.real):
                return f"root {inner.path!r} is read-only and lies in {outer.path!r}, which is not"
    return ""


def _beneath(path: str, root: Root) -> str | None:
    """What follows the root in `path`, by its text alone; None when it does not start with the root."""
    for prefix in {root.path, root.real}:
        if path == prefix:
            return ""
        if path.startswith(f"{prefix.rstrip('/')}/"):
            return path[len(prefix.rstrip("/")) :].lstrip("/")
    return None


def printable(name: str) -> str:
    """A file name as JSON can carry it: bytes of it that are not UTF-8 are shown as `\\udcXX`."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def clip(path: str) -> str:
    """A path for a message: one line, not too long."""
    text = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


_MEANINGS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "cannot be: a part of the path is not a folder",
    errno.EISDIR: "is a folder",
    errno.EEXIST: "exists already",
    errno.EXDEV: "leads out of its root, by '..' or by a link",
    errno.ELOOP: "goes through a symbolic link that is not followed",
    errno.EACCES: "may not be used by this service: permission denied",
    errno.EPERM: "may not be used by this service: not permitted",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.ENOTEMPTY: "is not empty",
    errno.ENOSPC: "was not changed: the disk is full",
    errno.EDQUOT: "was not changed: the quota is used up",
    errno.EROFS: "is on a file system that is read-only",
    errno.ENXIO: "is not a regular file",
}


def explain(error: OSError, place: Place) -> PathError:
    """`error` in words for the caller, about the path as it knows it."""
    meaning = _MEANINGS.get(error.errno or 0, f"failed: {os.strerror(error.errno or 0)}")
    return PathError(f"{place.shown} {meaning}", error.errno or 0)


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened(place: Place, flags: int, mode: int = 0) -> Iterator[int]:
    """A descriptor of `place`, closed afterwards.

    Raises:
        PathError: It cannot be opened, or does not lie beneath its root.
    """
    try:
        with place.root.opened() as root_fd:
            fd = place.root.opener(root_fd, place.relative, flags, mode)
    except OSError as error:
        raise explain(error, place) from error
    with _closing(fd):
        yield fd


@contextmanager
def opened_file(place: Place, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of a regular file. Never waits for one that is something else.

    Raises:
        PathError: It cannot be opened, or is not a regular file.
    """
    # O_NONBLOCK: opening a FIFO without a writer would wait for ever.
    with opened(place, flags | os.O_NONBLOCK | os.O_NOCTTY) as fd:
        found = os.fstat(fd)
        check_regular(found, place)
        yield fd


def check_regular(found: os.stat_result, place: Place) -> None:
    """Refuse what is not a regular file, or one that may be a file of elsewhere.

    Raises:
        PathError: It is one of these.
    """
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise PathError(f"{place.shown} is {what}")
    if found.st_nlink > 1 and not place.root.hard_links:
        raise PathError(
            f"{place.shown} has {found.st_nlink} names (hard links), of which one may lie outside the roots; "
            "copy it outside of this service, or have an operator allow hard links"
        )


@contextmanager
def opened_parent(place: Place) -> Iterator[tuple[int, str]]:
    """The folder that holds `place`, and the name in it: what creating, renaming and deleting work on.

    Raises:
        PathError: The folder cannot be opened, or `place` names no entry of a folder (the root itself, `..`).
    """
    folder, _, name = place.relative.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise PathError(f"{place.shown} cannot be changed itself; name something in it")
    with opened(Place(place.root, folder or "."), os.O_RDONLY | os.O_DIRECTORY) as fd:
        yield fd, name
