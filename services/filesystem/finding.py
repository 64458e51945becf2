"""Looking through trees: paths by glob, the tree as text, its size. Blocks: call it in a thread."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from services.common.paths import PathError, Place, explain, opened, printable
from services.filesystem.globs import Glob, States
from services.filesystem.listing import Entry, Kind, Order, kind_of, kind_of_entry, shown_line, within_budget
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
    search = _Search(glob)
    walk = Walk(limits.walk, skip=skip, gitignore=gitignore, enters=search.enters)
    matches: list[tuple[int, str]] = []
    with opened(place, OPEN_FOLDER) as fd:
        try:
            matches = [(_rank(node, order), printable(node.path)) for node in walk.over(fd) if search.matches(node)]
        except OSError as error:
            raise explain(error, place) from error
    return _page(matches, after, walk.complete, limits)


class _Search:
    """Where a glob stands in each folder of a walk."""

    def __init__(self, glob: Glob) -> None:
        self._glob = glob
        self._states: dict[str, States] = {"": glob.start()}
        self._ends: dict[States, Callable[[str], object]] = {}

    def matches(self, node: Node) -> bool:
        """Whether an entry matches; remembers where the glob stands in a folder."""
        states = self._states[node.above]
        if not node.is_folder:
            ends = self._ends.get(states)
            if ends is None:
                ends = self._ends[states] = self._glob.ending(states)
            return bool(ends(node.name))
        after = self._glob.step(states, node.name)
        if self._glob.goes_on(after):
            self._states[f"{node.path}/"] = after
        return self._glob.accepts(after)

    def enters(self, node: Node) -> bool:
        """Whether something in this folder can match."""
        return f"{node.path}/" in self._states


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
        if node.depth >= self._wish.depth or self._excluded(node):
            return False
        if not self._after:
            return True
        parts = tuple(printable(node.path).split("/"))
        return parts >= self._after[: len(parts)]

    def takes(self, node: Node) -> bool:
        """Show an entry if it is to be shown; False when the page is full."""
        if self._excluded(node):
            return True
        above = False
        if self._after:
            parts = tuple(printable(node.path).split("/"))
            above = node.is_folder and parts == self._after[: len(parts)]
            if parts <= self._after and not above:
                return True
        line = " " * (node.depth - 1) + self._line(node)
        cost = (len(line) if line.isascii() else len(line.encode())) + 1
        if not above and (self.count == self._wish.entries or (self.count and cost > self._left)):
            self.next_after = printable(self._last)
            return False
        # Folders above where a page goes on are shown again: they say where its first entry lies.
        self.lines.append(line)
        self._left -= cost
        if not above:
            self.count += 1
            self._last = node.path
        return True

    def _excluded(self, node: Node) -> bool:
        return bool(self._wish.exclude) and any(glob.matches(node.path) for glob in self._wish.exclude)

    def _line(self, node: Node) -> str:
        kind: Kind = "folder" if node.is_folder else kind_of_entry(node.entry)
        size = None
        if self._wish.sizes and kind == "file":
            found = _stat(node.entry)
            size = found.st_size if found is not None else None
        return shown_line(Entry(printable(node.name), kind, size), sizes=self._wish.sizes)


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
