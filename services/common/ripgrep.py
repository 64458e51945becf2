"""Running ripgrep. What it says is read by `ripgrep_output`.

Invariants: a caller's pattern is never an option and never makes ripgrep wait; the process runs in a folder given by
its descriptor, in its own process group, and is gone when the call is, whatever ended it; what it found is told apart
from what it could not look at.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from observability.telemetry.traces import span
from services.common.ripgrep_output import After, Collector, Counts, Hit, Hits, counted, in_order, listed

__all__ = [
    "After",
    "BadPattern",
    "Case",
    "Counts",
    "Grep",
    "Hit",
    "Hits",
    "RgBinary",
    "Ripgrep",
    "RipgrepError",
    "in_order",
]

Case = Literal["smart", "sensitive", "insensitive"]

_READ_BYTES = 1 << 20
_ERROR_BYTES = 16 << 10
# Nothing from outside may change what a search means: no configuration, no ignore files above the folder.
_ALWAYS = ("--no-config", "--no-ignore-parent", "--no-ignore-global")


def _found() -> Path:
    beside = Path(sys.executable).with_name("rg")
    return beside if beside.is_file() else Path(shutil.which("rg") or "rg")


def _runnable(program: Path) -> Path:
    if not os.access(program, os.X_OK):
        raise ValueError(f"{program} cannot be run; install ripgrep (pip install ripgrep) or name the binary")
    return program


RgBinary = Annotated[Path, AfterValidator(_runnable), Field(default_factory=_found, validate_default=True)]
"""A setting: where the program is; the one beside this Python when not given."""


class RipgrepError(Exception):
    """Ripgrep could not do its work; the text says why."""


class BadPattern(RipgrepError):
    """Ripgrep refused the pattern or a glob; the text is its own message."""


@dataclass(frozen=True)
class Grep:
    """What to look for.

    Args:
        patterns: Any of them.
        literal: They are texts, not regular expressions.
        case: How case counts; `smart` ignores it unless a pattern has capitals.
        globs: Only files that match; `!…` leaves files out.
        context: Lines to show around a match.
        hidden: Also files whose names start with a dot.
        ignored: Also files that .gitignore names.
        types: Only files of these types, as ripgrep names them: `py`, `rust`.
        word: Only whole words.
        multiline: A match may span lines; `.` still ends with its line unless the pattern says `(?s)`.
    """

    patterns: tuple[str, ...]
    literal: bool = False
    case: Case = "smart"
    globs: tuple[str, ...] = ()
    context: int = 0
    hidden: bool = False
    ignored: bool = False
    types: tuple[str, ...] = ()
    word: bool = False
    multiline: bool = False

    def arguments(self, *how: str) -> list[str]:
        """As ripgrep takes them; every value is bound to its option."""
        case = {"smart": "--smart-case", "sensitive": "--case-sensitive", "insensitive": "--ignore-case"}[self.case]
        options = [*how, case]
        options += ["--fixed-strings"] if self.literal else []
        options += ["--word-regexp"] if self.word else []
        options += ["--multiline"] if self.multiline else []
        for pattern in self.patterns:
            options += ["-e", pattern]
        return options + _selection(self.globs, self.types, hidden=self.hidden, ignored=self.ignored)


def _selection(globs: Sequence[str], types: Sequence[str] = (), *, hidden: bool, ignored: bool) -> list[str]:
    options = [f"--glob={glob}" for glob in globs] + [f"--type={name}" for name in types]
    options += ["--hidden", "--glob=!.git"] if hidden else []
    return options + (["--no-ignore"] if ignored else [])


class Ripgrep:
    """The program.

    Args:
        binary: Where it is.
    """

    def __init__(self, binary: str) -> None:
        self.binary = binary

    async def grep(
        self, folder: int, target: str, wanted: Grep, *, keep: int, deadline_s: float, after: After | None = None
    ) -> Hits:
        """Search a folder or a file.

        Args:
            folder: Descriptor of the folder to run in.
            target: What to search, relative to it and starting with `./`.
            wanted: What to look for.
            keep: The most matching lines to keep, the first by path and number; all are counted.
            deadline_s: After so long the run is killed and what was found so far returned.
            after: Keep only what comes after this place.

        Raises:
            BadPattern: The pattern or a glob cannot be used.
            RipgrepError: Ripgrep did not run.
        """
        collector = Collector(keep, after)
        arguments = wanted.arguments("--json", f"--context={wanted.context}")
        code, said = await self._run(folder, [*arguments, "--", target], collector.take, deadline_s)
        if code is not None and not collector.summed_up:
            # It stops before its first file when it cannot read the pattern or a glob.
            raise BadPattern(said.strip() or f"ripgrep ended with code {code}")
        hits = collector.hits()
        hits.complete = code is not None
        hits.problems = tuple(said.splitlines()[:10])
        return hits

    async def count(
        self, folder: int, target: str, wanted: Grep, *, deadline_s: float, files_only: bool = False
    ) -> Counts:
        """How often a pattern matches in each file, without its lines; with `files_only` only which files those are.

        Raises:
            BadPattern: The pattern or a glob cannot be used.
            RipgrepError: Ripgrep did not run.
        """
        said_of = bytearray()
        how = ["--files-with-matches"] if files_only else ["--count-matches", "--with-filename"]
        arguments = wanted.arguments("--null", *how)
        code, said = await self._run(folder, [*arguments, "--", target], said_of.extend, deadline_s)
        if code == 2 and not said_of and not _about_a_file(said):
            raise BadPattern(said.strip())
        found = listed(bytes(said_of)) if files_only else counted(bytes(said_of))
        ordered = {path: found[path] for path in sorted(found, key=in_order)}
        return Counts(ordered, code is not None, tuple(said.splitlines()[:10]))

    async def files(
        self,
        folder: int,
        *,
        globs: Sequence[str] = (),
        types: Sequence[str] = (),
        hidden: bool = False,
        ignored: bool = False,
        ignore_files: Sequence[str] = (),
        deadline_s: float,
    ) -> tuple[list[str], bool]:
        """Names of the files beneath `folder`, and whether that is all of them.

        Args:
            folder: Descriptor of the folder.
            globs: Only files that match; `!…` leaves files out.
            types: Only files of these types.
            hidden: Also files whose names start with a dot.
            ignored: Also files that .gitignore names.
            ignore_files: More files of the form of .gitignore, relative to the folder.
            deadline_s: After so long the list ends.

        Raises:
            BadPattern: A glob cannot be used.
            RipgrepError: Ripgrep did not run.
        """
        names = bytearray()
        options = ["--files", "--null", *(f"--ignore-file={name}" for name in ignore_files)]
        options += _selection(globs, types, hidden=hidden, ignored=ignored)
        code, said = await self._run(folder, [*options, "--", "./"], names.extend, deadline_s)
        if code == 2 and not names:
            raise BadPattern(said.strip())
        found = [os.fsdecode(name).removeprefix("./") for name in bytes(names).split(b"\0")[:-1]]
        return found, code is not None

    async def version(self) -> str:
        """The first line of `--version`."""
        said = bytearray()
        code, error = await self._run(None, ["--version"], said.extend, 5.0)
        if code != 0:
            raise RipgrepError(f"{self.binary} --version failed: {error.strip()}")
        return said.decode(errors="replace").splitlines()[0]

    async def _run(
        self, folder: int | None, arguments: Sequence[str], take: Callable[[bytes], None], deadline_s: float
    ) -> tuple[int | None, str]:
        """Exit code (None when the deadline came first) and error output."""
        with span("rg", client=True, tekup_task="list" if "--files" in arguments else "search") as step:
            code, said = await self._ran(folder, arguments, take, deadline_s)
            step.note(tekup_exit=-1 if code is None else code)
            return code, said

    async def _ran(
        self, folder: int | None, arguments: Sequence[str], take: Callable[[bytes], None], deadline_s: float
    ) -> tuple[int | None, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                self.binary,
                *_ALWAYS,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=None if folder is None else f"/proc/self/fd/{folder}",
                env={},
                start_new_session=True,
                limit=_READ_BYTES,
            )
        except ValueError as error:  # a NUL in an argument
            raise BadPattern(f"the pattern cannot be passed on: {error}") from error
        except OSError as error:
            raise RipgrepError(f"{self.binary} cannot be run: {error.strerror}") from error
        said = bytearray()
        try:
            async with asyncio.timeout(deadline_s), asyncio.TaskGroup() as readers:
                readers.create_task(_read_errors(process, said))
                async for chunk in _chunks(process.stdout):
                    take(chunk)
            return await process.wait(), said.decode(errors="replace")
        except TimeoutError:
            return None, said.decode(errors="replace")
        finally:
            await _end(process)


async def _chunks(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    while stream is not None and (chunk := await stream.read(_READ_BYTES)):
        yield chunk


async def _read_errors(process: asyncio.subprocess.Process, said: bytearray) -> None:
    async for chunk in _chunks(process.stderr):
        said.extend(chunk[: max(0, _ERROR_BYTES - len(said))])


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        async for _ in _chunks(stream):  # wait() does not return before both pipes are read to their end
            pass
    await process.wait()


def _about_a_file(said: str) -> bool:
    """Whether an error is about a file it could not read, not about what it was asked."""
    return said.startswith("rg: ./") or "(os error" in said
