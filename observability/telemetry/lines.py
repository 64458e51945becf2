"""One log record as one line of JSON (docs/contracts.md, "Log lines")."""

import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Final, TypeVar

from opentelemetry import trace

from observability.telemetry.exceptions import told
from observability.telemetry.redaction import redacted, shown

__all__ = ["LONGEST_LINE", "OWN", "JsonLines"]

OWN: Final = ("services", "control_plane", "observability")
"""Packages whose messages are event names; those of others are text, and their lines say whose they are (`logger`)."""
LONGEST_LINE: Final = 16 * 1024
"""Bytes, the line's end not counted."""
_BUILT_IN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TAKEN: Final = frozenset({"ts", "level", "event", "trace_id", "span_id", "logger", "cut", "exception"})
_PARTS: Final = (4096, 1024, 256, 64)
"""To how many characters the texts of a line that is too long are cut, until it is not."""
_SHORT: Final = 64
_REMEMBERED: Final = 4096
# Nothing in a line can hold itself: what was given is copied, and cut at a depth.
_encode: Final = json.JSONEncoder(allow_nan=False, check_circular=False).encode
Fields = Mapping[str, object]
_Key = TypeVar("_Key")


class JsonLines(logging.Formatter):
    """One JSON object a record, without secrets, of bounded length; never raises.

    Most of a line was in the one before: its beginning (level, event, who writes) and the names and short texts of its
    fields are remembered as JSON, the texts only where redaction found nothing in them.

    Args:
        constant: Fields that every line carries: service, version, instance. A field of a record that has the name of
            one is called `about_<name>`, so that nobody takes what a line is about for who wrote it.
    """

    def __init__(self, constant: Mapping[str, str]) -> None:
        super().__init__()
        self._constant: Fields = dict(constant)
        self._taken = _TAKEN | constant.keys()
        self._heads: dict[tuple[str, str, str], str] = {}
        self._pairs: dict[tuple[str, str], str] = {}
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        try:
            fields = {name: value for name, value in record.__dict__.items() if name not in _BUILT_IN}
            error = record.exc_info[1] if record.exc_info else None
            return self.line(record.created, record.levelname, record.getMessage(), record.name, fields, error)
        except Exception as error:  # what somebody gave to be logged is no reason for a call to fail
            return _encode(self._unprintable(record, error))

    def line(
        self,
        created_s: float,
        level: str,
        message: str,
        logger: str,
        fields: Fields,
        error: BaseException | None = None,
    ) -> str:
        """A line.

        Args:
            created_s: When, since the epoch.
            level: Its level's name.
            message: An event, or text.
            logger: Who says so.
            fields: What else is said.
            error: What was caught.

        Raises:
            Exception: What a field raises when it is asked what it is.
        """
        parts = [f'{{"ts": "{self._time(created_s)}"', self._head(level, message, logger)]
        span = trace.get_current_span()
        if span is not trace.INVALID_SPAN:
            context = span.get_span_context()
            if context.is_valid:
                parts.append(f'"trace_id": "{context.trace_id:032x}", "span_id": "{context.span_id:016x}"')
        for name, value in fields.items():
            if name not in self._taken:
                known = self._pairs.get((name, value)) if type(value) is str else None
                parts.append(known or self._pair(name, value))
            elif value != self._own(level, message, logger).get(name):
                parts.append(self._pair(f"about_{name}", value))
        if error is not None:
            parts.append(f'"exception": {_encode(told(error))}')
        text = ", ".join(parts) + "}"
        return text if len(text) <= LONGEST_LINE else _shortened(json.loads(text))

    def _head(self, level: str, message: str, logger: str) -> str:
        """Level, event and who writes, as a part of an object."""
        key = (level, message, logger)
        known = self._heads.get(key)
        if known is None:
            own = self._own(level, message, logger)
            known = _encode(own)[1:-1]
            if own["event"] is message and len(message) <= _SHORT:
                _remember(self._heads, key, known)
        return known

    def _own(self, level: str, message: str, logger: str) -> dict[str, object]:
        whose = {} if logger.startswith(OWN) else {"logger": logger}
        return {"level": level.lower(), "event": redacted(message), **self._constant, **whose}

    def _pair(self, name: str, value: object) -> str:
        """A field, as a part of an object."""
        if (type(value) is float or type(value) is int) and name.isascii() and name.isidentifier():
            return f'"{name}": {value!r}' if -math.inf < value < math.inf else f'"{name}": "{value!r}"'
        seen = shown(name, value)
        try:
            made = f"{_encode(str(name))}: {_encode(seen)}"
        except ValueError:  # infinite, or no number
            made = f"{_encode(str(name))}: {_encode(_finite(seen))}"
        if type(value) is str and seen is value and len(name) + len(value) <= 2 * _SHORT:
            _remember(self._pairs, (name, value), made)
        return made

    def _time(self, created_s: float) -> str:
        """When, to the millisecond; what lines of one second share is made once."""
        second, millisecond = divmod(int(created_s * 1000), 1000)
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{millisecond:03d}+00:00"

    def _unprintable(self, record: logging.LogRecord, error: Exception) -> dict[str, object]:
        where = f"{record.pathname}:{record.lineno}"
        about = {"ts": self._time(record.created), "level": record.levelname.lower(), "event": "log.unprintable"}
        return {**about, **self._constant, "where": where, "problem": type(error).__name__}


def _remember(known: dict[_Key, str], key: _Key, text: str) -> None:
    """Keep a text; what is kept is forgotten when it is too much, as what comes often is soon back."""
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = text


def _shortened(line: Mapping[str, object]) -> str:
    """The line with its long texts cut, the latter halves of exceptions first; `cut` names the fields."""
    for longest in _PARTS:
        shorter = {name: _cut(value, longest) for name, value in line.items()}
        shorter["cut"] = [name for name, value in line.items() if shorter[name] is not value][:20]
        text = _encode(shorter)
        if len(text) <= LONGEST_LINE:
            return text
    few = dict(list(shorter.items())[:20])
    return _encode({**few, "cut": f"all but the first 20 of {len(line)} fields"})


def _cut(value: object, longest: int) -> object:
    """A value whose text is no longer than this; of what is cut the beginning and the end stay."""
    if isinstance(value, int | float) or value is None:
        return value
    text = value if isinstance(value, str) else _encode(_finite(value))
    if len(_encode(text)) <= longest + 2:
        return value
    half = longest // 12  # a character may take six bytes, and twelve beyond the first plane
    if text.isascii():
        half = longest // 4
    return f"{text[:half]} …({len(text) - 2 * half} characters)… {text[-half:]}"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
