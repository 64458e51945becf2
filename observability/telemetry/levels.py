"""How much is logged: by one setting, and by a file that changes it while the process runs.

The file holds one word (`debug`, `info`, `warning`, `error`), or lines `<name>=<level>`, where a name is a logger
(`services.hub`, `httpx`) or the beginning of events (`call`, `rollout`), or both; `#` begins a comment. What no line
names stays as set. A file that says something else is refused, once and in words, and what was in force stays; without
a file, or with an empty one, the setting is in force.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from observability.telemetry.lines import OWN

__all__ = ["LEVELS", "LevelFile", "Levels", "parse_levels"]

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
LOOK_EVERY_S: Final = 0.5
LARGEST_BYTES: Final = 16 * 1024
_WITH_CONTENTS: Final = ("mcp", "sse_starlette", "hpack", "watchfiles")
"""Loggers whose `debug` holds whole messages, headers, or each change of any file: they say `info` at the most, and
that only where they are named."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Levels:
    """What is logged.

    Args:
        general: Of our own packages; of libraries it is `warning` at least, unless it is `debug`.
        named: Other levels, by logger or beginning of an event.
    """

    general: str
    named: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join((self.general, *(f"{name}={level}" for name, level in sorted(self.named.items()))))


def parse_levels(text: str, otherwise: str) -> Levels:
    """What a level file says.

    Args:
        text: Its content.
        otherwise: The general level, where it names none.

    Raises:
        ValueError: It is no such file; the message names line and reason.
    """
    general, named = otherwise, dict[str, str]()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].strip()
        if not words:
            continue
        name, equals, level = (part.strip() for part in words.rpartition("="))
        if level.lower() not in LEVELS or (equals and not name):
            raise ValueError(f"line {number}: {words[:60]!r} is neither a level nor <name>=<level>, with {_known()}")
        if equals:
            named[name] = level.lower()
        else:
            general = level.lower()
    return Levels(general, named)


def _known() -> str:
    return " | ".join(LEVELS)


class _Named(logging.Filter):
    """Decides where levels are named: the longest name that fits an event, else its logger, else the general level."""

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        self._levels = levels

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written; what is said of the levels themselves always is."""
        if record.name == logger.name:
            return True
        own = record.name.startswith(OWN)
        event = record.msg if own and isinstance(record.msg, str) else ""
        fitting = [name for name in self._levels.named if _begins(event, name) or _begins(record.name, name)]
        if fitting:
            best = max(fitting, key=lambda name: (_begins(event, name), len(name)))
            return record.levelno >= LEVELS[self._levels.named[best]]
        return record.levelno >= _general(self._levels.general, own=own)


def _begins(name: str, beginning: str) -> bool:
    return name == beginning or name.startswith(f"{beginning}.")


def _general(level: str, *, own: bool) -> int:
    return LEVELS[level] if own or level == "debug" else max(logging.WARNING, LEVELS[level])


class LevelFile:
    """Puts levels in force: those set, and those of a file whenever it changes.

    Args:
        handler: What all lines go through.
        setting: The level that is set.
        path: The file, None for never any.
    """

    def __init__(self, handler: logging.Handler, setting: str, path: Path | None) -> None:
        self._handler = handler
        self._setting = setting
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._stop = threading.Event()
        self._touched: list[str] = []
        self.levels = Levels(setting)
        self._put_in_force(self.levels)
        self.look()

    def watch(self) -> None:
        """Look again every half second, in a thread: nothing that holds up the process holds this up."""
        if self._path is not None:
            threading.Thread(target=self._watch, name="log-level", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()

    def look(self) -> None:
        """Read the file if it is another than at the last look."""
        if self._path is None:
            return
        try:
            seen, text = self._read(self._path)
            if seen == self._seen:
                return
            self._seen = seen
            self._take(parse_levels(text, self._setting))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._say(logging.WARNING, "log.level_refused", reason=reason, stays=str(self.levels))

    def _read(self, path: Path) -> tuple[tuple[int, int, int] | None, str]:
        try:
            stat = path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return seen, ""
            self._seen = seen  # a bad one is said once
            if stat.st_size > LARGEST_BYTES:
                raise ValueError(f"it has {stat.st_size} bytes, more than {LARGEST_BYTES}")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None, ""
        self._seen = None
        return seen, text

    def _take(self, levels: Levels) -> None:
        before, self.levels = self.levels, levels
        self._put_in_force(levels)
        self._say(logging.INFO, "log.level", now=str(levels), before=str(before))

    def _put_in_force(self, levels: Levels) -> None:
        for name in self._touched:
            logging.getLogger(name).setLevel(logging.NOTSET)
        named = {name: LEVELS[level] for name, level in levels.named.items()}
        logging.getLogger().setLevel(_general(levels.general, own=False))
        for name in OWN:  # an event that is named lower has to get as far as the filter
            logging.getLogger(name).setLevel(min((LEVELS[levels.general], *named.values())))
        quiet = max(logging.WARNING, LEVELS[levels.general])
        for name, level in {**dict.fromkeys(_WITH_CONTENTS, quiet), **named}.items():
            if not name.startswith(OWN):
                logging.getLogger(name).setLevel(max(level, logging.INFO) if name.startswith(_WITH_CONTENTS) else level)
        self._touched = [name for name in named if not name.startswith(OWN)]
        self._handler.filters[:] = [_Named(levels)] if named else []

    def _say(self, level: int, event: str, **fields: object) -> None:
        """Log past the loggers' levels: whoever wrote the file waits for it."""
        record = logger.makeRecord(logger.name, level, __file__, 0, event, (), None, extra=fields)
        self._handler.handle(record)

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self.look()
