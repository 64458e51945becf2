"""Keeps the full-text index of one root like its files, in the background.

Invariants: what is indexed was read through the path layer; a query never waits for a build, it is told how far it is;
a refresh reads only what changed, and looks at all files only where the kernel did not say which.
"""

import asyncio
import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from pathlib import Path

import anyio
import anyio.to_process
import anyio.to_thread

from services.common.cgroup import own_cgroup
from services.common.paths import PathError, Place, Root, opened_file
from services.common.ripgrep import Ripgrep, RipgrepError
from services.common.targets import Target, opened_target
from services.search.courtesy import Courtesy
from services.search.passages import passages_beside
from services.search.textindex import Chunk, Document, Query, Stamp, TextIndex
from services.search.watching import Watch

__all__ = ["OWN_IGNORE_FILE", "IndexStatus", "Indexer", "State"]

logger = logging.getLogger(__name__)

OWN_IGNORE_FILE = ".tekupignore"
_IGNORE_FILES = (".gitignore", ".ignore", ".rgignore", OWN_IGNORE_FILE)
_BATCH_FILES = 128  # what is done for each batch costs as much as some ten files
_BATCH_BYTES = 4 << 20
_SMALL_BATCH_FILES = 16  # while callers wait for the interpreter between two of them
_MANY_FILES = 256  # from so many on another process is worth its start
_ABREAST = 4
_MOST_BESIDE = 4
_COMMIT_FILES = 4096
_COMMIT_S = 3.0
_FILE_BYTES = 1 << 20
_LISTING_S = 120.0
_AGAIN_AFTER_FAILURE_S = 5.0
_COMPARE_ALL_S = 60.0
_OTHERS_WRITE_S = 0.05
_FEW = 8
_ASIDE_S = 0.5


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
        skipped: Files left out, by why.
        age_s: Seconds since it was last compared with the files, None before the first time.
        problem: Why it failed, "" when it did not.
        watched: Whether changes are told by the kernel.
        index_bytes: Its size on disk.
    """

    state: State
    files: int
    chunks: int
    to_do: int
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    age_s: float | None = None
    problem: str = ""
    watched: bool = False
    index_bytes: int = 0


class Indexer:
    """The index of one root, and the task that keeps it.

    Args:
        root: The root.
        ripgrep: Lists the files, so that what it ignores is ignored here.
        index: What is kept.
        max_files: The most files to index.
        may_lag_s: Compared with the files so long ago, an index whose files are not watched counts as fresh.
        watch: Whether to have the kernel tell what changes.
        courtesy: Who is being answered; a build steps aside for them.
    """

    def __init__(
        self,
        root: Root,
        ripgrep: Ripgrep,
        index: TextIndex,
        *,
        max_files: int,
        may_lag_s: float = 0.1,
        watch: bool = True,
        courtesy: Courtesy | None = None,
    ) -> None:
        self.root = root
        self.index = index
        self._ripgrep = ripgrep
        self._max_files = max_files
        self._may_lag_s = may_lag_s
        self._watch = Watch(root.real) if watch else None
        self._courtesy = courtesy or Courtesy()
        beside = _processes_beside()
        self._beside = anyio.CapacityLimiter(beside) if beside > 0 else None
        self._state = State.BUILDING
        self._problem = ""
        self.to_do = 0
        self._uncommitted, self._committed = 0, 0.0
        self._known: dict[str, Stamp] = {}
        self._compared: float | None = None
        self._wanted = asyncio.Event()
        self._rounds = 0
        self._running = False
        self._done = asyncio.Condition()

    @property
    def ready(self) -> bool:
        """Whether it has been compared with the files once."""
        return self._state is State.READY

    async def keep(self) -> None:
        """Build, then refresh whenever it is asked for; runs until cancelled."""
        if self._watch is None:
            await self._keep()
        else:
            async with self._watch.running():
                await self._keep()

    async def fresh(self, within_s: float) -> bool:
        """Have the index compared with the files, waiting at most `within_s` for it.

        Returns:
            Whether it has all changes; else it is told which chunks are still true.
        """
        if not self.ready:  # it is being built, or failed: neither ends soon
            self._wanted.set()
            return False
        until = time.monotonic() + within_s
        told = await self._watch.caught_up(within_s) if self._watch is not None else False
        if told and self._watch is not None and not self._watch.changed and not self._watch.too_many:
            if self._old(_COMPARE_ALL_S):
                self._wanted.set()
            return True
        if not told and not self._old(self._may_lag_s):
            return self.ready
        return await self.refresh(until - time.monotonic())

    @property
    def told(self) -> int | None:
        """How many changes were told so far; None where the kernel does not tell."""
        return self._watch.told if self._watch is not None and self._watch.works else None

    async def changes(self, within_s: float) -> int | None:
        """How many changes there were up to now; None where the kernel does not tell, or not in time."""
        if self._watch is None or not await self._watch.caught_up(within_s):
            return None
        return self._watch.told

    async def refresh(self, within_s: float, *, everything: bool = False) -> bool:
        """A comparison that begins now, waited for at most `within_s`; whether it is through.

        Args:
            within_s: The longest to wait.
            everything: Look at all files, whatever the kernel told.
        """
        if everything and self._watch is not None:
            self._watch.too_many = True
        wanted = self._rounds + (2 if self._running else 1)
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, within_s)), self._done:
                await self._done.wait_for(lambda: self._rounds >= wanted)
        return self._rounds >= wanted and self.ready

    async def search(self, query: Query, *, limit: int) -> tuple[list[Chunk], int]:
        """The best chunks, and how many there are."""
        return await anyio.to_thread.run_sync(lambda: self.index.search(query, limit=limit))

    async def status(self) -> IndexStatus:
        """What is known about the index."""
        files, chunks = await anyio.to_thread.run_sync(self.index.counts)
        return IndexStatus(
            self._state,
            files,
            chunks,
            self.to_do,
            await anyio.to_thread.run_sync(self.index.skipped),
            None if self._compared is None else round(time.monotonic() - self._compared, 1),
            self._problem,
            self._watch is not None and self._watch.works,
            await anyio.to_thread.run_sync(self.index.bytes_on_disk),
        )

    def close(self) -> None:
        """Let go of the index."""
        self.index.close()

    def _old(self, seconds: float) -> bool:
        return self._compared is None or time.monotonic() - self._compared > seconds

    async def _keep(self) -> None:
        while True:
            self._wanted.clear()
            self._running = True
            try:
                through = await self._round()
                self._state, self._problem = State.READY if through else State.BUILDING, ""
            except Exception as error:  # whatever the engines below raise: searching by ripgrep goes on
                self._state, self._problem = State.FAILED, str(error)
                logger.warning("index.failed", extra={"root": self.root.path, "error": str(error)})
                self.to_do = 0
                await asyncio.sleep(_AGAIN_AFTER_FAILURE_S)
            self._running = False
            self._rounds += 1
            async with self._done:
                self._done.notify_all()
            await self._wanted.wait()

    async def _round(self) -> bool:
        """Bring the index up to date; whether so much of the files is in it that it can answer for them."""
        began = time.monotonic()
        changed, too_many = self._watch.take() if self._watch is not None else (set[str](), True)
        try:
            async with opened_target(Place(self.root, ".")) as target:
                if not await anyio.to_thread.run_sync(lambda: self.index.writable):
                    return await self._follow(target)
                if too_many or self._old(_COMPARE_ALL_S) or self._concerns_others(changed):
                    await self._compare_all(target)
                    self._compared = began
                else:
                    await self._take_all(target, changed & self._known.keys())
        except BaseException:
            if self._watch is not None:
                self._watch.too_many = True
            raise
        return True

    def _concerns_others(self, changed: set[str]) -> bool:
        """Whether one of these paths is no file that is known, so that only a list of all can say what it means."""
        if any(path.rpartition("/")[2] in _IGNORE_FILES for path in changed):
            return True
        unknown = changed - self._known.keys()
        if len(unknown) > _FEW or any(os.path.lexists(f"{self.root.real}/{path}") for path in unknown):
            return True
        return any(known.startswith(f"{path}/") for path in unknown for known in self._known)

    async def _compare_all(self, target: Target) -> None:
        own = [OWN_IGNORE_FILE] if await anyio.to_thread.run_sync(_has_own_ignore_file, target) else []
        paths, complete = await self._ripgrep.files(target.folder, ignore_files=own, deadline_s=_LISTING_S)
        if not complete:
            raise RipgrepError(f"the files of {self.root.path} could not be listed within {_LISTING_S:.0f} s")
        if self._compared is None:
            self._known = await anyio.to_thread.run_sync(self.index.files)
        paths.sort()
        beyond = paths[self._max_files :]
        changed = await anyio.to_thread.run_sync(self._changed, target, paths[: self._max_files])
        gone = self._known.keys() - set(paths)
        if gone:  # also files that are there, and ignored from now on
            await anyio.to_thread.run_sync(self.index.update, (), gone)
            self._known = {path: stamp for path, stamp in self._known.items() if path not in gone}
        await self._take_all(target, changed)
        if beyond:
            await anyio.to_thread.run_sync(self._leave_out, beyond)

    async def _take_all(self, target: Target, paths: Iterable[str]) -> None:
        wanted = list(paths)
        self.to_do = len(wanted)
        self._uncommitted, self._committed = 0, time.monotonic()
        batches = iter([wanted[start : start + _BATCH_FILES] for start in range(0, len(wanted), _BATCH_FILES)])
        aside = self._beside if len(wanted) >= _MANY_FILES else None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(1 if aside is None else _ABREAST):
                    group.create_task(self._take_some(target, batches, aside))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        await anyio.to_thread.run_sync(self.index.commit)

    async def _take_some(
        self, target: Target, batches: Iterator[list[str]], aside: anyio.CapacityLimiter | None
    ) -> None:
        """Batches until none is left; others take of them too, so that one is read while another is divided."""
        for batch in batches:
            left = batch
            while left:
                if not self.ready:
                    await self._courtesy.quiet(_ASIDE_S)
                most = _SMALL_BATCH_FILES if self._courtesy.lately else _BATCH_FILES
                taken, documents = await anyio.to_thread.run_sync(_read_some, target, left[:most])
                if aside is not None:
                    documents = await _divided(documents, aside)
                await anyio.to_thread.run_sync(self._put, left[:taken], documents)
                left = left[taken:]
                self.to_do -= taken
                self._uncommitted += taken
                if self._uncommitted >= _COMMIT_FILES or time.monotonic() - self._committed > _COMMIT_S:
                    self._uncommitted, self._committed = 0, time.monotonic()
                    await anyio.to_thread.run_sync(self.index.commit)

    async def _follow(self, target: Target) -> bool:
        """Another process writes: see what it has written, and wait for it to have seen what we see.

        Returns:
            False while it has not written half of it: it builds.
        """
        paths: list[str] = []
        for _ in range(10):
            await anyio.to_thread.run_sync(self.index.reload)
            self._known = await anyio.to_thread.run_sync(self.index.files)
            paths, _ = await self._ripgrep.files(target.folder, deadline_s=_LISTING_S)
            paths = paths[: self._max_files]
            self.to_do = len(await anyio.to_thread.run_sync(self._changed, target, paths))
            if not self.to_do:
                break
            await asyncio.sleep(_OTHERS_WRITE_S)
        else:
            if self._watch is not None:  # it is not through: the next question asks again
                self._watch.too_many = True
        self._compared = time.monotonic()
        return 2 * self.to_do <= len(paths)

    def _changed(self, target: Target, paths: Sequence[str]) -> list[str]:
        """Paths that are new or changed."""
        changed: list[str] = []
        for path in paths:
            try:
                found = os.stat(path, dir_fd=target.folder, follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and self._known.get(path) != (found.st_mtime_ns, found.st_size):
                changed.append(path)
        return changed

    def _put(self, paths: Sequence[str], documents: Sequence[Document]) -> None:
        there = {document.path for document in documents}
        gone = [path for path in paths if path not in there]
        self.index.update(documents, gone)
        for document in documents:
            self._known[document.path] = document.stamp
        for path in gone:
            self._known.pop(path, None)

    def _leave_out(self, paths: Sequence[str]) -> None:
        new = [path for path in paths if path not in self._known]
        why = f"beyond the first {self._max_files} files"
        self.index.update([Document(path, (0, 0), skipped=why) for path in new])
        self.index.commit()
        self._known.update(dict.fromkeys(new, (0, 0)))


def _has_own_ignore_file(target: Target) -> bool:
    try:
        with opened_file(target.place(OWN_IGNORE_FILE)):
            return True
    except PathError:
        return False


async def _divided(documents: list[Document], aside: anyio.CapacityLimiter) -> list[Document]:
    """The documents with their passages, found by another process: this one's interpreter stays free for callers."""
    files = [(document.path, document.text) for document in documents if not document.skipped]
    try:
        found = await anyio.to_process.run_sync(passages_beside, files, cancellable=True, limiter=aside)
    except anyio.BrokenWorkerProcess as error:  # killed, or no room for one: the index divides them itself
        logger.warning("index.divided_here", extra={"error": str(error)})
        return documents
    by_path = dict(zip((path for path, _ in files), found, strict=True))
    return [replace(document, text="", passages=by_path.get(document.path)) for document in documents]


def _processes_beside() -> int:
    """How many processes may divide files: one for each processor, none where there is but one.

    Ours has less to do than they, and goes first: they make way for it.
    """
    group = own_cgroup()
    limit = group.cpus_limit() if group else None
    processors = int(min(limit or inf, len(os.sched_getaffinity(0))))
    return min(_MOST_BESIDE, processors) if processors > 1 else 0


def _read_some(target: Target, paths: Sequence[str]) -> tuple[int, list[Document]]:
    """The first files until they are many bytes: how many, and those that are there."""
    documents: list[Document] = []
    length = 0
    for taken, path in enumerate(paths, 1):
        if (found := _read(target.place(path), path)) is not None:
            documents.append(found)
            length += len(found.text)
        if length >= _BATCH_BYTES:
            return taken, documents
    return len(paths), documents


def _read(place: Place, path: str) -> Document | None:
    """A file as it goes into the index; None when it is not there, or no regular file."""
    try:
        with opened_file(place) as fd:
            found = os.fstat(fd)
            stamp = (found.st_mtime_ns, found.st_size)
            if found.st_size > _FILE_BYTES:
                return Document(path, stamp, skipped=f"larger than {_FILE_BYTES >> 20} MiB")
            content = os.pread(fd, _FILE_BYTES, 0)
    except PathError as error:
        return _unreadable(place, path) if error.errno else None
    if not path.isprintable():
        return Document(path, stamp, skipped="a name that cannot be shown")
    if b"\0" in content:
        return Document(path, stamp, skipped="binary")
    return Document(path, stamp, content.decode("utf-8", "replace"))


def _unreadable(place: Place, path: str) -> Document | None:
    try:
        found = Path(place.root.real, place.relative).lstat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Document(path, (found.st_mtime_ns, found.st_size), skipped="unreadable")
