"""A child: somebody else's server as a process, and the two pipes it talks by.

`launch.py` stands above it and leaves nothing of it behind. What it writes is bounded in every way: a message's length,
what is no message, messages nobody asked for. A child beyond its bounds is ended with the reason.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, jsonrpc_message_adapter

from services.bridge.declaration import Declaration
from services.bridge.wire import Wire

__all__ = ["Child", "Link", "Place", "Usage", "child_environment", "running"]

logger = logging.getLogger(__name__)

LAUNCH: Final = Path(__file__).with_name("launch.py")
INHERITED: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
MARKS: Final = ("TEKUP_ENVIRONMENT", "TEKUP_PROCESS")
"""No secrets: whose a process is, by which a supervisor finds what somebody's end left behind."""
PROXIED: Final = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
UNPROXIED: Final = {"NO_PROXY": "localhost,127.0.0.1", "no_proxy": "localhost,127.0.0.1", "NODE_USE_ENV_PROXY": "1"}
GRACE_S: Final = 2.0
KILLED_WITHIN_S: Final = 10.0
TOLD_WITHIN_S: Final = 1.0
CHUNK_BYTES: Final = 1 << 16
MAX_NOISE_LINES: Final = 1_000
MAX_NOISE_BYTES: Final = 1 << 20
MAX_UNASKED: Final = 5_000
UNASKED_WITHIN_S: Final = 5.0
LAST_LINES: Final = 5
LINE_CHARS: Final = 300
LOGGED_A_SECOND: Final = 20


@dataclass(frozen=True)
class Place:
    """What the place where a bridge runs has for its server.

    Attributes:
        user: Whom a child becomes where none is declared; "" for the bridge's own.
        proxy: A proxy's URL, the one way out; "" where there is none, or none is needed.
    """

    user: str = ""
    proxy: str = ""


@dataclass(frozen=True)
class Usage:
    """What a child and all it started used a moment ago."""

    processes: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Link:
    """A connection to a server, as the SDK's dispatcher takes it.

    Attributes:
        read: What it sends.
        write: What it is sent.
        ended: Set once it is over from the other side.
        why: Why, as a sentence about the server.
        usage: What it uses.
        wire: Requests past the dispatcher, where there are any.
    """

    read: MemoryObjectReceiveStream[SessionMessage | Exception]
    write: MemoryObjectSendStream[SessionMessage]
    ended: asyncio.Event
    why: Callable[[], str]
    usage: Callable[[], Usage]
    wire: Wire | None = None


def child_environment(
    declaration: Declaration, environ: Mapping[str, str] = os.environ, proxy: str = ""
) -> dict[str, str]:
    """All a child gets of variables.

    Args:
        declaration: The server's.
        environ: What it inherits a few of.
        proxy: Its way out, in the names that most programs look for.

    Raises:
        BadDeclaration: A file of its secrets cannot be read.
    """
    inherited = {name: environ[name] for name in (*INHERITED, *MARKS) if name in environ}
    ways = dict.fromkeys(PROXIED, proxy) | UNPROXIED if proxy else {}
    return inherited | ways | declaration.environment()


@dataclass
class Child:
    """A running child."""

    process: asyncio.subprocess.Process
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    usage: Usage = Usage()
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    problem: str = ""
    code: int | None = None

    def why(self) -> str:
        """Why it has ended, with what it said last."""
        code = self.code
        ended = "it ended" if code is None else f"it ended with {_said(code)}"
        said = f"; it last said: {self.last_lines[-1]}" if self.last_lines else ""
        return f"{self.problem or ended}{said}"


def _said(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


@asynccontextmanager
async def running(declaration: Declaration, place: Place = Place()) -> AsyncIterator[Link]:
    """Runs a declaration's command inside the block; after it nothing of it is left.

    Args:
        declaration: What to run.
        place: Where.

    Raises:
        BadDeclaration: Its secrets cannot be read.
        OSError: No process can be started at all.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await _spawn(declaration, theirs, place)
        except BaseException:
            ours.close()
            raise
    assert process.stdin is not None  # noqa: S101  # it was asked for
    child, wire = Child(process), Wire(process.stdin)
    reader, control = await asyncio.open_unix_connection(sock=ours)
    to_us, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, from_us = anyio.create_memory_object_stream[SessionMessage](0)
    work = [
        asyncio.create_task(_told(child, reader)),
        asyncio.create_task(_logged(child, declaration.name)),
        asyncio.create_task(_Reader(child, to_us, wire, declaration.message_mb << 20).run()),
        asyncio.create_task(_written(child, from_us)),
    ]
    try:
        yield Link(read, write, child.ended, child.why, lambda: child.usage, wire)
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(child, control)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            for stream in (to_us, read, write, from_us):
                stream.close()


async def _spawn(declaration: Declaration, control: socket.socket, place: Place) -> asyncio.subprocess.Process:
    limits = declaration.limits
    config = {
        "argv": declaration.command,
        "cwd": declaration.cwd,
        "user": declaration.user or place.user,
        "limits": {
            "memory_bytes": limits.memory_mb << 20,
            "processes": limits.processes,
            # The place's user may have processes in other places too, which the kernel would count as well.
            "user_processes": limits.processes if declaration.user else 0,
            "cpus": limits.cpus,
            "cpu_s": limits.cpu_s,
            "open_files": limits.open_files,
            "file_bytes": limits.file_mb << 20,
        },
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-B", str(LAUNCH), str(control.fileno()), json.dumps(config)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(declaration, proxy=place.proxy),
        pass_fds=(control.fileno(),),
        start_new_session=True,
    )


async def _told(child: Child, reader: asyncio.StreamReader) -> None:
    """What the launcher tells, until it is gone."""
    while line := await reader.readline():
        said: dict[str, Any] = json.loads(line)
        if said["event"] == "usage":
            child.usage = Usage(int(said["processes"]), int(said["memory_bytes"]))
        elif said["event"] == "ended":
            _note_end(child, int(said["code"]), str(said["why"]))
    child.usage = Usage()
    child.over.set()
    child.ended.set()


def _note_end(child: Child, code: int, why: str) -> None:
    child.code = code
    if not child.problem and why not in ("", "told"):
        child.problem = f"it could not be started: {why}" if code == 127 else why


async def _logged(child: Child, name: str) -> None:
    """What it writes to standard error, a bounded part of it."""
    stream, rest, second, logged, left_out = child.process.stderr, b"", 0.0, 0, 0
    while stream is not None and (chunk := await stream.read(CHUNK_BYTES)):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-LINE_CHARS:]
        for line in lines:
            text = line[:LINE_CHARS].decode(errors="replace").strip()
            if not text:
                continue
            child.last_lines.append(text)
            if time.monotonic() - second >= 1:
                if left_out:
                    logger.warning("child.said_more", extra={"server": name, "lines": left_out})
                second, logged, left_out = time.monotonic(), 0, 0
            logged += 1
            if logged <= LOGGED_A_SECOND:
                logger.info("child.said", extra={"server": name, "line": text})
            else:
                left_out += 1


async def _written(child: Child, messages: MemoryObjectReceiveStream[SessionMessage]) -> None:
    pipe = child.process.stdin
    with suppress(OSError):  # it has ended, or closed its input; its end is told elsewhere
        async for message in messages:
            assert pipe is not None  # noqa: S101  # it was asked for
            pipe.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await pipe.drain()
    messages.close()  # whoever sends more is told


class _Reader:
    """Takes messages out of what a child writes.

    Args:
        child: The child.
        messages: Where they go.
        wire: Takes its own first.
        most_bytes: The longest.
    """

    def __init__(
        self, child: Child, messages: MemoryObjectSendStream[SessionMessage | Exception], wire: Wire, most_bytes: int
    ) -> None:
        self._child = child
        self._messages = messages
        self._wire = wire
        self._most_bytes = most_bytes
        self._noise = (0, 0)
        self._unasked: deque[float] = deque(maxlen=MAX_UNASKED)

    async def run(self) -> None:
        """Until the child closes its output or writes what it may not."""
        stream, parts, held = self._child.process.stdout, list[bytes](), 0
        assert stream is not None  # noqa: S101  # it was asked for
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while (chunk := await stream.read(CHUNK_BYTES)) and not self._child.problem:
                *ended, rest = chunk.split(b"\n")
                for line in ended:
                    await self._line(b"".join([*parts, line]))
                    parts, held = [], 0
                parts.append(rest)
                held += len(rest)
                if held > self._most_bytes:
                    self._child.problem = f"it wrote more than {self._most_bytes} bytes without an end of line"
        self._messages.close()
        self._wire.end()
        if not self._child.problem and not await _within(self._child.over.wait(), TOLD_WITHIN_S):
            self._child.problem = "it closed its output"
        self._child.ended.set()

    async def _line(self, line: bytes) -> None:
        if not line.strip() or self._child.problem:
            return
        if self._wire.take(line):
            self._noise = (0, 0)
            return
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except (ValueError, RecursionError):
            self._note_noise(line)
            return
        self._noise = (0, 0)
        if isinstance(message, JSONRPCNotification | JSONRPCRequest):
            self._note_unasked()
        await self._messages.send(SessionMessage(message))

    def _note_noise(self, line: bytes) -> None:
        """Servers print a banner now and then; one that prints nothing else is none."""
        lines, size = self._noise[0] + 1, self._noise[1] + len(line)
        self._noise = (lines, size)
        if lines == 1:
            logger.warning("child.noise", extra={"line": line[:LINE_CHARS].decode(errors="replace")})
        if lines > MAX_NOISE_LINES or size > MAX_NOISE_BYTES:
            self._child.problem = f"it wrote {lines} lines in a row to its output that are no messages"

    def _note_unasked(self) -> None:
        now = time.monotonic()
        if len(self._unasked) == MAX_UNASKED and now - self._unasked[0] < UNASKED_WITHIN_S:
            self._child.problem = f"it sent {MAX_UNASKED} messages unasked within {UNASKED_WITHIN_S:g} s"
        self._unasked.append(now)


async def _stop(child: Child, control: asyncio.StreamWriter) -> None:
    """Its input ends, then TERM to its group, then KILL to all it ever started."""
    process = child.process
    if process.stdin is not None:
        process.stdin.close()
    if child.problem or not await _over(process, GRACE_S):
        with suppress(ProcessLookupError):
            process.terminate()
        if child.problem or not await _over(process, GRACE_S):
            control.close()
            if not await _over(process, KILLED_WITHIN_S):
                logger.error("child.stays", extra={"pid": process.pid})
                with suppress(ProcessLookupError):
                    process.kill()
    control.close()
    # Its pipes may be open still, in somebody's hands that nobody could kill.
    process._transport.close()  # type: ignore[attr-defined]


async def _within(wait: Awaitable[object], within_s: float) -> bool:
    """Whether something happens in time."""
    try:
        async with asyncio.timeout(within_s):
            await wait
    except TimeoutError:
        return False
    return True


async def _over(process: asyncio.subprocess.Process, within_s: float) -> bool:
    """Whether it ends in time; asked of the process alone, for `wait` also waits for its pipes."""
    deadline = time.monotonic() + within_s
    while process.returncode is None and time.monotonic() < deadline:  # noqa: ASYNC110 (see above)
        await asyncio.sleep(0.01)
    return process.returncode is not None
