"""Logs of every process of ours: JSON lines on standard output, one set-up for services and control plane.

`logger.info("rollout.paused", extra={"canary": …})` becomes one line with who wrote it, and with the trace it belongs
to where there is one. What goes in is redacted (`redaction`), what comes out is bounded (`lines`), and a standard
output that takes nothing holds up nobody (`output`). How much is logged may change at any time (`levels`).
"""

import logging
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from observability.telemetry.levels import LevelFile
from observability.telemetry.lines import JsonLines
from observability.telemetry.output import LineHandler, Output

__all__ = ["configure_logging", "say"]

logger: Final = logging.getLogger(__name__)
_in_force: list[LevelFile] = []


def configure_logging(level: str, constant: Mapping[str, str], level_file: Path | None = None) -> None:
    """Send every log record of the process to standard output as JSON, and what else would go to standard error:
    warnings, and exceptions nobody has caught.

    Args:
        level: `debug`, `info`, `warning` or `error`; libraries stay at `warning` unless it is `debug`.
        constant: Fields that every line carries.
        level_file: Changes the level while the process runs; see `levels`.
    """
    lines = JsonLines(constant)
    # Nothing of this stands in a line, and to ask for it takes as long as to write one.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for earlier in root.handlers[:]:
        root.removeHandler(earlier)
        earlier.close()
    if sys.stdout is None:  # closed by whoever started us, and its number may be somebody else's by now
        root.addHandler(logging.NullHandler())
        return
    sys.stdout.flush()
    handler = LineHandler(Output(sys.stdout.fileno(), lambda lost: lines.format(_lost(lost))), lines)
    root.addHandler(handler)
    for watched in _in_force:
        watched.stop()
    _in_force[:] = [LevelFile(handler, level, level_file)]
    _in_force[0].watch()
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def say(whose: logging.Logger, level: int, event: str, fields: Mapping[str, object]) -> None:
    """Log what is logged for every call, as `whose.log(level, event, extra=fields)` does.

    Where all lines go to our own handler and no level is named, the line is written without a record of it, which would
    cost as much as the line.

    Args:
        whose: Who says so; it is enabled for the level.
        level: How much it matters.
        event: What happened.
        fields: What is said of it.
    """
    handlers = logging.root.handlers
    only = handlers[0] if len(handlers) == 1 else None
    if not isinstance(only, LineHandler) or not only.say(whose.name, logging.getLevelName(level), event, fields):
        whose.log(level, event, extra=dict(fields))


def _lost(lines: int) -> logging.LogRecord:
    return logger.makeRecord(logger.name, logging.WARNING, __file__, 0, "log.lost", (), None, extra={"lines": lines})


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("broken", exc_info=(kind, error, trace))


def _uncaught_in_thread(about: threading.ExceptHookArgs) -> None:
    if about.exc_value is not None and about.exc_type is not SystemExit:
        named = {"in_thread": about.thread.name if about.thread else ""}
        logger.error("thread.broken", exc_info=(about.exc_type, about.exc_value, about.exc_traceback), extra=named)
