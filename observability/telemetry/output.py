"""Where log lines go: a file descriptor that may be full, slow or gone, and may hold up nobody for it.

A file (of the supervisor, of a container engine) is written to at once. A pipe, a socket or a terminal is asked first
whether it takes more. What does not go out waits in a bounded store, the newest is dropped when that is full, and how
much was dropped is said (`log.lost`) as soon as lines go out again. A torn line is finished before the next begins.
"""

import contextlib
import logging
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from observability.telemetry.lines import JsonLines

__all__ = ["LineHandler", "Output"]

MOST_WAITING_BYTES: Final = 1 << 20
PIPE_BYTES: Final = 4096
"""A pipe that takes anything takes so much without blocking (PIPE_BUF of Linux)."""
AGAIN_S: Final = 0.5
LAST_S: Final = 0.5


class Output:
    """Writes lines to a descriptor and never blocks on it, nor raises.

    Args:
        descriptor: Where to.
        said: Makes the line that tells how many were lost.
        most_waiting_bytes: How much is kept for a descriptor that takes nothing.
    """

    def __init__(
        self, descriptor: int, said: Callable[[int], str], most_waiting_bytes: int = MOST_WAITING_BYTES
    ) -> None:
        self._descriptor = descriptor
        self._said = said
        self._most = most_waiting_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._lock = threading.Lock()
        self._helper: threading.Thread | None = None
        self._closed = threading.Event()
        self._is_file = self._regular()
        os.register_at_fork(after_in_child=self._forked)

    @property
    def lost(self) -> int:
        """Lines dropped and not told of yet."""
        return self._lost

    def write(self, line: str) -> None:
        """Write a line, now or as soon as it can be, or drop it."""
        data = f"{line}\n".encode("utf-8", "replace")
        with self._lock:
            if self._waiting and not self._pour():
                self._keep(data)
            else:
                self._begin(data)

    def close(self) -> None:
        """Write what waits, for half a second at most."""
        self._closed.set()
        with self._lock:
            if self._waiting and not self._is_file:
                self._wait(LAST_S)
            self._pour()

    def _begin(self, data: bytes) -> None:
        rest = self._push(data)
        if rest is None:
            self._keep(data)
        elif rest:
            self._waiting.append(rest)
            self._waiting_bytes += len(rest)
            self._get_help()

    def _keep(self, data: bytes) -> None:
        if self._waiting_bytes + len(data) > self._most:
            self._lost += 1
        else:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
        self._get_help()

    def _pour(self) -> bool:
        """Write what waits; whether all of it went out."""
        while self._waiting:
            rest = self._push(self._waiting[0])
            if rest is None:
                return False
            self._waiting_bytes -= len(self._waiting[0]) - len(rest)
            if rest:
                self._waiting[0] = rest
            else:
                self._waiting.popleft()
        if self._lost:
            lost, self._lost = self._lost, 0
            self._begin(f"{self._said(lost)}\n".encode())
        return not self._waiting

    def _push(self, data: bytes) -> bytes | None:
        """Write as much as goes now: what is left, or None where nothing went."""
        if self._is_file:
            written = self._write(data)
            return None if written is None else data[written:]
        begun = False
        while data and self._takes(0):
            written = self._write(data[:PIPE_BYTES])
            if written is None:
                break
            begun, data = True, data[written:]
        return data if begun or not data else None

    def _write(self, data: bytes) -> int | None:
        try:
            return os.write(self._descriptor, data)
        except OSError:  # full, closed, gone: nobody to tell
            return None

    def _takes(self, within_s: float) -> bool:
        try:
            asked = select.poll()
            asked.register(self._descriptor, select.POLLOUT)
            events = asked.poll(within_s * 1000)
        except (OSError, ValueError):
            return False
        return bool(events) and bool(events[0][1] & select.POLLOUT) and not events[0][1] & select.POLLERR

    def _wait(self, within_s: float) -> None:
        self._takes(within_s)

    def _regular(self) -> bool:
        with contextlib.suppress(OSError):
            return stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        return False

    def _get_help(self) -> None:
        """Have somebody try again, though no further line may come."""
        if self._helper is None and not self._closed.is_set():
            self._helper = threading.Thread(target=self._help, name="log-output", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is ending
                self._helper.start()

    def _help(self) -> None:
        while not self._closed.wait(AGAIN_S):
            with self._lock:
                if self._pour():
                    self._helper = None
                    return

    def _forked(self) -> None:
        """A child has the descriptor, and neither the helper nor the lines: the parent writes those."""
        self._lock, self._helper = threading.Lock(), None
        self._waiting.clear()
        self._waiting_bytes = self._lost = 0


class LineHandler(logging.Handler):
    """Hands each record, formatted, to an output.

    Args:
        output: Where lines go.
        lines: Makes them; None where another formatter does, and every line has a record.
    """

    def __init__(self, output: Output, lines: JsonLines | None = None) -> None:
        super().__init__()
        self.setFormatter(lines)
        self._output = output
        self._lines = lines

    def handle(self, record: logging.LogRecord) -> bool:
        """Write one record that the filters let through; without the handler's lock, as the output has its own."""
        if self.filters and not self.filter(record):
            return False
        self.emit(record)
        return True

    def say(self, whose: str, level: str, event: str, fields: Mapping[str, object]) -> bool:
        """Write a line that nobody made a record of, where no filter wants one.

        Args:
            whose: The logger's name.
            level: Its level's name.
            event: What happened.
            fields: What is said of it.

        Returns:
            Whether that was so, and worked.
        """
        if self._lines is None or self.filters:
            return False
        with contextlib.suppress(Exception):  # a log line is never worth a call
            self._output.write(self._lines.line(time.time(), level, event, whose, fields))
            return True
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; whatever goes wrong stays here."""
        with contextlib.suppress(Exception):  # a log line is never worth a call
            self._output.write(self.format(record))

    def close(self) -> None:
        """Write what waits."""
        self._output.close()
        super().close()
