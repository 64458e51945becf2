"""The per-user cache of programs we fetched or built ourselves.

An entry is a folder `<name>-<version>-<digest of its source>` with the program and a record of the
program's sha256. It appears by one rename, complete or not at all; an entry whose program no longer has
the recorded sha256 is thrown away. A lock file per entry keeps two resolvers from building the same.
"""

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .files import lock_holder, try_lock, write_atomically
from .progress import Reporter

RECORD = "record.json"
LOCK_POLL_S = 0.5


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tekup-mcp/programs`, by default under `~/.cache` (XDG Base Directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "tekup-mcp" / "programs"


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Entry:
    """One cached program: where it lies, whether or not it is there yet."""

    name: str
    version: str
    digest: str
    entry: str
    """Path of the executable inside the folder."""

    @property
    def folder(self) -> Path:
        """Its folder."""
        return cache_folder() / f"{self.name}-{self.version}-{self.digest[:12]}"

    @property
    def program(self) -> Path:
        """Its executable."""
        return self.folder / self.entry

    def verified(self) -> Path | None:
        """The executable if it is there and still what was recorded, else None."""
        try:
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            intact = record["sha256"] == sha256_of(self.program)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self.program if intact else None


Build = Callable[[Path], Awaitable[None]]


async def cached_or_built(entry: Entry, build: Build, report: Reporter) -> Path:
    """Take a program from the cache, or build it into the cache.

    Args:
        entry: what and where.
        build: makes the program in the folder it is given, at `entry.entry`.
        report: told about waits.

    Returns:
        The verified executable.

    Raises:
        SourceFailed: from `build`.
    """
    if program := await asyncio.to_thread(entry.verified):
        return program
    async with _locked(entry, report):
        if program := await asyncio.to_thread(entry.verified):
            return program
        scratch = Path(tempfile.mkdtemp(prefix=f".{entry.folder.name}.", dir=cache_folder()))
        try:
            await build(scratch)
            sha256 = await asyncio.to_thread(sha256_of, scratch / entry.entry)
            record = {"name": entry.name, "version": entry.version, "sha256": sha256}
            write_atomically(scratch / RECORD, json.dumps(record, indent=1) + "\n")
            await asyncio.to_thread(_replace, scratch, entry.folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    return entry.program


def _replace(scratch: Path, folder: Path) -> None:
    if folder.exists():  # a damaged one; nobody else writes here while we hold the lock
        shutil.rmtree(folder)
    scratch.chmod(0o755)
    scratch.rename(folder)


@asynccontextmanager
async def _locked(entry: Entry, report: Reporter) -> AsyncIterator[None]:
    path = cache_folder() / f"{entry.folder.name}.lock"
    while True:
        with try_lock(path) as mine:
            if mine:
                yield
                return
        report.update(entry.name, f"waiting for process {lock_holder(path)}, which is fetching it")
        await asyncio.sleep(LOCK_POLL_S)
