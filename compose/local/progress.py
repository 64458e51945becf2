"""Says what is being waited for: a live line per task on a terminal, plain lines now and then in a pipe.

Every wait that may last more than two seconds goes through here.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from .errors import WaitedTooLong

FIRST_LINE_S = 2.0
LINE_EVERY_S = 5.0
POLL_S = 0.25

T = TypeVar("T")


class Reporter(Protocol):
    """What a slow piece of work tells about itself."""

    def update(self, task: str, doing: str, done: int = 0, total: int = 0) -> None:
        """Say what `task` is doing now; `total` 0 means its length is not known."""

    def finish(self, task: str, result: str) -> None:
        """Say that `task` has ended, and how."""

    def over(self, task: str) -> None:
        """The task has ended, and there is nothing to say about it."""

    def note(self, text: str) -> None:
        """Say something that belongs to no task."""


class Silent:
    """A reporter for callers that want only the result (`--json`)."""

    def update(self, task: str, doing: str, done: int = 0, total: int = 0) -> None:
        """Say nothing."""

    def finish(self, task: str, result: str) -> None:
        """Say nothing."""

    def over(self, task: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


@dataclass
class _Line:
    started: float
    said: float
    doing: str = ""


@dataclass
class PlainLines:
    """Lines for pipes and logs: the first after two seconds, then one each few seconds per task."""

    lines: dict[str, _Line] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic

    def update(self, task: str, doing: str, done: int = 0, total: int = 0) -> None:
        """Print a line if this task has been silent long enough."""
        now = self.clock()
        line = self.lines.setdefault(task, _Line(now, now - LINE_EVERY_S + FIRST_LINE_S))
        line.doing = doing
        if now - line.said >= LINE_EVERY_S:
            line.said = now
            share = f" ({done} of {total})" if total else ""
            self._say(f"{task}: {doing}{share}, {now - line.started:.0f} s")

    def finish(self, task: str, result: str) -> None:
        """Print how the task ended."""
        line = self.lines.pop(task, None)
        took = f" ({self.clock() - line.started:.0f} s)" if line and line.doing else ""
        self._say(f"{task}: {result}{took}")

    def over(self, task: str) -> None:
        """Forget the task."""
        self.lines.pop(task, None)

    def note(self, text: str) -> None:
        """Print a line."""
        self._say(text)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@dataclass
class LiveBars:
    """A line with a bar per task, on a terminal."""

    progress: Progress
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def update(self, task: str, doing: str, done: int = 0, total: int = 0) -> None:
        """Change the task's line."""
        if task not in self.tasks:
            self.tasks[task] = self.progress.add_task(task, total=None, doing="")
        self.progress.update(self.tasks[task], doing=doing[:40], completed=done, total=total or None)

    def finish(self, task: str, result: str) -> None:
        """Replace the task's line by its result."""
        self.over(task)
        self.note(f"{task}: {result}")

    def over(self, task: str) -> None:
        """Remove the task's line."""
        if task in self.tasks:
            self.progress.remove_task(self.tasks.pop(task))

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def reporter(*, quiet: bool = False) -> Iterator[Reporter]:
    """The right reporter for where standard error goes.

    Args:
        quiet: say nothing at all.
    """
    if quiet:
        yield Silent()
    elif not sys.stderr.isatty():
        yield PlainLines()
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[doing]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield LiveBars(progress)


def wait_for(look: Callable[[], T | None], what: str, timeout_s: float, report: Reporter, task: str) -> T:
    """Look again and again until something is there.

    Args:
        look: returns it, or None if it is not there yet.
        what: words for it.
        timeout_s: the most to wait.
        report: told while waiting.
        task: name under which it is told.

    Raises:
        WaitedTooLong: it did not come.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found is not None:
            report.over(task)
            return found
        if time.monotonic() >= deadline:
            raise WaitedTooLong(f"waited {timeout_s:.0f} s in vain for {what}")
        report.update(task, f"waiting for {what}")
        time.sleep(POLL_S)
