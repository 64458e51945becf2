"""How much each process logs, changed while it runs: one file a process, which the process itself looks at.

The file's form is the platform's (docs/contracts.md, "Log levels"); no file means what `MCP_LOG_LEVEL` says.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import BadInput, NotRunning, StepFailed, WaitedTooLong
from .files import write_atomically
from .layout import Layout
from .link import Link
from .scale import instances, read_scale
from .table import read_table

LEVEL_FILE = "MCP_LOG_LEVEL_FILE"
DEFAULT = "default"
ALL = "all"
LEVELS = ("debug", "info", "warning", "error")
TAKEN_UP_S = 20.0
LOOK_EVERY_S = 0.05
_NAMED = re.compile(rf"(?:[A-Za-z_][\w.]*=)?(?:{'|'.join(LEVELS)})")


@dataclass(frozen=True)
class Leveled:
    """What a process logs.

    Args:
        process: Which.
        level: As its file says, on one line; "" where there is no file.
        running: Whether it runs now.
    """

    process: str
    level: str
    running: bool


def shown_levels(layout: Layout, name: str = "") -> list[Leveled]:
    """What processes log that can be told.

    Args:
        layout: The environment.
        name: A process or a group of them, such as a service; all where it is "".

    Raises:
        BadInput: there is none of this name that can be told.
    """
    running = _running(layout)
    return [Leveled(process, said(path), process in running) for process, path in _files(layout, name).items()]


def said(path: Path) -> str:
    """What a level file says, on one line."""
    try:
        return _one_line(path.read_text(encoding="utf-8"))
    except OSError:
        return ""


def _one_line(text: str) -> str:
    return ", ".join(text.split("\n")).strip(", ")


def set_levels(layout: Layout, name: str, words: Iterable[str]) -> list[Leveled]:
    """Have processes log more or less, and wait until those that run have taken it up.

    Args:
        layout: The environment.
        name: A process or a group of them.
        words: A level, `<logger or beginning of events>=<level>`, several of these, or `default` alone.

    Raises:
        BadInput: there is no such process, or no such level.
        StepFailed: a process refuses the file.
        WaitedTooLong: a process did not say that it has taken it up.
    """
    text, files, running = _text(tuple(words)), _files(layout, name), _running(layout)
    changed = {process: path for process, path in files.items() if said(path) != _one_line(text)}
    places = {process: _size(layout.log(process)) for process in changed if process in running}
    for path in changed.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            write_atomically(path, text)
        else:
            path.unlink(missing_ok=True)
    _wait(layout, places)
    return shown_levels(layout, name)


def _text(words: tuple[str, ...]) -> str:
    if words == (DEFAULT,):
        return ""
    wrong = [word for word in words if not _NAMED.fullmatch(word)]
    if wrong or not words:
        raise BadInput(
            f"{' '.join(wrong) or 'nothing'!r} is no level; it takes {', '.join(LEVELS)}, NAME=LEVEL for a logger or"
            f" the beginning of events (services.hub=debug), or {DEFAULT} for what MCP_LOG_LEVEL says"
        )
    return "".join(f"{word}\n" for word in words)


def _files(layout: Layout, name: str) -> Mapping[str, Path]:
    if not layout.table.exists():
        raise NotRunning(f"there is no environment in {layout.directory}; make one with `tekup up`")
    table = read_table(layout.table)
    groups = {process.name: process.group for process in table.processes if LEVEL_FILE in process.env}
    services = {service.name for service in table.services if LEVEL_FILE in service.pattern.env}
    wanted = instances(table, read_scale(layout.scale, table))
    groups |= {one.name: one.process.group for one in wanted if one.process.group in services}
    found = {process: layout.levels / process for process, group in groups.items() if name in ("", ALL, process, group)}
    if not found:
        known = ", ".join(sorted({*groups, *groups.values()}))
        raise BadInput(f"there is no process or group {name!r} whose level can be set; there are: {known}")
    return dict(sorted(found.items()))


def _running(layout: Layout) -> set[str]:
    status = Link(layout).status_if_running()
    return {process.name for process in status.processes if process.pid} if status else set()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wait(layout: Layout, places: Mapping[str, int]) -> None:
    missing, deadline = dict(places), time.monotonic() + TAKEN_UP_S
    while missing:
        for process, place in list(missing.items()):
            for line in _since(layout.log(process), place):
                if line.get("event") == "log.level_refused":
                    raise StepFailed(f"{process} refuses the level: {line.get('reason')}; {line.get('stays')} stays")
                if line.get("event") == "log.level":
                    missing.pop(process, None)
        if missing and time.monotonic() > deadline:
            raise WaitedTooLong(
                f"{', '.join(missing)} did not say within {TAKEN_UP_S:g} s that the level has been taken up;"
                " the file is written: see `tekup status`"
            )
        if missing:
            time.sleep(LOOK_EVERY_S)


def _since(path: Path, place: int) -> Iterator[dict[str, object]]:
    try:
        with path.open("rb") as file:
            file.seek(place if place <= _size(path) else 0)  # it was cut meanwhile
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        if b'"log.level' in line:
            try:
                parsed = json.loads(line)
            except ValueError:
                continue
            if isinstance(parsed, dict):
                yield parsed
