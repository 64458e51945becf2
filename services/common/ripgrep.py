"""Running ripgrep, and reading what it says.

Invariants: a caller's pattern is never an option and never makes ripgrep wait; the process runs in a folder given by
its descriptor, in its own process group, and is gone when the call is, whatever ended it; what it found is told apart
from what it could not look at.
"""

import asyncio
import base64
import json
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

__all__ = ["BadPattern", "Case", "Grep", "Hit", "Hits", "RgBinary", "Ripgrep", "RipgrepError"]

Case = Literal["smart", "sensitive", "insensitive"]

_READ_BYTES = 256 << 10
_EVENT_BYTES = 8 << 20
_HEAD_BYTES = 32
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
    """

    patterns: tuple[str, ...]
    literal: bool = False
    case: Case = "smart"
    globs: tuple[str, ...] = ()
    context: int = 0
    hidden: bool = False
    ignored: bool = False

    def arguments(self) -> list[str]:
        """As ripgrep takes them; every value is bound to its option."""
        case = {"smart": "--smart-case", "sensitive": "--case-sensitive", "insensitive": "--ignore-case"}[self.case]
        options = ["--json", "--sort=path", case, f"--context={self.context}"]
        options += ["--fixed-strings"] if self.literal else []
        for pattern in self.patterns:
            options += ["-e", pattern]
        return options + _selection(self.globs, hidden=self.hidden, ignored=self.ignored)


@dataclass(frozen=True)
class Hit:
    """A line ripgrep showed.

    Args:
        path: The file, relative to the folder searched.
        number: The line, from 1.
        text: The line's bytes, its end included.
        offset: Where it starts in the file.
        start: Where the first match starts in the line; None for a line of context.
    """

    path: str
    number: int
    text: bytes
    offset: int
    start: int | None


@dataclass
class Hits:
    """What one run found.

    Args:
        lines: The lines kept, in ripgrep's order.
        matched: Lines that match, the ones not kept included.
        files: Files with a match.
        complete: False when the deadline came first.
        problems: What could not be looked at, in ripgrep's words.
    """

    lines: list[Hit]
    matched: int = 0
    files: int = 0
    complete: bool = True
    problems: tuple[str, ...] = ()


def _selection(globs: Sequence[str], *, hidden: bool, ignored: bool) -> list[str]:
    options = [f"--glob={glob}" for glob in globs]
    options += ["--hidden", "--glob=!.git"] if hidden else []
    return options + (["--no-ignore"] if ignored else [])


class Ripgrep:
    """The program.

    Args:
        binary: Where it is.
    """

    def __init__(self, binary: str) -> None:
        self.binary = binary

    async def grep(self, folder: int, target: str, wanted: Grep, *, keep: int, deadline_s: float) -> Hits:
        """Search a folder or a file.

        Args:
            folder: Descriptor of the folder to run in.
            target: What to search, relative to it and starting with `./`.
            wanted: What to look for.
            keep: The most matching lines to keep; all are counted.
            deadline_s: After so long the run is killed and what was found so far returned.

        Raises:
            BadPattern: The pattern or a glob cannot be used.
            RipgrepError: Ripgrep did not run.
        """
        hits = Hits([])
        collector = _Collector(hits, keep)
        code, said = await self._run(folder, [*wanted.arguments(), "--", target], collector.take, deadline_s)
        hits.complete = code is not None
        hits.problems = tuple(said.splitlines()[:10])
        if code is not None and not collector.summed_up:
            # It stops before its first file when it cannot read the pattern or a glob.
            raise BadPattern(said.strip() or f"ripgrep ended with code {code}")
        return hits

    async def files(
        self, folder: int, *, globs: Sequence[str] = (), hidden: bool = False, ignored: bool = False, deadline_s: float
    ) -> tuple[list[str], bool]:
        """Names of the files beneath `folder`, and whether that is all of them.

        Raises:
            BadPattern: A glob cannot be used.
            RipgrepError: Ripgrep did not run.
        """
        names = bytearray()
        options = ["--files", "--null", *_selection(globs, hidden=hidden, ignored=ignored)]
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


class _Collector:
    """Takes ripgrep's JSON lines as they come; keeps the first matches and counts the rest."""

    def __init__(self, hits: Hits, keep: int) -> None:
        self.summed_up = False
        self._hits = hits
        self._keep = keep
        self._rest = bytearray()
        self._too_long = False

    def take(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._grow(first)
        if not others:
            return
        self._event(b"" if self._too_long else bytes(self._rest), bytes(self._rest[:_HEAD_BYTES]))
        for event in others[:-1]:
            self._event(event, event[:_HEAD_BYTES])
        self._rest, self._too_long = bytearray(others[-1]), False

    def _grow(self, more: bytes) -> None:
        if not self._too_long:
            self._rest += more
        if len(self._rest) > _EVENT_BYTES:
            # A line too long to be shown: only what it is gets remembered.
            del self._rest[_HEAD_BYTES:]
            self._too_long = True

    def _event(self, event: bytes, head: bytes) -> None:
        if head.startswith(b'{"type":"match"'):
            self._hits.matched += 1
            if self._hits.matched <= self._keep and event:
                self._hits.lines.append(_hit(event))
        elif head.startswith(b'{"type":"context"') and self._hits.matched <= self._keep and event:
            self._hits.lines.append(_hit(event))
        elif head.startswith(b'{"type":"end"'):
            self._hits.files += 1
        elif b'"type":"summary"' in event:
            self.summed_up = True


def _hit(event: bytes) -> Hit:
    data = json.loads(event)["data"]
    found = data["submatches"]
    return Hit(
        path=os.fsdecode(_bytes(data["path"])).removeprefix("./"),
        number=data["line_number"],
        text=_bytes(data["lines"]),
        offset=data["absolute_offset"],
        start=found[0]["start"] if found else None,
    )


def _bytes(value: dict[str, str]) -> bytes:
    """Ripgrep's way to put any bytes into JSON."""
    return value["text"].encode() if "text" in value else base64.b64decode(value["bytes"])
