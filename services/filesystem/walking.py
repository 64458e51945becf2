"""Walking a tree by folder descriptors: sorted, bounded, links not followed. Blocks.

Invariant: a folder is entered through the descriptor of the one above it, and never through a link, so that a walk
stays where it began whatever is swapped meanwhile.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from services.common.paths import printable
from services.filesystem.ignoring import Ignored
from services.filesystem.own import FOLDER

__all__ = ["OPEN_FOLDER", "Node", "Walk", "WalkLimits"]

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_TIMED_ENTRIES = 1024


@dataclass(frozen=True)
class WalkLimits:
    """How far a walk goes.

    Args:
        entries: The most entries to look at.
        depth: The most folders to go down.
        within_s: The longest time to look.
    """

    entries: int = 1_000_000
    depth: int = 200
    within_s: float = 20.0


class Node(NamedTuple):
    """An entry a walk came by.

    Args:
        above: Path of the folder that holds it, "" or ending in a slash.
        name: Its name.
        folder: Descriptor of that folder, open while the walk stands here.
        entry: What scandir said.
        is_folder: Whether it is a folder, links not followed.
        depth: 1 for what lies in the first folder.
    """

    above: str
    name: str
    folder: int
    entry: "os.DirEntry[str]"
    is_folder: bool
    depth: int

    @property
    def path(self) -> str:
        """Relative to where the walk began."""
        return self.above + self.name


@dataclass
class _Open:
    """A folder the walk is in."""

    fd: int
    path: str
    rest: Iterator[tuple[str, "os.DirEntry[str]"]]
    ignored: Ignored


class Walk:
    """One walk, in the order of names, a folder before what is in it.

    Args:
        limits: How far it goes.
        skip: Names of folders not to look into.
        gitignore: Leave out what .gitignore files name.
        own: Whether the first folder is one whose own `.tekup-files` is to be left out.
        enters: Asked for each folder whether to look into it.
    """

    def __init__(
        self,
        limits: WalkLimits,
        *,
        skip: frozenset[str] = frozenset(),
        gitignore: bool = False,
        own: bool = True,
        enters: Callable[[Node], bool] = lambda _: True,
    ) -> None:
        self.complete = True
        self.unreadable = 0
        self._skip = skip
        self._gitignore = gitignore
        self._own = own
        self._enters = enters
        self._limits = limits
        self._left = limits.entries
        self._until = time.monotonic() + limits.within_s

    def over(self, fd: int) -> Iterator[Node]:
        """The entries beneath a folder.

        Raises:
            OSError: The folder itself cannot be read.
        """
        within = [_Open(fd, "", self._listed(fd), self._ignored(Ignored(), fd, ""))]
        try:
            while within and self.complete:
                here, depth = within[-1], len(within)
                for _, entry in here.rest:
                    node = Node(here.path, entry.name, here.fd, entry, entry.is_dir(follow_symlinks=False), depth)
                    if self._is_over():
                        return
                    if self._left_out(node, here.ignored):
                        continue
                    yield node
                    if node.is_folder and self._may_enter(node) and (inner := self._entered(node, here.ignored)):
                        within.append(inner)
                        break
                else:
                    self._close(within.pop(), fd)
        finally:
            for one in within:
                self._close(one, fd)

    def _close(self, one: _Open, first: int) -> None:
        if one.fd != first:
            os.close(one.fd)

    def _is_over(self) -> bool:
        self._left -= 1
        if self._left < 0 or (self._left % _TIMED_ENTRIES == 0 and time.monotonic() > self._until):
            self.complete = False
        return not self.complete

    def _listed(self, fd: int) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        with os.scandir(fd) as entries:
            # By what callers see, so that a page goes on where the one before ended.
            return iter(sorted([(printable(entry.name), entry) for entry in entries], key=itemgetter(0)))

    def _ignored(self, above: Ignored, fd: int, path: str) -> Ignored:
        return above.within(fd, path) if self._gitignore else above

    def _left_out(self, node: Node, ignored: Ignored) -> bool:
        if node.depth == 1 and self._own and node.name == FOLDER:
            return True
        if not self._gitignore:
            return False
        return node.name == ".git" or ignored.leaves_out(node.path, is_folder=node.is_folder)

    def _may_enter(self, node: Node) -> bool:
        if node.name in self._skip or not self._enters(node):
            return False
        if node.depth >= self._limits.depth or time.monotonic() > self._until:
            self.complete = False
        return self.complete

    def _entered(self, node: Node, ignored: Ignored) -> _Open | None:
        try:
            fd = os.open(node.name, OPEN_FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=node.folder)
        except OSError:
            self.unreadable += 1  # gone, swapped for a link, or not ours to read: nothing to see in it
            return None
        path = f"{node.path}/"
        try:
            return _Open(fd, path, self._listed(fd), self._ignored(ignored, fd, path))
        except OSError:
            self.unreadable += 1
            os.close(fd)
            return None
