"""Log lines from the files the supervisor keeps, also those it has cut off (`<process>.log.1` and so on).

Memory is bounded: of any number of lines that fit, the newest are held, no more than were asked for.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from control_plane.cli.observe.lines import Line, Wanted, line_of

__all__ = ["Found", "Newest", "follow_files", "read_files"]

LONGEST_LINE = 256 * 1024
LOOK_EVERY_S = 0.2
_NAME = re.compile(r"(?P<process>.+?)\.log(?:\.(?P<part>\d+))?")


@dataclass(frozen=True)
class Found:
    """Lines in the order of their times.

    Args:
        lines: The newest of those that fit.
        more: Whether there are others before them.
        source: Where they are from, for people.
    """

    lines: tuple[Line, ...]
    more: bool
    source: str


@dataclass
class Newest:
    """The newest of all lines that are put in.

    Args:
        most: How many it holds.
    """

    most: int
    more: bool = False
    _held: list[tuple[float, int, Line]] = field(default_factory=list)
    _count: int = 0

    def put(self, line: Line) -> None:
        """Keep a line, at the price of the oldest."""
        self._count += 1
        entry = (line.at, self._count, line)  # of one moment, the order they came in
        if len(self._held) < self.most:
            heapq.heappush(self._held, entry)
        else:
            self.more = True
            heapq.heappushpop(self._held, entry)

    def lines(self) -> tuple[Line, ...]:
        """Those held, in order."""
        return tuple(line for _, _, line in sorted(self._held, key=lambda entry: entry[:2]))


def read_files(folder: Path, wanted: Wanted, most: int) -> Found:
    """The newest lines that fit, of all logs in a folder."""
    newest = Newest(most)
    for path, process in log_files(folder, wanted.process):
        with path.open("rb") as file:
            for line in _parsed(_texts(file), process, wanted, path.stat().st_mtime):
                newest.put(line)
    return Found(newest.lines(), newest.more, str(folder))


def log_files(folder: Path, process: str = "") -> list[tuple[Path, str]]:
    """All parts of the logs there, each with its process; of one process the oldest first."""
    found = []
    for path in folder.glob("*.log*"):
        name = _NAME.fullmatch(path.name)
        if name and (not process or name["process"] == process):
            found.append((name["process"], -int(name["part"] or 0), path))
    return [(path, process) for process, _, path in sorted(found)]


def follow_files(folder: Path, wanted: Wanted) -> Iterator[tuple[Line, ...]]:
    """Nothing first, then what is written from then on, as it comes; ends only when its caller does."""
    places = {path: path.stat().st_size for path, _ in log_files(folder, wanted.process)}
    yield ()
    while True:
        came: list[Line] = []
        for path, process in log_files(folder, wanted.process):
            if path.suffix == ".log":
                came += _since(path, process, wanted, places)
        if came:
            yield tuple(sorted(came, key=lambda line: line.at))
        else:
            time.sleep(LOOK_EVERY_S)


def _since(path: Path, process: str, wanted: Wanted, places: dict[Path, int]) -> list[Line]:
    with path.open("rb") as file:
        size = path.stat().st_size
        start = places.get(path, 0)
        file.seek(start if start <= size else 0)  # it was cut
        data = file.read()
    whole = data.rfind(b"\n") + 1
    places[path] = (start if start <= size else 0) + whole
    return list(_parsed(iter(data[:whole].splitlines()), process, wanted, time.time()))


def _texts(file: object) -> Iterator[bytes]:
    while text := file.readline(LONGEST_LINE):  # type: ignore[attr-defined]
        yield text


def _parsed(texts: Iterator[bytes], process: str, wanted: Wanted, otherwise: float) -> Iterator[Line]:
    """The lines that fit; `otherwise` is when they were written where not even the first says so."""
    before = otherwise
    for data in texts:
        text = data.decode("utf-8", "replace").rstrip("\r\n")
        if text and wanted.might_fit(text):
            line = line_of(text, process, before)
            before = line.at
            if wanted.fits(line):
                yield line
