"""Reads the processes' log files: `tekup logs [-f] NAME`."""

import time
from collections.abc import Iterator
from pathlib import Path

from .errors import BadInput
from .layout import Layout

LOOK_EVERY_S = 0.2
LAST_LINES = 5


def log_file(layout: Layout, name: str) -> Path:
    """The log of a process.

    Raises:
        BadInput: there is none of this name; the message lists those there are.
    """
    known = sorted(file.stem for file in layout.logs.glob("*.log"))
    if name not in known:
        there = f"there are: {', '.join(known)}" if known else "nothing has run here yet"
        raise BadInput(f"there is no log of {name!r}; {there}")
    return layout.log(name)


def tail(path: Path, lines: int) -> str:
    """The last lines of a log."""
    return _last(path.read_text(encoding="utf-8", errors="replace"), lines)


def follow(path: Path, lines: int) -> Iterator[str]:
    """The last lines, then what is written from now on; ends only when its caller does."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield _last(file.read(), lines)
        while True:
            text = file.read()
            if text:
                yield text
            elif path.stat().st_size < file.tell():
                file.seek(0)  # it was cut
            else:
                time.sleep(LOOK_EVERY_S)


def _last(text: str, lines: int) -> str:
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""


def last_lines(layout: Layout, name: str, count: int = LAST_LINES) -> str:
    """The end of a process's log as an indented block, and where to see more."""
    try:
        text = layout.log(name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"    (no log; it would be {layout.log(name)})"
    lines = text.splitlines()[-count:] or ["(empty)"]
    return "\n".join([*(f"    {line[:300]}" for line in lines), f"    more: tekup logs {name}"])
