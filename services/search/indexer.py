"""Keeps the full-text index of one root like its files, in the background.

Invariants: what is indexed was read through the path layer; a query never waits for a build, it is told that there is
none yet; a refresh looks at times and sizes and reads only what changed.
"""

import asyncio
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import anyio.to_thread

from services.common.paths import PathError, Place, Root, opened_file
from services.common.ripgrep import Ripgrep, RipgrepError
from services.common.targets import Target, opened_target
from services.search.textindex import Chunk, Document, Stamp, TextIndex

__all__ = ["IndexStatus", "Indexer", "State"]

logger = logging.getLogger(__name__)

_BATCH_FILES = 64
_FILE_BYTES = 1 << 20
_LISTING_S = 120.0
_AGAIN_AFTER_FAILURE_S = 5.0


class State(StrEnum):
    """Where an index is in its life."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class IndexStatus:
    """What is known about an index.

    Args:
        state: Where it is.
        files: Files in it.
        chunks: Parts of files in it.
        to_do: Files that are still to be read.
        skipped: Files left out: too large, binary, unreadable, or beyond the most there may be.
        age_s: Seconds since it was last compared with the files, None before the first time.
        problem: Why it failed, "" when it did not.
    """

    state: State
    files: int
    chunks: int
    to_do: int
    skipped: int
    age_s: float | None
    problem: str


class Indexer:
    """The index of one root, and the task that keeps it.

    Args:
        root: The root.
        ripgrep: Lists the files, so that what it ignores is ignored here.
        max_files: The most files to index.
        may_lag_s: Compared with the files so long ago, the index counts as fresh.
    """

    def __init__(self, root: Root, ripgrep: Ripgrep, *, max_files: int, may_lag_s: float = 0.1) -> None:
        self.root = root
        self._ripgrep = ripgrep
        self._max_files = max_files
        self._may_lag_s = may_lag_s
        self._index = TextIndex()
        self._state = State.BUILDING
        self._problem = ""
        self._to_do = 0
        self._skipped: dict[str, Stamp] = {}
        self._beyond = 0
        self._compared: float | None = None
        self._wanted = asyncio.Event()
        self._done = asyncio.Condition()

    async def keep(self) -> None:
        """Build, then refresh whenever `fresh` asks; runs until cancelled."""
        while True:
            self._wanted.clear()
            try:
                await self._refresh()
                self._state, self._problem = State.READY, ""
            except (PathError, RipgrepError, sqlite3.Error, OSError) as error:
                self._state, self._problem = State.FAILED, str(error)
                logger.warning("index.failed", extra={"root": self.root.path, "error": str(error)})
                await asyncio.sleep(_AGAIN_AFTER_FAILURE_S)
            async with self._done:
                self._done.notify_all()
            await self._wanted.wait()

    async def fresh(self, within_s: float) -> bool:
        """Have the index compared with the files, waiting at most `within_s` for it.

        Returns:
            Whether there is an index to ask; it may be older when the time did not do.
        """
        if self._compared is None or time.monotonic() - self._compared > self._may_lag_s:
            asked = time.monotonic()
            self._wanted.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s), self._done:
                    await self._done.wait_for(lambda: self._compared is not None and self._compared >= asked)
        return self._state is State.READY

    async def search(self, words: Sequence[str], *, within: str, limit: int) -> tuple[list[Chunk], int]:
        """The best chunks of a file or folder, and how many there are; chunks of files that changed are left out."""
        found, total = await anyio.to_thread.run_sync(lambda: self._index.search(words, within=within, limit=limit))
        return await anyio.to_thread.run_sync(self._still_true, found), total

    async def status(self) -> IndexStatus:
        """What is known about the index."""
        files, chunks = await anyio.to_thread.run_sync(self._index.counts)
        age_s = None if self._compared is None else round(time.monotonic() - self._compared, 1)
        return IndexStatus(
            self._state, files, chunks, self._to_do, len(self._skipped) + self._beyond, age_s, self._problem
        )

    def close(self) -> None:
        """Drop the index."""
        self._index.close()

    async def _refresh(self) -> None:
        began = time.monotonic()
        async with opened_target(Place(self.root, ".")) as target:
            paths, complete = await self._ripgrep.files(target.folder, deadline_s=_LISTING_S)
            if not complete:
                raise RipgrepError(f"the files of {self.root.path} could not be listed within {_LISTING_S:.0f} s")
            self._beyond = max(0, len(paths) - self._max_files)
            changed, gone = await anyio.to_thread.run_sync(self._compare, target, paths[: self._max_files])
            if gone:
                await anyio.to_thread.run_sync(self._index.update, (), gone)
            for start in range(0, len(changed), _BATCH_FILES):
                self._to_do = len(changed) - start
                await anyio.to_thread.run_sync(self._take, target, changed[start : start + _BATCH_FILES])
        self._to_do = 0
        self._compared = began

    def _compare(self, target: Target, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """Paths that are new or changed, and indexed ones that are gone."""
        known = {**self._index.stamps(), **self._skipped}
        changed: list[str] = []
        for path in paths:
            try:
                found = os.stat(path, dir_fd=target.folder, follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and known.get(path) != (found.st_mtime_ns, found.st_size):
                changed.append(path)
        gone = list(known.keys() - set(paths))
        for path in gone:
            self._skipped.pop(path, None)
        return changed, gone

    def _take(self, target: Target, paths: Sequence[str]) -> None:
        documents: list[Document] = []
        for path in paths:
            self._skipped.pop(path, None)
            document, stamp = _read(target.place(path), path)
            if document is not None:
                documents.append(document)
            elif stamp is not None:
                self._skipped[path] = stamp
        # What is left out now may have been in before.
        self._index.update(documents, set(paths) - {document.path for document in documents})

    def _still_true(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        stamps = {chunk.path: chunk.stamp for chunk in chunks}
        now = {path: _stamp(Place(self.root, path)) == stamp for path, stamp in stamps.items()}
        if not all(now.values()):
            self._compared = None
        return [chunk for chunk in chunks if now[chunk.path]]


def _read(place: Place, path: str) -> tuple[Document | None, Stamp | None]:
    try:
        with opened_file(place) as fd:
            found = os.fstat(fd)
            stamp = (found.st_mtime_ns, found.st_size)
            if found.st_size > _FILE_BYTES:
                return None, stamp
            content = os.pread(fd, _FILE_BYTES, 0)
    except PathError:
        return None, None
    if b"\0" in content or not path.isprintable():
        return None, stamp
    return Document(path, stamp, content.decode("utf-8", "replace")), stamp


def _stamp(place: Place) -> Stamp | None:
    try:
        with opened_file(place) as fd:
            found = os.fstat(fd)
            return found.st_mtime_ns, found.st_size
    except PathError:
        return None
