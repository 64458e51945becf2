"""Looking through trees: paths by glob, the tree as text, its size. Blocks: call it in a thread."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest

from services.common.paths import PathError, Place, explain, opened, printable
from services.filesystem.globs import Glob, States
from services.filesystem.listing import Entry, Order, kind_of, shown_line, within_budget
from services.filesystem.walking import OPEN_FOLDER, Node, Walk, WalkLimits

__all__ = ["FindLimits", "Found", "Size", "Tree", "TreeWish", "find", "size_of", "tree"]

_LINE_BYTES = 4


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
    entries: int = 1_000_000
    depth: int = 200
    within_s: float = 20.0
    budget_bytes: int = 64 << 10

    @property
    def walk(self) -> WalkLimits:
        """The same for a walk."""
        return WalkLimits(self.entries, self.depth, self.within_s)


@dataclass(frozen=True)
class Found:
    """Result of a search by glob.

    Args:
        paths: Matching paths, in the order asked for.
        matched: How many matched, the ones left out included.
        complete: Whether the whole tree was looked at.
        next_after: Pass it as `after` for the next page, None on the last.
    """

    paths: tuple[str, ...]
    matched: int
    complete: bool
    next_after: str | None = None


def find(
    place: Place,
    glob: Glob,
    *,
    skip: frozenset[str],
    limits: FindLimits,
    order: Order = "name",
    gitignore: bool = False,
    after: str = "",
) -> Found:
    """Paths beneath a folder that match; links are not followed.

    Args:
        place: The folder.
        glob: What the path from there must match.
        skip: Names of folders not to look into.
        limits: How far to go.
        order: By path, or the largest or the newest first.
        gitignore: Leave out what .gitignore files name.
        after: `next_after` of the page before, "" for the first.

    Raises:
        PathError: `place` is not a folder that can be read.
    """
    states: dict[str, States] = {"": glob.start()}
    walk = Walk(limits.walk, skip=skip, gitignore=gitignore, enters=lambda node: f"{node.path}/" in states)
    matches: list[tuple[int, str]] = []
    with opened(place, OPEN_FOLDER) as fd:
        try:
            for node in walk.over(fd):
                after_it = glob.step(states[node.path[: len(node.path) - len(node.entry.name)]], node.entry.name)
                if node.is_folder and glob.goes_on(after_it):
                    states[f"{node.path}/"] = after_it
                if glob.accepts(after_it):
                    matches.append((_rank(node, order), printable(node.path)))
        except OSError as error:
            raise explain(error, place) from error
    return _page(matches, after, walk.complete, limits)


def _rank(node: Node, order: Order) -> int:
    if order == "name":
        return 0
    try:
        found = node.entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    return -(found.st_mtime_ns if order == "modified" else found.st_size)


def _page(matches: list[tuple[int, str]], after: str, complete: bool, limits: FindLimits) -> Found:
    rest = matches
    if after:
        number, _, path = after.partition("/")
        try:
            start = int(number), path
        except ValueError:
            raise PathError(f"after={after[:80]!r} is no cursor; pass next_after unchanged") from None
        rest = [match for match in matches if match > start]
    first = nsmallest(limits.paths, rest) if len(rest) > limits.paths else sorted(rest)
    shown = within_budget(first, [len(path.encode()) + _LINE_BYTES for _, path in first], limits.budget_bytes)
    more = bool(shown) and len(shown) < len(rest)
    next_after = f"{shown[-1][0]}/{shown[-1][1]}" if more else None
    return Found(tuple(path for _, path in shown), len(matches), complete, next_after)


@dataclass(frozen=True)
class TreeWish:
    """What of a tree is wanted.

    Args:
        depth: How many folders down.
        entries: The most entries to show.
        after: `next_after` of the page before, "" for the first.
        skip: Names of folders not to look into.
        exclude: Globs of paths to leave out.
        gitignore: Leave out what .gitignore files name.
        sizes: Show sizes of files.
    """

    depth: int
    entries: int
    after: str = ""
    skip: frozenset[str] = frozenset()
    exclude: Sequence[Glob] = ()
    gitignore: bool = True
    sizes: bool = False


@dataclass(frozen=True)
class Tree:
    """A part of a tree.

    Args:
        text: A line an entry, a blank for each folder down.
        entries: How many entries it shows.
        next_after: Pass it as `after` for what follows, None at the end.
        complete: False when the tree is too large to look at all of it.
    """

    text: str
    entries: int
    next_after: str | None
    complete: bool


def tree(place: Place, wish: TreeWish, *, budget_bytes: int, limits: WalkLimits | None = None) -> Tree:
    """A tree as text, sorted, a folder before what is in it; links are not followed.

    Raises:
        PathError: `place` is not a folder that can be read.
    """
    printer = _Printer(wish, budget_bytes)
    walk = Walk(limits or WalkLimits(), skip=wish.skip, gitignore=wish.gitignore, enters=printer.enters)
    with opened(place, OPEN_FOLDER) as fd:
        try:
            for node in walk.over(fd):
                if not printer.takes(node):
                    break
        except OSError as error:
            raise explain(error, place) from error
    return Tree("\n".join(printer.lines), printer.count, printer.next_after, walk.complete)


class _Printer:
    """The lines of a page, and where it ends."""

    def __init__(self, wish: TreeWish, budget_bytes: int) -> None:
        self.lines: list[str] = []
        self.count = 0
        self.next_after: str | None = None
        self._wish = wish
        self._after = tuple(wish.after.split("/")) if wish.after else ()
        self._left = budget_bytes
        self._last = ""

    def enters(self, node: Node) -> bool:
        """Whether something in this folder may be shown."""
        parts = tuple(printable(node.path).split("/"))
        behind = not self._after or parts >= self._after[: len(parts)]
        return node.depth < self._wish.depth and behind and not self._excluded(node.path)

    def takes(self, node: Node) -> bool:
        """Show an entry if it is to be shown; False when the page is full."""
        if self._excluded(node.path):
            return True
        path = printable(node.path)
        parts = tuple(path.split("/"))
        above = bool(self._after) and parts == self._after[: len(parts)]
        if self._after and parts <= self._after and not (above and node.is_folder):
            return True
        line = " " * (node.depth - 1) + shown_line(self._entry(node), sizes=self._wish.sizes)
        cost = len(line.encode()) + 1
        if not above and (self.count == self._wish.entries or (self.count and cost > self._left)):
            self.next_after = self._last
            return False
        # Folders above where a page goes on are shown again: they say where its first entry lies.
        self.lines.append(line)
        self._left -= cost
        if not above:
            self.count += 1
            self._last = path
        return True

    def _excluded(self, path: str) -> bool:
        return any(glob.matches(path) for glob in self._wish.exclude)

    def _entry(self, node: Node) -> Entry:
        name = printable(node.entry.name)
        if node.is_folder:
            return Entry(name, "folder", None)
        if not self._wish.sizes and not node.entry.is_symlink() and node.entry.is_file(follow_symlinks=False):
            return Entry(name, "file", None)
        try:
            found = node.entry.stat(follow_symlinks=False)
        except OSError:
            return Entry(name, "other", None)
        kind = kind_of(found.st_mode)
        return Entry(name, kind, found.st_size if kind == "file" else None)


@dataclass(frozen=True)
class Size:
    """What a tree holds.

    Args:
        size_bytes: Sizes of its files together; a file with several names counts once.
        disk_bytes: What they take on the disk.
        files: Files.
        folders: Folders beneath it.
        others: Links and what is neither.
        complete: False when it was too large to look at all of it.
    """

    size_bytes: int
    disk_bytes: int
    files: int
    folders: int
    others: int
    complete: bool


def size_of(place: Place, limits: WalkLimits | None = None) -> Size:
    """What a folder holds; links are not followed.

    Raises:
        PathError: It is not a folder that can be read.
    """
    walk = Walk(limits or WalkLimits())
    size = disk = files = folders = others = 0
    seen: set[tuple[int, int]] = set()
    with opened(place, OPEN_FOLDER) as fd:
        for node in walk.over(fd):
            if node.is_folder:
                folders += 1
                continue
            found = _stat(node.entry)
            if found is None or kind_of(found.st_mode) != "file":
                others += found is not None
                continue
            files += 1
            key = (found.st_dev, found.st_ino)
            if found.st_nlink == 1 or key not in seen:
                size += found.st_size
                disk += found.st_blocks * 512
            if found.st_nlink > 1:
                seen.add(key)
    return Size(size, disk, files, folders, others, walk.complete)


def _stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None  # deleted since it was listed
