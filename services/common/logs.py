"""JSON logs: one object per line on standard output, an event name plus fields.

`logger.info("call", extra={"tool": …})` becomes `{"ts": …, "level": "info", "event": "call", "tool": …}` with the
service, version and instance on every line.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

__all__ = ["JsonFormatter", "configure_logging"]

_BUILT_IN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per record.

    Args:
        constant: Fields that every line carries.
    """

    def __init__(self, constant: Mapping[str, str]) -> None:
        super().__init__()
        self._constant = dict(constant)

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **self._constant,
        }
        if not record.name.startswith("services."):
            line["logger"] = record.name  # a library's: its messages are text, not event names
        line.update({key: value for key, value in record.__dict__.items() if key not in _BUILT_IN})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(level: str, constant: Mapping[str, str]) -> None:
    """Send every log record of the process to standard output as JSON.

    Args:
        level: `debug`, `info`, `warning` or `error`; libraries stay at `warning` unless it is `debug`.
        constant: Fields that every line carries.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(constant))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.getLogger("services").setLevel(level.upper())
    # Watching files logs every change, also those that are filtered out.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
