"""Looking at folders: entries, facts about one, and files by glob. Blocks: call it in a thread."""

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Literal, TypeVar

from services.common.paths import PathError, Place, explain, opened, opened_parent, printable
from services.filesystem.globs import Glob, States

__all__ = ["Entry", "Facts", "FindLimits", "Found", "Kind", "Page", "facts", "find", "list_folder", "within_budget"]

Kind = Literal["file", "folder", "link", "other"]

_ENTRY_BYTES = 60  # of an entry without its name, in JSON
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


@dataclass(frozen=True)
class Entry:
    """An entry of a folder.

    Args:
        name: Its name.
        kind: A symbolic link is `link`, whatever it points to.
        size_bytes: Size of a file, None for anything else.
    """

    name: str
    kind: Kind
    size_bytes: int | None


@dataclass(frozen=True)
class Page:
    """A part of a folder's entries.

    Args:
        entries: Sorted by name.
        total: How many the folder has.
        next_after: Pass it as `after` for the next page, None on the last.
    """

    entries: tuple[Entry, ...]
    total: int
    next_after: str | None


@dataclass(frozen=True)
class Facts:
    """What is known about a path, links not followed."""

    path: str
    kind: Kind
    size_bytes: int
    mode: str
    modified: datetime
    links_to: str | None


@dataclass(frozen=True)
class Found:
    """Result of a search by glob.

    Args:
        paths: Matching paths, sorted.
        matched: How many matched, the ones left out included.
        complete: Whether the whole tree was looked at.
    """

    paths: tuple[str, ...]
    matched: int
    complete: bool


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def list_folder(place: Place, *, after: str, limit: int, budget_bytes: int) -> Page:
    """Entries of a folder by name, those behind `after`.

    Raises:
        PathError: It is not a folder that can be read.
    """
    with opened(place, _FOLDER) as fd:
        try:
            names = sorted(os.listdir(fd))  # noqa: PTH208
        except OSError as error:
            raise explain(error, place) from error
        rest = [name for name in names if printable(name) > after] if after else names
        shown = within_budget(
            rest[:limit], [len(printable(name).encode()) + _ENTRY_BYTES for name in rest], budget_bytes
        )
        entries = tuple(entry for name in shown if (entry := _entry(fd, name)) is not None)
    return Page(entries, len(names), printable(shown[-1]) if len(shown) < len(rest) else None)


def _entry(fd: int, name: str) -> Entry | None:
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None  # deleted since it was listed
    kind = _kind(found.st_mode)
    return Entry(printable(name), kind, found.st_size if kind == "file" else None)


def facts(place: Place) -> Facts:
    """What stands at `place`; a link itself, not its target.

    Raises:
        PathError: Nothing does, or it may not be seen.
    """
    if place.relative.rstrip("/").rpartition("/")[2] in ("", ".", ".."):
        with opened(place, os.O_PATH) as fd:
            return _facts(place, os.fstat(fd), None)
    with opened_parent(place) as (folder, name):
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else None
        except OSError as error:
            raise explain(error, place) from error
    return _facts(place, found, target)


def _facts(place: Place, found: os.stat_result, target: str | None) -> Facts:
    return Facts(
        path=place.shown,
        kind=_kind(found.st_mode),
        size_bytes=found.st_size,
        mode=stat.filemode(found.st_mode),
        modified=datetime.fromtimestamp(found.st_mtime, UTC),
        links_to=None if target is None else _target_shown(place, target),
    )


def _target_shown(place: Place, target: str) -> str:
    """Where a link points to, said only when that lies beneath the root."""
    try:
        with opened(place, os.O_PATH):
            return printable(target)
    except PathError:
        return "(nothing that can be reached within the root)"


def find(place: Place, glob: Glob, *, skip: frozenset[str], limits: "FindLimits") -> Found:
    """Paths beneath a folder that match; links are not followed.

    Args:
        place: The folder.
        glob: What the path from there must match.
        skip: Names of folders not to look into.
        limits: How far to go.

    Raises:
        PathError: `place` is not a folder that can be read.
    """
    with opened(place, _FOLDER) as fd:
        walk = _Walk(glob, skip, limits)
        walk.folder(fd, "", glob.start(), depth=0)
    paths = [printable(path) for path in sorted(walk.matches)]
    shown = within_budget(paths[: limits.paths], [len(path.encode()) + 4 for path in paths], limits.budget_bytes)
    return Found(tuple(shown), len(paths), walk.complete)


T = TypeVar("T")


def within_budget(items: Sequence[T], costs: Sequence[int], budget_bytes: int) -> Sequence[T]:
    """The first of `items` whose costs fit into the budget together."""
    spent = accumulate(costs)
    return [item for item, total in zip(items, spent, strict=False) if total <= budget_bytes]


@dataclass(frozen=True)
class FindLimits:
    """How far a search by glob goes.

    Args:
        paths: The most paths to return.
        entries: The most entries to look at.
        depth: The most folders to go down.
        within_s: The longest time to look.
        budget_bytes: The most text to return.
    """

    paths: int
    entries: int = 200_000
    depth: int = 200
    within_s: float = 20.0
    budget_bytes: int = 64 << 10


class _Walk:
    """One search through a tree, by folder descriptors."""

    def __init__(self, glob: Glob, skip: frozenset[str], limits: FindLimits) -> None:
        self.matches: list[str] = []
        self.complete = True
        self._glob = glob
        self._skip = skip
        self._limits = limits
        self._left = limits.entries
        self._until = time.monotonic() + limits.within_s

    def folder(self, fd: int, path: str, states: States, *, depth: int) -> None:
        with os.scandir(fd) as entries:
            listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_folder in listed:
            self._left -= 1
            if self._left < 0 or time.monotonic() > self._until:
                self.complete = False
                return
            after = self._glob.step(states, name)
            if self._glob.accepts(after):
                self.matches.append(f"{path}{name}")
            if is_folder and name not in self._skip and self._glob.goes_on(after):
                self._enter(fd, name, f"{path}{name}/", after, depth + 1)

    def _enter(self, fd: int, name: str, path: str, states: States, depth: int) -> None:
        if depth > self._limits.depth:
            self.complete = False
            return
        try:
            inner = os.open(name, _FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            return  # gone, swapped for a link, or not ours to read: nothing to see in it
        try:
            self.folder(inner, path, states, depth=depth)
        finally:
            os.close(inner)
