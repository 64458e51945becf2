"""Walking a tree by folder descriptors: sorted, bounded, links not followed. Blocks.

Invariant: a folder is entered through the descriptor of the one above it, and never through a link, so that a walk
stays where it began whatever is swapped meanwhile.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.common.paths import printable
from services.filesystem.ignoring import Ignored
from services.filesystem.own import FOLDER

__all__ = ["OPEN_FOLDER", "Node", "Walk", "WalkLimits"]

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY


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


@dataclass(frozen=True, slots=True)
class Node:
    """An entry a walk came by.

    Args:
        path: Relative to where it began.
        folder: Descriptor of the folder that holds it, open while the walk stands here.
        entry: What scandir said.
        is_folder: Whether it is a folder, links not followed.
        depth: 1 for what lies in the first folder.
    """

    path: str
    folder: int
    entry: "os.DirEntry[str]"
    is_folder: bool
    depth: int


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
        return self._folder(fd, "", 1, Ignored())

    def _folder(self, fd: int, path: str, depth: int, ignored: Ignored) -> Iterator[Node]:
        with os.scandir(fd) as entries:
            # By what callers see, so that a page goes on where the one before ended.
            listed = sorted((printable(entry.name), entry) for entry in entries)
        if self._gitignore:
            ignored = ignored.within(fd, path)
        for _, entry in listed:
            name = entry.name
            self._left -= 1
            if self._left < 0 or time.monotonic() > self._until:
                self.complete = False
                return
            node = Node(f"{path}{name}", fd, entry, entry.is_dir(follow_symlinks=False), depth)
            if (depth == 1 and self._own and name == FOLDER) or (self._gitignore and self._left_out(node, ignored)):
                continue
            yield node
            if node.is_folder and name not in self._skip and self._enters(node):
                yield from self._entered(node, ignored)
            if not self.complete:
                return

    def _left_out(self, node: Node, ignored: Ignored) -> bool:
        return node.entry.name == ".git" or ignored.leaves_out(node.path, is_folder=node.is_folder)

    def _entered(self, node: Node, ignored: Ignored) -> Iterator[Node]:
        if node.depth >= self._limits.depth:
            self.complete = False
            return
        try:
            inner = os.open(node.entry.name, OPEN_FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=node.folder)
        except OSError:
            self.unreadable += 1  # gone, swapped for a link, or not ours to read: nothing to see in it
            return
        try:
            yield from self._folder(inner, f"{node.path}/", node.depth + 1, ignored)
        finally:
            os.close(inner)
